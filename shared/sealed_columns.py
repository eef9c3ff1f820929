"""Columns that hold sealed values, declared once a service."""

from dataclasses import dataclass

from contracts.subjects import Service


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values; `key` is the column that tells its rows apart."""

    service: Service
    table: str
    column: str
    key: str

    def row(self, key: object) -> str:
        """Return what the value in a row is bound to, such as `issuer.ca.sealed_key:3`."""
        return f"{self.service}.{self.table}.{self.column}:{key}"
