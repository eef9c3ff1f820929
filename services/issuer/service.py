"""What the issuer's handlers act on."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.issuer.authorities import Authorities
from services.issuer.crl import Crls
from services.issuer.key_backends import KeyBackends
from services.issuer.key_pool import Keys
from services.issuer.settings import IssuerSettings
from services.issuer.store.cas import Visit, Visited
from services.issuer.store.signed import Issuance
from shared.clock import utc_now
from shared.group_commit import GroupCommit
from shared.runtime import Runtime

if TYPE_CHECKING:
    from services.issuer.ocsp import Responders  # it signs, and what signs acts on this


@dataclass(frozen=True)
class Issuer:
    """The service's dependencies."""

    runtime: Runtime
    settings: IssuerSettings
    authorities: Authorities
    issuance: GroupCommit[Issuance, datetime | None]
    visits: GroupCommit[Visit, list[Visited]]
    crls: Crls
    responders: "Responders"
    keys: Keys
    key_backends: KeyBackends

    async def warnings(self) -> list[str]:
        """Return what `certwire status` shows."""
        return self.authorities.ending(utc_now()) + await self.crls.warnings()
