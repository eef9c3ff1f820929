"""Sessions: refresh tokens count once, and what ends a session ends it at once."""

import asyncio

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.principal import Role
from contracts.registry import TokenPair
from contracts.users import DeleteUser, EndAllSessions, EndSession, GetUser
from shared.secrets import token_hash
from tests.contract.registry.dialogue import certificate, keyed
from tests.contract.registry.people import PASSWORD, People, Person, bearer, refreshing, said
from tests.support.running import call


async def is_in(people: People, person: Person) -> bool:
    """Return whether a session's access token still is its user's, in every way to ask."""
    refusal = await people.refusal(person, GetUser, user_id=None)
    assert refusal in {None, ErrorCode.CREDENTIAL_REFUSED}
    assert (await people.who(person.token) is None) is (refusal is not None)
    return refusal is None


async def test_a_refresh_makes_the_next_pair_of_the_same_user(people: People) -> None:
    ann = await people.person()
    following = await people.refresh(ann.pair.refresh_token)
    assert {following.access_token, following.refresh_token}.isdisjoint(
        {ann.pair.access_token, ann.pair.refresh_token}
    )
    now = await people.who(following.access_token)
    assert now is not None
    assert now.id == str(ann.id)
    assert await is_in(people, ann), "the access token before lasts its quarter of an hour"
    record = await people.last()
    assert (record["action"], record["object"]["id"]) == ("session_refresh", str(ann.id))
    [lifetimes] = await people.tables.run(
        "SELECT extract(epoch FROM access_expires_at - created_at)::int AS access,"
        " extract(epoch FROM refresh_expires_at - created_at)::int AS refresh"
        " FROM registry.session WHERE access_hash = $1",
        token_hash(following.access_token),
    )
    assert (lifetimes["access"], lifetimes["refresh"]) == (900, 86_400)


async def test_a_spent_refresh_token_ends_the_whole_family_and_no_other(people: People) -> None:
    ann = await people.person()
    elsewhere = await people.again(ann)
    second = await people.refresh(ann.pair.refresh_token)
    third = await people.refresh(second.refresh_token)
    assert await people.code(refreshing(ann.pair.refresh_token)) is ErrorCode.TOKEN_USED
    for pair in (ann.pair, second, third):
        assert await people.who(pair.access_token) is None
    assert await people.code(refreshing(third.refresh_token)) is ErrorCode.TOKEN_UNKNOWN
    assert await is_in(people, elsewhere)
    [revoked] = [r for r in await people.recorded() if r["action"] == "session_revoke"]
    assert (revoked["actor"]["kind"], revoked["detail"]["sessions"]) == ("system", 3)
    refused = [r for r in await people.recorded("refused") if r["action"] == "session_refresh"]
    assert [record["actor"]["name"] for record in refused] == [ann.user.username] * 2


@pytest.mark.parametrize("at_once", [2, 20])
async def test_of_parallel_refreshes_one_succeeds_and_the_family_ends(
    people: People, at_once: int
) -> None:
    ann = await people.person()
    answers = await asyncio.gather(
        *(people.refresh(ann.pair.refresh_token) for _ in range(at_once)), return_exceptions=True
    )
    [pair] = [answer for answer in answers if isinstance(answer, TokenPair)]
    refused = [answer for answer in answers if isinstance(answer, CertwireError)]
    assert {error.code for error in refused} == {ErrorCode.TOKEN_USED}
    assert len(refused) == at_once - 1
    assert await people.who(pair.access_token) is None
    assert await people.code(refreshing(pair.refresh_token)) is ErrorCode.TOKEN_UNKNOWN


async def test_a_repeat_under_the_same_key_is_no_theft(people: People) -> None:
    ann = await people.person()
    answers = await asyncio.gather(
        *(people.refresh(ann.pair.refresh_token, "k") for _ in range(5)), return_exceptions=True
    )
    [pair] = [answer for answer in answers if isinstance(answer, TokenPair)]
    told = {error.code for error in answers if isinstance(error, CertwireError)}
    assert told == {ErrorCode.IDEMPOTENCY_SECRET_SHOWN}
    assert await people.who(pair.access_token) is not None


