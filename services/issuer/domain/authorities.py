"""What a CA of users' own may be."""

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import MOST_PATH_LENGTH, CaState, KeyType
from services.issuer.domain import distinguished_names
from services.issuer.domain.profiles import path_length_below


def path_length_of(asked: int | None, above: int | None) -> int | None:
    """Return the path length of a CA below one of path length `above` (RFC 5280 section 4.2.1.9).

    None is no limit. Raises `AGAINST_POLICY` where there is no room for it.
    """
    most = path_length_below(above)
    if most is None or asked is None:
        return most if asked is None else asked
    if asked > most:
        raise _refused(f"The path length is at most {most} below this CA")
    return asked


def check_subject(subject: x509.Name, chain: Iterable[x509.Name]) -> None:
    """Raise `AGAINST_POLICY` for a subject that a CA above has.

    A certificate of it would be self-issued, and not counted as a step (RFC 5280 section 6.1).
    """
    if any(distinguished_names.same(subject, name) for name in chain):
        raise _refused("A CA above has the same subject")


def check_depth(chain: int) -> None:
    """Raise `AGAINST_POLICY` for a CA that would have too many above it."""
    if chain > MOST_PATH_LENGTH:
        raise _refused(f"A CA has at most {MOST_PATH_LENGTH} above it")


def check_in_use(what: str, state: str, not_after: datetime, now: datetime) -> None:
    """Raise `CONFLICT` for a CA that signs nothing any more."""
    if state != CaState.ACTIVE:
        raise CertwireError(ErrorCode.CONFLICT, f"{what} is {state}")
    if not_after <= now:
        raise CertwireError(ErrorCode.CONFLICT, f"{what} has expired")


def key_facts(key: object) -> tuple[KeyType, int]:
    """Return what a key is, and its size as `KeyType` has it."""
    if isinstance(key, rsa.RSAPublicKey):
        return KeyType.RSA, key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyType.EC, key.curve.key_size
    return KeyType.ED25519, 256


def _refused(reason: str) -> CertwireError:
    return CertwireError(ErrorCode.AGAINST_POLICY, reason)
