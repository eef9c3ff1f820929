"""Which columns of the registry hold sealed values."""

from typing import Final

from contracts.subjects import Service
from shared.sealed_columns import SealedColumn

SEALED: Final = tuple(
    SealedColumn(Service.REGISTRY, table, column, "fingerprint", "text")
    for table in ("admin_certificate", "agent_certificate")
    for column in ("pkcs12", "legacy_pkcs12")
)