async def test_what_is_no_refresh_token_is_unknown(people: People) -> None:
    ann = await people.person()
    for wrong in ("", "x", ann.pair.access_token, ann.pair.refresh_token[:-1]):
        assert await people.code(refreshing(wrong)) is ErrorCode.TOKEN_UNKNOWN
    assert await people.who(ann.pair.refresh_token) is None
    assert await is_in(people, ann)


async def test_a_refresh_token_expires(people: People) -> None:
    ann = await people.person()
    await people.tables.run("UPDATE registry.session SET refresh_expires_at = now()")
    assert await people.code(refreshing(ann.pair.refresh_token)) is ErrorCode.TOKEN_EXPIRED


async def test_a_logout_ends_the_family_and_no_other(people: People) -> None:
    ann = await people.person()
    elsewhere, somebody = await people.again(ann), await people.person()
    second = Person(ann.user, await people.refresh(ann.pair.refresh_token))
    await people.ask(second, EndSession)
    for person in (ann, second):
        assert not await is_in(people, person)
        refusal = await people.code(refreshing(person.pair.refresh_token))
        assert refusal in {ErrorCode.TOKEN_UNKNOWN, ErrorCode.TOKEN_USED}
    assert await is_in(people, elsewhere)
    assert await is_in(people, somebody)
    assert (await people.recorded())[-1]["detail"] == {"sessions": 2}


async def test_a_logout_ends_the_session_of_the_refresh_token_too(people: People) -> None:
    ann = await people.person()
    elsewhere, somebody = await people.again(ann), await people.person()
    theirs = token_hash(somebody.pair.refresh_token)
    refusal = await people.refusal(ann, EndSession, refresh_sha256=theirs)
    assert refusal is ErrorCode.FORBIDDEN
    assert await is_in(people, ann)
    await people.ask(ann, EndSession, refresh_sha256=token_hash(elsewhere.pair.refresh_token))
    assert not await is_in(people, elsewhere)
    assert await is_in(people, somebody)
    await people.ask(somebody, EndSession, refresh_sha256=token_hash("nobody's"))


async def test_a_logout_is_repeated_by_its_key_alone(people: People) -> None:
    ann = await people.person()
    credential = bearer(ann.token)
    command = EndSession(call=keyed("k", credential.sha256), credential=credential)
    assert await people.send(command) == Done()
    assert await people.send(command) == Done()
    assert await people.refusal(ann, EndSession) is ErrorCode.CREDENTIAL_REFUSED


async def test_invalidation_ends_every_session_of_the_user(people: People) -> None:
    ann = await people.person()
    sessions = [ann, *[await people.again(ann) for _ in range(3)]]
    somebody = await people.person()
    await people.ask(sessions[2], EndAllSessions)
    for session in sessions:
        assert not await is_in(people, session)
        assert await people.code(refreshing(session.pair.refresh_token)) is ErrorCode.TOKEN_UNKNOWN
    assert await is_in(people, somebody)
    assert await is_in(people, await people.again(ann))


@pytest.mark.parametrize("changes", [{"password": "another horse"}, {"is_active": False}])
async def test_a_new_password_and_deactivation_end_every_session(
    people: People, changes: dict[str, object]
) -> None:
    ann, somebody = await people.person(), await people.person()
    elsewhere = await people.again(ann)
    await people.change(people.root, ann.id, **changes)
    for session in (ann, elsewhere):
        assert not await is_in(people, session)
        assert await people.code(refreshing(session.pair.refresh_token)) is ErrorCode.TOKEN_UNKNOWN
    assert await is_in(people, somebody)
    await people.change(people.root, ann.id, is_active=True)
    assert not await is_in(people, ann), "what has ended does not begin again"


