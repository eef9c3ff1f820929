"""Who finds which certificates, page by page, and how they are found among many."""

import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import CertificatePage, CertificateStatus, SearchCertificates
from contracts.principal import Principal, PrincipalKind, Role
from services.issuer.app import open_issuer
from services.issuer.bootstrap import create_platform_ca
from services.issuer.handlers import inventory as handlers
from services.issuer.handlers.inventory import PAGE_OCTETS
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import certificates, inventory
from shared.clock import utc_now
from shared.database import Connection, plan_for_arguments
from tests.support.inventory import (
    ROOT,
    corner_searches,
    fill,
    fill_corners,
    searches,
    superuser,
    user,
)
from tests.support.plans import plan_of, slowest
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

NOW = utc_now()
DAY = timedelta(days=1)
INSERT = """
INSERT INTO issuer.certificate (ca_id, serial_hex, fingerprint, kind, owner_service, owner_id,
    subject, subject_alternative_names, public_key_sha256, certificate, not_before, not_after,
    revoked_at, revocation_reason, common_name, organization_id, created_by_user_id)
SELECT $1, $2, $3, $4, 'issuer', '', $5, $6, '', certificate.certificate, $7, $8, $9,
    CASE WHEN $9::timestamptz IS NOT NULL THEN 'superseded' END, $5, $10, $11
FROM issuer.certificate WHERE kind = 'root_ca'
RETURNING id
"""


class Inventory:
    """An issuer with the platform's CAs, and what is written straight into its table."""

    def __init__(self, issuer: Issuer, postgres: PostgresServer, url: str) -> None:
        self.issuer = issuer
        self._postgres = postgres
        self._url = url

    async def add(
        self,
        common_name: str = "x",
        *,
        kind: str = "server",
        names: tuple[str, ...] = (),
        ca_id: int = 2,
        serial: str | None = None,
        fingerprint: str | None = None,
        ends: datetime = NOW + DAY,
        revoked: bool = False,
        organization_id: int | None = None,
        user_id: int | None = None,
    ) -> int:
        connection = await superuser(self._postgres, self._url)
        try:
            number: int = await connection.fetchval(
                INSERT,
                ca_id,
                serial or secrets.token_hex(16).lstrip("0"),
                fingerprint or secrets.token_hex(32),
                kind,
                common_name,
                list(names),
                NOW - DAY,
                ends,
                NOW if revoked else None,
                organization_id,
                user_id,
            )
        finally:
            await connection.close()
        return number

    async def page(
        self,
        actor: Principal = ROOT,
        **conditions: Any,  # noqa: ANN401 - any condition
    ) -> CertificatePage:
        command = SearchCertificates(call=call(), actor=actor, **conditions)
        return await handlers.search_certificates(command, self.issuer)

    async def ids(
        self,
        actor: Principal = ROOT,
        **conditions: Any,  # noqa: ANN401 - any condition
    ) -> list[int]:
        page = await self.page(actor, **conditions)
        return [certificate.id for certificate in page.certificates]


@pytest.fixture
async def kept(
    place: Place, postgres: PostgresServer, database_url: str
) -> AsyncIterator[Inventory]:
    settings = place.settings(IssuerSettings)
    await create_platform_ca(settings)
    issuer = await open_issuer(settings)
    yield Inventory(issuer, postgres, database_url)
    await issuer.runtime.close()


async def test_a_superuser_finds_everything_the_newest_first(kept: Inventory) -> None:
    mine = await kept.add(organization_id=3, user_id=7)
    platforms = await kept.add(kind="instance")
    page = await kept.page()
    ids = [certificate.id for certificate in page.certificates]
    assert ids == sorted(ids, reverse=True)
    assert ids[:2] == [platforms, mine]
    kinds = {certificate.certificate_type for certificate in page.certificates}
    assert kinds >= {"root_ca", "issuing_ca", "server", "instance"}
    assert page.next_cursor is None


