"""Which columns of the instance service hold sealed values."""

from typing import Final

from contracts.subjects import Service
from shared.sealed_columns import SealedColumn

SECRETS: Final = SealedColumn(Service.INSTANCE, "instance", "secrets", "id", "uuid")
SEALED: Final = (SECRETS,)
