"""Tries everything that an order needs, without one: no limit of the CA's is used up.

- `ca`: the CA answers, takes our account, offers the profile, and does not limit us.
- `dns`: the domain has an address that a CA can reach, and that answers; for dns-01, the place of
  the records is known.
- `http`, for http-01: what answers there is this platform. A token is put where the gateway finds
  the answers to challenges, and asked for as a CA asks.
- `caa`: the domain lets this CA issue.
- `provider`, for dns-01: the credentials may write records.

The domain is chosen by whoever has an API key: no address is asked that is further in than the CA
is (`domain/addresses.py`), and nothing that comes back is told.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from contracts.acme import DnsAccess, Issuance, PreflightCheck
from services.acme.client import AcmeProblem, CaMisbehaves, CaUnavailable, Directory
from services.acme.dns import DnsProviderError, Probe, check_access
from services.acme.dns.propagation import CHALLENGE_LABEL, addresses, caa_permits, challenge_name
from services.acme.domain.addresses import Reach, may_be_asked, reach_of
from services.acme.domain.orders import WILDCARD, names_of
from services.acme.http_probe import PROBE_SECONDS, Answer, probe, probing_client
from services.acme.service import Acme
from services.acme.store import accounts, challenges, dns_records
from services.acme.store.sealed import RECORD_CREDENTIALS
from shared.identifiers import uuid7

CHECK_SECONDS: Final = 40.0
"""For one check, so that the others are told of whatever one of them waits for."""
MOST_ADDRESSES: Final = 8
"""Of a domain that are asked, all at once."""
TOKEN_BYTES: Final = 32
"""RFC 8555 section 8.1 asks for 128 bits."""
ORDER: Final = ("ca", "dns", "http", "caa", "provider")
TOO_LONG: Final = f"This took over {CHECK_SECONDS:g} s"

Reasons: TypeAlias = dict[str, str | None]
"""What is in the way, by the check; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How we stand with a CA: it is `paused` for seconds, with a reason, or knows the account."""

    paused: tuple[int, str] | None
    is_account_known: bool


async def check(acme: Acme, domain: str, issuance: Issuance) -> tuple[PreflightCheck, ...]:
    """Return all checks, which are made at the same time. Raises nothing for what they find."""
    directory = acme.settings.directory(staging=issuance.staging)
    standing = await _standing(acme, directory, issuance.email)
    of_domain = (
        _of_records(acme, domain, issuance.dns)
        if issuance.dns is not None
        else _of_arrival(acme, domain, directory)
    )
    of_ca, found = await _together(_of_ca(acme, directory, domain, issuance, standing), of_domain)
    reasons = {**of_ca, **found}
    return tuple(
        PreflightCheck(name=name, ok=reasons[name] is None, reason=reasons[name])
        for name in ORDER
        if name in reasons
    )


async def _together(*checks: Coroutine[Any, Any, Reasons]) -> list[Reasons]:
    """Wait for checks that are made at the same time; where one raises, the others are ended."""
    tasks = [asyncio.create_task(each) for each in checks]
    try:
        return await asyncio.gather(*tasks)
    except Exception:
        for task in tasks:
            task.cancel()
        raise
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)  # what they have put is taken away


async def _in_time(reason: Awaitable[str | None]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await reason
    except TimeoutError:
        return TOO_LONG


# --- The CA ---------------------------------------------------------------------------------------


async def _of_ca(
    acme: Acme, directory: str, domain: str, issuance: Issuance, standing: Standing
) -> Reasons:
    """Check `ca`, and then `caa`: the CA says by which names the records may know it."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            offered = await acme.client(directory).directory()
    except TimeoutError:
        unavailable = TOO_LONG
    except (CaUnavailable, CaMisbehaves) as problem:
        unavailable = f"The CA is unavailable: {problem.reason}"
    except AcmeProblem as problem:
        unavailable = f"The CA refused: {problem}"
    else:
        permitted = await _in_time(_permitted(acme, domain, issuance, offered.caa_identities))
        return {"ca": _refusal(acme, offered, standing), "caa": permitted}
    return {"ca": unavailable, "caa": "Not tried: the CA's names are not known"}


def _refusal(acme: Acme, offered: Directory, standing: Standing) -> str | None:
    """Return why the CA would take no order of ours."""
    if standing.paused is not None:
        seconds, why = standing.paused
        return f"The CA limits us for another {seconds} s: {why}"
    if offered.external_account_required and not standing.is_account_known:
        try:
            is_bound = acme.eab is not None
        except (OSError, ValueError):
            return "The key of the external account cannot be read"
        if not is_bound:
            return "The CA needs an external account, and none is in the settings"
    profile = acme.settings.acme_profile
    if profile is not None and profile not in offered.profiles:
        return f"The CA has no profile {profile}; it offers {', '.join(offered.profiles) or 'none'}"
    return None


async def _standing(acme: Acme, directory: str, email: str) -> Standing:
    async with acme.runtime.database.connection() as connection:
        account = await accounts.find(connection, directory, email)
        paused = await accounts.paused(connection, directory)
    return Standing(paused, is_account_known=account is not None and account.url is not None)


async def _permitted(
    acme: Acme, domain: str, issuance: Issuance, identities: Sequence[str]
) -> str | None:
    """Return which CAA records do not let the CA issue."""
    for name in names_of(domain):
        refused = await caa_permits(
            name,
            identities,
            wildcard=name.startswith(WILDCARD),
            resolver=acme.settings.acme_dns_resolver,
            method=issuance.challenge_type,
        )
        if refused is not None:
            return refused if identities else f"{refused}; this CA does not say what it is called"
    return None


