"""What the issuer's handlers act on."""

from dataclasses import dataclass

from services.issuer.authorities import Authorities
from services.issuer.key_pool import Keys
from services.issuer.settings import IssuerSettings
from services.issuer.store.signed import Issuance
from shared.clock import utc_now
from shared.group_commit import GroupCommit
from shared.runtime import Runtime


@dataclass(frozen=True)
class Issuer:
    """The service's dependencies."""

    runtime: Runtime
    settings: IssuerSettings
    authorities: Authorities
    issuance: GroupCommit[Issuance, bool]
    keys: Keys

    async def warnings(self) -> list[str]:
        """Return what `certwire status` shows."""
        return self.authorities.ending(utc_now())
