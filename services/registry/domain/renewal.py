"""What becomes of an agent's renewal, decided from what is known under the agent's lock.

The newest certificate takes the place of the one before with its first use. Until then both are
accepted, so that an agent whose reply was lost goes on with the old one:

- the same key gets the same certificate again, even after the old one has ended;
- another key gets another certificate, and the unused one is revoked: one at a time. It has to be a
  moment old for that, so that of two renewals at once the last one to be written down by the agent
  is the one that lives.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal

OVERLAP: Final = timedelta(hours=24)
"""How long a superseded certificate is accepted while the new one is not used (the rulings')."""
SETTLED_AFTER: Final = timedelta(seconds=2)
"""By then whoever asked for a certificate has got it, and has written it down."""


class Step(Enum):
    """What a renewal does next."""

    SIGN = auto()
    REPEAT = auto()
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class Presented:
    """The certificate that a renewal is asked with.

    `accepted`: it is the newest, or superseded and not ended. The successor is the newest
    certificate, where that took the place of this one.
    """

    accepted: bool
    successor_public_key_sha256: str | None
    successor_age: timedelta | None
    claim_pending: bool


def next_step(presented: Presented, public_key_sha256: str, agent: Principal) -> Step:
    """Return what is to be done. Raises `CREDENTIAL_REFUSED`."""
    is_repeat = presented.successor_public_key_sha256 == public_key_sha256
    if not presented.accepted and not is_repeat:
        raise CertwireError(ErrorCode.CREDENTIAL_REFUSED, actor=agent)
    if presented.accepted and presented.claim_pending:
        return Step.WAIT
    if is_repeat:
        return Step.REPEAT
    if presented.successor_age is not None and presented.successor_age < SETTLED_AFTER:
        return Step.WAIT
    return Step.SIGN