async def test_others_find_their_organizations_and_what_they_made(kept: Inventory) -> None:
    theirs = await kept.add(organization_id=3, user_id=8)
    made = await kept.add(organization_id=4, user_id=7)
    both = await kept.add(organization_id=3, user_id=7)
    unowned = await kept.add(user_id=9)
    await kept.add(kind="instance")
    for role in (Role.USER, Role.ADMIN):
        assert await kept.ids(user(7, 3, role)) == [both, made, theirs]
    assert await kept.ids(user(7)) == [both, made]
    assert await kept.ids(user(9)) == [unowned]
    assert await kept.ids(user(10, 5)) == []
    assert await kept.ids(user(7, 3), organization_id=4) == [made]
    assert await kept.ids(user(10, 5), organization_id=3) == []


@pytest.mark.parametrize("kind", [PrincipalKind.ADMIN, PrincipalKind.AGENT, PrincipalKind.SYSTEM])
async def test_who_is_no_user_finds_nothing(kept: Inventory, kind: PrincipalKind) -> None:
    with pytest.raises(CertwireError) as refused:
        await kept.page(Principal(kind=kind, id="1", name="x", role=Role.SUPERUSER))
    assert refused.value.code is ErrorCode.FORBIDDEN


async def test_a_common_name_is_found_whole_or_by_its_beginning(kept: Inventory) -> None:
    api = await kept.add("API.example.com")
    other = await kept.add("api-v2.example.com")
    odd = await kept.add("100%_\\x")
    wild = await kept.add("*.example.com")
    assert await kept.ids(common_name="api.EXAMPLE.com") == [api]
    assert await kept.ids(common_name="Api*") == [other, api]
    assert await kept.ids(common_name="api.example.com*") == [api]
    assert await kept.ids(common_name="*.example.com") == [wild]
    assert await kept.ids(common_name="100%_\\*") == [odd]
    assert await kept.ids(common_name="1%*") == []
    assert await kept.ids(common_name="a_i*") == []
    assert await kept.ids(common_name="api") == []


async def test_an_alternative_name_is_found_with_or_without_its_kind(kept: Inventory) -> None:
    server = await kept.add(names=("DNS:api.example.com", "IP:2001:db8::1"))
    alice = await kept.add(names=("email:alice@example.com",))
    agent = await kept.add(names=("URI:spiffe://certwire.internal/agent/web",))
    number = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
    uri = f"spiffe://certwire.internal/instance/{number}"
    instance = await kept.add(f"instance:{number}", kind="instance", names=(f"URI:{uri}",))
    assert await kept.ids(san="API.example.com") == [server]
    assert await kept.ids(san="IP:2001:DB8:0::1") == [server]
    assert await kept.ids(san="DNS:alice@example.com") == []
    assert await kept.ids(san="alice@example.com") == [alice]
    assert await kept.ids(san="spiffe://certwire.internal/agent/web") == [agent]
    assert await kept.ids(san=uri) == await kept.ids(san=f"URI:{uri}") == [instance]
    assert await kept.ids(san=f"DNS:{uri}") == []
    assert await kept.ids(san="api.example") == []


async def test_a_serial_is_found_at_every_ca_and_a_fingerprint_once(kept: Inventory) -> None:
    one = await kept.add(serial="1f", ca_id=1, fingerprint="a" * 64)
    two = await kept.add(serial="1f", ca_id=2)
    assert await kept.ids(serial_hex="1f") == [two, one]
    assert await kept.ids(serial_hex="1f", issuer_id=1) == [one]
    assert await kept.ids(fingerprint="a" * 64) == [one]
    assert await kept.ids(fingerprint="a" * 64, serial_hex="2f") == []


async def test_a_certificate_has_one_status(kept: Inventory) -> None:
    valid = await kept.add()
    expired = await kept.add(ends=NOW - DAY / 2)
    revoked = await kept.add(revoked=True)
    both = await kept.add(revoked=True, ends=NOW - DAY / 2)
    for status, ids in {
        CertificateStatus.VALID: [valid],
        CertificateStatus.EXPIRED: [expired],
        CertificateStatus.REVOKED: [both, revoked],
    }.items():
        page = await kept.page(status=status, certificate_type="server")
        assert [certificate.id for certificate in page.certificates] == ids
        assert {certificate.status for certificate in page.certificates} == {status}
    assert await kept.ids(status="valid", expires_before=NOW) == []
    assert await kept.ids(status="expired", expires_after=NOW) == []


