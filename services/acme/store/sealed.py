"""Which columns of the acme service hold sealed values."""

from typing import Final

from contracts.subjects import Service
from shared.sealed_columns import SealedColumn

ACCOUNT_KEY: Final = SealedColumn(Service.ACME, "account", "sealed_key", "id")
CERTIFICATE_KEY: Final = SealedColumn(Service.ACME, "certificate", "sealed_key", "id")
CERTIFICATE_CREDENTIALS: Final = SealedColumn(
    Service.ACME, "certificate", "sealed_credentials", "id"
)
ORDER_KEY: Final = SealedColumn(Service.ACME, "acme_order", "sealed_key", "id", "uuid")
ORDER_CREDENTIALS: Final = SealedColumn(
    Service.ACME, "acme_order", "sealed_credentials", "id", "uuid"
)
RECORD_CREDENTIALS: Final = SealedColumn(Service.ACME, "dns_record", "sealed_credentials", "id")
SEALED: Final = (
    ACCOUNT_KEY,
    CERTIFICATE_KEY,
    CERTIFICATE_CREDENTIALS,
    ORDER_KEY,
    ORDER_CREDENTIALS,
    RECORD_CREDENTIALS,
)
