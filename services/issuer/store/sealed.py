"""Which columns of the issuer hold sealed values."""

from typing import Final

from contracts.subjects import Service
from shared.sealed_columns import SealedColumn

CA_KEY: Final = SealedColumn(Service.ISSUER, "ca", "sealed_key", "id")
CERTIFICATE_KEY: Final = SealedColumn(
    Service.ISSUER, "certificate_key", "sealed_key", "fingerprint", "text"
)
POOL_KEY: Final = SealedColumn(Service.ISSUER, "key_pool", "sealed_key", "id")
RESPONDER_KEY: Final = SealedColumn(Service.ISSUER, "ocsp_responder", "sealed_key", "ca_id")
SEALED: Final = (CA_KEY, CERTIFICATE_KEY, POOL_KEY, RESPONDER_KEY)