async def test_the_end_of_validity_is_a_range(kept: Inventory) -> None:
    soon, late = await kept.add(ends=NOW + DAY), await kept.add(ends=NOW + 2 * DAY)
    of_type: dict[str, Any] = {"certificate_type": "server"}
    assert await kept.ids(**of_type, expires_before=NOW + DAY) == [soon]
    assert await kept.ids(**of_type, expires_after=NOW + 2 * DAY) == [late]
    within: dict[str, Any] = {"expires_after": NOW + DAY, "expires_before": NOW + 2 * DAY}
    assert await kept.ids(**of_type, **within) == [soon, late]
    ever: dict[str, Any] = {
        "expires_after": datetime.min.replace(tzinfo=UTC),
        "expires_before": datetime.max.replace(tzinfo=UTC),
    }
    assert await kept.ids(**of_type, **ever) == [soon, late]


async def test_pages_follow_one_another_whatever_comes_meanwhile(kept: Inventory) -> None:
    ids = [await kept.add(organization_id=3, user_id=7 + n % 2) for n in range(7)][::-1]
    found: list[int] = []
    cursor = None
    while True:
        page = await kept.page(user(7, 3), limit=3, cursor=cursor)
        found += [certificate.id for certificate in page.certificates]
        await kept.add(organization_id=3)
        if (cursor := page.next_cursor) is None:
            break
    assert found == ids
    with pytest.raises(CertwireError) as refused:
        await kept.page(cursor="nonsense")
    assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_large_certificates_make_short_pages(
    kept: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await kept.add(organization_id=3) for _ in range(5)][::-1]
    monkeypatch.setattr(handlers, "PAGE_OCTETS", 1)
    first = await kept.page(organization_id=3)
    assert [certificate.id for certificate in first.certificates] == ids[:1]
    assert first.next_cursor is not None
    assert PAGE_OCTETS > 500 * 1000, "no shorter than what fits"


async def test_hostile_texts_find_nothing(kept: Inventory) -> None:
    for text in ("' OR true --", "%", "_", "\\", "%*", "é" * 255, "\ud7ff*"):
        assert await kept.ids(common_name=text) == []
        assert await kept.ids(san=text) == []
    for name in ("common_name", "san"):
        nul: dict[str, Any] = {name: "\x00"}
        with pytest.raises(CertwireError) as refused:
            await kept.ids(**nul)
        assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_every_condition_is_bounded_where_what_meets_it_is_old(
    kept: Inventory, postgres: PostgresServer, database_url: str
) -> None:
    await fill_corners(postgres, database_url, 60_000, 1, is_expired=False)
    await assert_bounded(kept, corner_searches(NOW))


async def assert_bounded(
    kept: Inventory, asked: dict[str, tuple[Principal, dict[str, Any]]]
) -> None:
    """See that each statement of a search reads no more than its sources may."""
    async with kept.issuer.runtime.database.transaction() as lent:
        for name, (actor, conditions) in asked.items():
            recorded = Recorded(lent)
            command = SearchCertificates(call=call(), actor=actor, **conditions)
            await inventory.search(cast(Connection, recorded), handlers.search_of(command, NOW))
            for query, arguments in recorded.statements:
                plan = await plan_of(lent, query, *arguments)
                assert plan.read_whole <= {"ca"}, (name, plan)
                assert plan.rows_sorted <= inventory.ROWS, (name, plan)
                assert plan.rows_read <= 3 * inventory.ROWS + 1000, (name, plan)


