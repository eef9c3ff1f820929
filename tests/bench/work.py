"""What is measured, and beside which of OpenBao's configurations."""

from dataclasses import dataclass
from enum import StrEnum


class Work(StrEnum):
    """`renew`: each instance renews once, over a connection of its own, with its certificate.

    All others go over connections that are kept, one request after the other:
    `sign-csr`: a user has CSRs signed, with a token.
    `revoke`: a user revokes certificates that were made beforehand, with a token.
    `ocsp`: anybody asks about certificates, good and revoked, without a nonce, again and again.
    `ocsp-first`: the same, about certificates that nobody has asked about before.
    `crl`: anybody fetches a CRL of 20 kB.
    """

    RENEW = "renew"
    SIGN_CSR = "sign-csr"
    REVOKE = "revoke"
    OCSP = "ocsp"
    OCSP_FIRST = "ocsp-first"
    CRL = "crl"

    @property
    def unit(self) -> str:
        """What there are so many of in a second."""
        return UNITS[self]

    @property
    def requests(self) -> int:
        """How many a segment, where nobody says another number."""
        return COUNTS[self]

    @property
    def keeps_connections(self) -> bool:
        return self is not Work.RENEW


UNITS = {
    Work.RENEW: "certificate",
    Work.SIGN_CSR: "certificate",
    Work.REVOKE: "revocation",
    Work.OCSP: "response",
    Work.OCSP_FIRST: "response",
    Work.CRL: "CRL",
}
COUNTS = {
    Work.RENEW: 300,
    Work.SIGN_CSR: 300,
    Work.REVOKE: 200,
    Work.OCSP: 1500,
    Work.OCSP_FIRST: 300,
    Work.CRL: 1500,
}


class Storage(StrEnum):
    """Where OpenBao keeps its data."""

    RAFT = "raft"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Variant:
    """How one OpenBao is configured."""

    storage: Storage
    crl_in_background: bool = False
    name: str = ""


def variants(work: Work, storages: list[Storage] | None) -> list[Variant]:
    """The servers to measure beside: both storages where certificates are made, else raft."""
    issuing = work in {Work.RENEW, Work.SIGN_CSR}
    found = []
    for storage in storages or (list(Storage) if issuing else [Storage.RAFT]):
        name = f"openbao {storage}"
        if work is Work.REVOKE:
            found.append(Variant(storage, crl_in_background=False, name=f"{name}, CRL at once"))
            found.append(Variant(storage, crl_in_background=True, name=f"{name}, CRL later"))
        else:
            found.append(Variant(storage, crl_in_background=not issuing, name=name))
    return found
