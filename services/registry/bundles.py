"""PKCS#12 bundles as they are kept: sealed, each opening in its own row only."""

from dataclasses import dataclass
from typing import Final

from contracts.issuer import SignedBundle
from contracts.subjects import Service
from shared.sealed_columns import SealedColumn
from shared.secrets import Sealer

ADMIN_TABLE: Final = "admin_certificate"
AGENT_TABLE: Final = "agent_certificate"


@dataclass(frozen=True, slots=True)
class SealedBundle:
    """The bundle of a certificate in both formats."""

    fingerprint: str
    pkcs12: bytes
    legacy_pkcs12: bytes


def seal(sealer: Sealer, table: str, bundle: SignedBundle) -> SealedBundle:
    """Return a new bundle as the table keeps it."""
    fingerprint = bundle.certificate.fingerprint
    return SealedBundle(
        fingerprint,
        sealer.seal(bundle.pkcs12, _row(table, "pkcs12", fingerprint)),
        sealer.seal(bundle.legacy_pkcs12, _row(table, "legacy_pkcs12", fingerprint)),
    )


def unseal(sealer: Sealer, table: str, bundle: SealedBundle, *, legacy: bool) -> bytes:
    """Return the file in the format asked for. Raises `UnsealError`."""
    column = "legacy_pkcs12" if legacy else "pkcs12"
    sealed = bundle.legacy_pkcs12 if legacy else bundle.pkcs12
    return sealer.open(sealed, _row(table, column, bundle.fingerprint))


def _row(table: str, column: str, fingerprint: str) -> str:
    """Return the name under which the bundle is sealed."""
    return SealedColumn(Service.REGISTRY, table, column, "fingerprint", "text").row(fingerprint)