class Recorded:
    """A connection that remembers what was read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.execute = connection.execute
        self.statements: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, query: str, *arguments: object) -> object:
        self.statements.append((query, arguments))
        return await self._connection.fetch(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> object:
        self.statements.append((query, arguments))
        return await self._connection.fetchval(query, *arguments)


async def test_every_page_of_every_order_together_is_what_there_is(
    kept: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where pages are short, since few rows are read for each."""
    for template in ("_ALL_OF_PART", "_IN_ORDER"):
        text = getattr(inventory, template).replace(f"{inventory.ROWS}", "3")
        monkeypatch.setattr(inventory, template, text)
    monkeypatch.setattr(inventory, "ROWS", 3)
    ids = [
        await kept.add(
            f"{'a' if n % 2 else 'b'}.example.com",
            kind=("server", "client", "instance")[n % 3],
            ends=NOW + (DAY if n % 5 else -DAY / 2) + n % 4 * timedelta(minutes=1),
            revoked=n % 7 == 0,
            organization_id=3 if n % 4 else 4,
            user_id=7 + n % 2,
        )
        for n in range(24)
    ]
    ever = {"expires_after": NOW - 9 * DAY, "expires_before": NOW + 9 * DAY}
    callers: tuple[tuple[Principal, Callable[[int], object]], ...] = (
        (ROOT, lambda n: n >= 0),
        (user(7, 3), lambda n: n % 4 or n % 2 == 0),
        (user(8), lambda n: n % 2),
    )
    searched: tuple[tuple[dict[str, Any], Callable[[int], object]], ...] = (
        ({"issuer_id": 2}, lambda n: n >= 0),
        ({"status": "valid"}, lambda n: n % 5 and n % 7),
        ({"status": "expired"}, lambda n: n % 5 == 0 and n % 7),
        ({"status": "revoked"}, lambda n: n % 7 == 0),
        ({"status": "revoked", **ever}, lambda n: n % 7 == 0),
        ({"certificate_type": "instance", **ever}, lambda n: n % 3 == 2),
        ({"certificate_type": "client", "organization_id": 3}, lambda n: n % 3 == 1 and n % 4),
        ({"common_name": "a.example.com", "issuer_id": 2}, lambda n: n % 2),
        ({"common_name": "a*", "issuer_id": 2, **ever}, lambda n: n % 2),
    )
    for actor, visible in callers:
        for conditions, meets in searched:
            found: list[int] = []
            cursor = None
            for _ in range(100):
                page = await kept.page(actor, limit=2, cursor=cursor, **conditions)
                found += [each.id for each in page.certificates if each.id in ids]
                if (cursor := page.next_cursor) is None:
                    break
            expected = [ids[n] for n in range(24) if visible(n) and meets(n)]
            assert sorted(found) == expected, (actor.id, conditions)


async def test_a_cursor_is_good_for_searches_of_its_order(kept: Inventory) -> None:
    for _ in range(3):
        await kept.add()
        await kept.add(ends=NOW - DAY / 2)
    searched: tuple[dict[str, Any], ...] = ({}, {"status": "valid"}, {"status": "expired"})
    for conditions in searched:
        cursor = (await kept.page(**conditions, limit=1)).next_cursor
        for others in searched:
            if others == conditions:
                assert await kept.ids(**others, cursor=cursor)
                continue
            with pytest.raises(CertwireError) as refused:
                await kept.ids(**others, cursor=cursor)
            assert refused.value.code is ErrorCode.INVALID_REQUEST


ROWS = 200_000


async def test_many_certificates_are_searched_and_listed_by_index(
    kept: Inventory, postgres: PostgresServer, database_url: str
) -> None:
    await fill(postgres, database_url, ROWS)
    lists = {
        "all": (certificates._LIST, (0, 100)),
        "all of a CA": (certificates._LIST_OF_CA, (0, 100, 18)),
        "a member's": (certificates._LIST_VISIBLE, (0, 100, 18, 18)),
        "nobody's": (certificates._LIST_VISIBLE, (0, 100, None, 10**9)),
        "a member's of a CA": (certificates._LIST_VISIBLE_OF_CA, (0, 100, 18, 18, 18)),
    }
    await assert_bounded(kept, searches(NOW))
    async with kept.issuer.runtime.database.transaction() as lent:
        await plan_for_arguments(lent)
        for name, (query, paged) in lists.items():
            plan = await plan_of(lent, query, *paged)
            assert not plan.read_whole, (name, plan)
            assert plan.rows_sorted <= 5000, (name, plan)
            assert await slowest(lent, query, *paged) < 0.2, name