# --- http-01 --------------------------------------------------------------------------------------


async def _of_arrival(acme: Acme, domain: str, directory: str) -> Reasons:
    """Check `dns` and `http`."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await _allowed_addresses(acme, domain, directory)
            reasons = (
                {"dns": found} if isinstance(found, str) else await _asked(acme, domain, found)
            )
    except TimeoutError:
        reasons = {"dns": TOO_LONG}
    return {"http": "Not tried: no address of the domain answers", **reasons}


async def _allowed_addresses(acme: Acme, domain: str, directory: str) -> list[str] | str:
    """Return the addresses of a domain that may be asked, or why there are none."""
    try:
        found = await addresses(domain, acme.settings.acme_dns_resolver)
    except DnsProviderError as problem:
        return problem.reason
    if not found:
        return f"{domain} has no address"
    of_ca = await _reach_of_host(urlsplit(directory).hostname or "")
    allowed = [address for address in found if may_be_asked(address, of_ca)]
    if not allowed:
        listed = ", ".join(found[:MOST_ADDRESSES])
        return f"{domain} resolves to {listed}, where the CA cannot look: not a public address"
    return allowed[:MOST_ADDRESSES]


async def _reach_of_host(host: str) -> Reach:
    """Return how far in a host of the settings is; what has no address is public."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None)
        return max(reach_of(str(address[0]).partition("%")[0]) for *_, address in found)
    except (OSError, ValueError):
        return Reach.PUBLIC


async def _asked(acme: Acme, domain: str, found: Sequence[str]) -> Reasons:
    """Return what is wrong with the domain's addresses, or with what answers there."""
    port = acme.settings.acme_http01_port
    async with _challenge(acme) as (token, expected), probing_client() as http:
        answers = await asyncio.gather(
            *(probe(http, address, port, domain, token, expected) for address in found)
        )
    by_address = dict(zip(found, answers, strict=True))
    if not any(answer.connected for answer in answers):
        return {"dns": f"{domain} resolves to {_told(by_address, port)}"}
    wrong = [
        f"at {address} {answer.problem}"
        for address, answer in by_address.items()
        if answer.connected and answer.problem is not None
    ]
    said = f"Challenges for {domain} do not arrive here: {'; '.join(wrong)}" if wrong else None
    return {"dns": None, "http": said}


def _told(by_address: dict[str, Answer], port: int) -> str:
    """Return that no address answers, and why."""
    return "; ".join(
        f"{address}, which did not answer on port {port}: {answer.problem}"
        for address, answer in by_address.items()
    )


@asynccontextmanager
async def _challenge(acme: Acme) -> AsyncIterator[tuple[str, str]]:
    """Let the gateway answer a challenge of our own, with its token and what is to come back."""
    token, expected = secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES)
    async with acme.runtime.database.statement() as connection:
        await challenges.insert(connection, token, expected, None, 2 * PROBE_SECONDS)
    try:
        yield token, expected
    finally:
        async with acme.runtime.database.statement() as connection:
            await challenges.forget(connection, token)


# --- dns-01 ---------------------------------------------------------------------------------------


async def _of_records(acme: Acme, domain: str, access: DnsAccess) -> Reasons:
    """Check `dns` and `provider`: the place of the records, and whether they may be written there.

    The probe is written below the domain, or below the name that its challenges are delegated to.
    """
    resolver = acme.settings.acme_dns_resolver
    plain = domain.removeprefix(WILDCARD)
    try:
        place = await challenge_name(domain, resolver)
    except DnsProviderError as problem:
        return {"dns": problem.reason, "provider": "Not tried: the place of records is not known"}
    below = plain if place == f"{CHALLENGE_LABEL}.{plain}" else place
    return {"dns": None, "provider": await _written(acme, below, access)}


async def _written(acme: Acme, below: str, access: DnsAccess) -> str | None:
    """Return why the provider lets no record be written.

    The record stands in the database while it may be at the provider: whoever is cut off, it is
    removed as those of orders are (`answers.py`).
    """
    try:
        probe = Probe.below(below)
    except DnsProviderError as problem:
        return problem.reason
    record_id = await _announced(acme, access, probe)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check_access(acme.provider(access), probe)
    except TimeoutError:
        return TOO_LONG
    except DnsProviderError as problem:
        if not problem.transient:  # else it may be there: the reply was lost, perhaps
            await _forget(acme, record_id)
        return problem.reason
    await _forget(acme, record_id)
    return None


async def _announced(acme: Acme, access: DnsAccess, probe: Probe) -> int:
    plain = json.dumps(access.credentials).encode()
    async with acme.runtime.database.transaction() as connection:
        record_id = await dns_records.new_id(connection)
        sealed = acme.sealer.seal(plain, RECORD_CREDENTIALS.row(record_id))
        await dns_records.insert(
            connection, record_id, uuid7(), access.provider, sealed, probe.name, probe.value
        )
        await dns_records.postpone(connection, record_id, 2 * CHECK_SECONDS)
    return record_id


async def _forget(acme: Acme, record_id: int) -> None:
    async with acme.runtime.database.statement() as connection:
        await dns_records.forget(connection, record_id)
