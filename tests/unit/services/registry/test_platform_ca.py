"""The platform's CA certificates: asked for seldom, remembered while the issuer is away."""

from typing import Any

from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import GetPlatformCa, PlatformCa
from contracts.messages import Command
from services.registry.platform_ca import PlatformCas
from tests.support.authority import Authority
from tests.support.outcomes import refused
from tests.support.running import call


class AnIssuer:
    """Says which CAs there are, or is away."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.away = False
        self.asked = 0

    async def request(self, command: Command[Any]) -> PlatformCa:
        assert isinstance(command, GetPlatformCa)
        self.asked += 1
        if self.away:
            raise CertwireError(ErrorCode.UNAVAILABLE)
        return PlatformCa(ca_pem=self.authority.ca_pem)


async def test_the_end_of_the_issuing_ca_is_asked_for_once_a_minute() -> None:
    issuer = AnIssuer()
    cas = PlatformCas(issuer.request)
    for _ in range(3):
        ends = await cas.issuing_ends(call())
        assert ends == issuer.authority.issuing.not_valid_after_utc
    assert issuer.asked == 1
    issuer.authority = Authority()
    cas._asked_at -= 61
    assert await cas.issuing_ends(call()) == issuer.authority.issuing.not_valid_after_utc


async def test_what_the_issuer_said_last_counts_while_it_is_away() -> None:
    issuer = AnIssuer()
    cas = PlatformCas(issuer.request)
    issuer.away = True
    with refused(ErrorCode.UNAVAILABLE):
        await cas.issuing_ends(call())
    issuer.away = False
    ends = await cas.issuing_ends(call())
    issuer.away, cas._asked_at = True, cas._asked_at - 61
    assert await cas.issuing_ends(call()) == ends
    with refused(ErrorCode.UNAVAILABLE):  # what goes with a new certificate is never old
        await cas.pem(call())