async def test_deletion_ends_every_session(people: People) -> None:
    ann = await people.person()
    await people.ask(people.root, DeleteUser, user_id=ann.id)
    assert not await is_in(people, ann)
    assert await people.code(refreshing(ann.pair.refresh_token)) is ErrorCode.TOKEN_UNKNOWN
    count = "SELECT count(*) FROM registry.session WHERE user_id = $1"
    assert await people.tables.values(count, ann.id) == [0]


@pytest.mark.parametrize("ending", ["password", "deactivation", "invalidation", "deletion"])
async def test_no_session_outlives_what_ends_them_whatever_is_refreshed_meanwhile(
    people: People, ending: str
) -> None:
    """Whoever refreshes or logs in at the same time is before it, and ends, or after it."""
    ann = await people.person(Role.SUPERUSER)
    sessions = [ann, *[await people.again(ann) for _ in range(5)]]

    async def end() -> None:
        if ending == "password":
            await people.change(people.root, ann.id, password="another horse")
        elif ending == "deactivation":
            await people.change(people.root, ann.id, is_active=False)
        elif ending == "invalidation":
            await people.ask(ann, EndAllSessions)
        else:
            await people.ask(people.root, DeleteUser, user_id=ann.id)

    async def keep_refreshing(pair: TokenPair) -> list[TokenPair]:
        pairs = [pair]
        for _ in range(20):
            try:
                pairs.append(await people.refresh(pairs[-1].refresh_token))
            except CertwireError as error:
                refusals.add(error.code)
                break
        return pairs

    refusals: set[ErrorCode] = set()
    refreshed, _ = await asyncio.gather(
        asyncio.gather(*(keep_refreshing(session.pair) for session in sessions)), end()
    )
    assert refusals <= {ErrorCode.TOKEN_UNKNOWN}
    for pair in [pair for pairs in refreshed for pair in pairs]:
        assert await people.who(pair.access_token) is None


async def test_a_login_with_the_old_password_never_outlives_the_change(people: People) -> None:
    ann = await people.person()

    logins = (people.log_in(ann.user.username, PASSWORD) for _ in range(20))
    *answers, _ = await asyncio.gather(
        *logins,
        people.change(people.root, ann.id, password="another horse"),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, TokenPair):
            assert await people.who(answer.access_token) is None
        else:
            assert isinstance(answer, CertwireError)
            assert answer.code is ErrorCode.LOGIN_FAILED


async def test_many_ends_at_once_are_no_deadlock(people: People) -> None:
    ann = await people.person()
    sessions = [ann, *[await people.again(ann) for _ in range(9)]]
    commands = [
        *(said(session, EndSession) for session in sessions),
        *(said(session, EndAllSessions) for session in sessions),
        *(refreshing(session.pair.refresh_token) for session in sessions),
        *(refreshing(session.pair.refresh_token) for session in sessions),
    ]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert set(codes) <= {
        None,
        ErrorCode.CREDENTIAL_REFUSED,
        ErrorCode.TOKEN_UNKNOWN,
        ErrorCode.TOKEN_USED,
    }
    for session in sessions:
        assert not await is_in(people, session)


async def test_no_token_is_stored_or_recorded(people: People) -> None:
    ann = await people.person()
    second = await people.refresh(ann.pair.refresh_token)
    await people.code(refreshing(ann.pair.refresh_token))
    kept = str(await people.tables.values("SELECT s::text FROM registry.session s"))
    told = str(await people.tables.values("SELECT o::text FROM registry.outbox o"))
    for secret in (ann.token, ann.pair.refresh_token, second.access_token, second.refresh_token):
        assert secret not in kept
        assert secret not in told
        assert token_hash(secret) not in told


async def test_a_certificate_ends_no_session(people: People) -> None:
    [fingerprint] = await people.tables.values("SELECT fingerprint FROM registry.admin_certificate")
    command = EndSession(call=call(), credential=certificate(fingerprint))
    assert await people.code(command) is ErrorCode.FORBIDDEN
