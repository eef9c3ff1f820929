"""What the audit log has of requests and refusals: one record each, true, and without secrets."""

import hashlib
import json
import secrets
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import rfc8785

from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM
from shared.secrets import token_hash
from tests.support.client import (
    INSTANCES,
    Client,
    Workload,
    administrator,
    fingerprint_of,
    new_wg_key,
    registered,
    running,
    superuser,
)
from tests.support.collector import Collector
from tests.support.completeness import assert_everything_is_told, streamed
from tests.support.eventually import eventually
from tests.support.platform import Platform

NO_CSR = "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 100
UNTOLD = """
SELECT count(*) FROM instance.certificate WHERE revoked_at IS NOT NULL AND NOT revocation_told
"""


@dataclass
class Expectations:
    """Answers, and the records that each should have left, in short."""

    platform: Platform
    _expected: dict[str, list[str]] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def of(self, response: httpx2.Response, status: int, *records: str) -> httpx2.Response:
        """Expect a status, and these records and no others."""
        request = f"{response.request.method} {response.request.url.path}"
        assert response.status_code == status, (request, response.text)
        request_id = response.headers["x-request-id"]
        self._expected[request_id] = sorted(records)
        self._said[request_id] = request
        return response

    async def meet(self) -> None:
        """Wait until everything is told, and compare."""
        await eventually(self._is_told, "the issuer knows of all revocations")
        await assert_everything_is_told(self.platform)
        found: dict[str, list[str]] = defaultdict(list)
        for text in await self.platform.values(
            "SELECT record FROM audit.record WHERE request_id = ANY($1) ORDER BY position",
            list(self._expected),
        ):
            record = json.loads(text)
            found[record["request_id"]].append(shown(record))
        for request_id, records in self._expected.items():
            assert sorted(found[request_id]) == records, self._said[request_id]

    async def _is_told(self) -> bool:
        untold: int = await self.platform.value(UNTOLD)
        return untold == 0


def shown(record: dict[str, Any]) -> str:
    """Return the record in short."""
    actor, object_ = record["actor"], record["object"]
    words = [record["service"], record["action"], record["outcome"]]
    words.append(f"{actor['kind']}:{actor['id']}")
    words.append(f"{object_['type']}:{object_['id']}")
    return " ".join(words) + (f" {record['detail']['code']}" if "code" in record["detail"] else "")


def certificate(response: httpx2.Response) -> str:
    """Return the certificate of an answer as records name it."""
    return f"certificate:{fingerprint_of(response.json()['cert_pem'])}"


@pytest.fixture
def expect(platform: Platform) -> Expectations:
    return Expectations(platform)


ADMIN = "admin:admin"


async def test_an_instances_life_leaves_one_record_a_deed(
    platform: Platform, admin: Client, nobody: Client, expect: Expectations
) -> None:
    created = await admin.create()
    made = created.json()
    own = f"instance:{made['id']}"
    workload = Workload(made["id"], made["wg_public_key"], made["vpn_ip"], made["bootstrap_token"])
    expect.of(created, 201, f"instance instance_create success {ADMIN} {own}")
    expect.of(await admin.call("GET", INSTANCES), 200)
    expect.of(await admin.get(workload.id), 200)

    first = await nobody.bootstrap(workload)
    expect.of(
        first,
        200,
        f"issuer cert_create success {own} {certificate(first)}",
        f"instance cert_bootstrap success {own} {certificate(first)}",
    )
    workload.takes(first)
    moved = f"instance instance_set_status success {ADMIN} {own}"
    expect.of(await admin.move(workload.id, "running"), 200, moved)
    expect.of(await admin.move(workload.id, "running"), 200)  # nothing happens
    put = f"instance instance_put_secrets success {ADMIN} {own}"
    expect.of(await admin.put_secrets(workload.id, {"a": "b"}), 204, put)
    made_token = f"instance bootstrap_token_create success {ADMIN} {own}"
    expect.of(await admin.new_token(workload.id), 201, made_token)

    async with Client(platform, workload.identity) as itself:
        refreshed = f"instance instance_refresh_secrets success {own} {own}"
        expect.of(await itself.refresh(workload), 200, refreshed)
        second = await itself.renew(workload)
        expect.of(
            second,
            200,
            f"issuer cert_create success {own} {certificate(second)}",
            f"instance cert_renew success {own} {certificate(second)}",
            f"issuer cert_revoke success {own} {certificate(first)}",
        )
        expect.of(await itself.renew(workload), 200)  # the same bytes again
    expect.of(
        await admin.revoke(workload.id),
        200,
        f"instance cert_revoke success {ADMIN} {certificate(second)}",
        f"issuer cert_revoke success {ADMIN} {certificate(second)}",
    )
    expect.of(await admin.move(workload.id, "terminated"), 200, moved)
    await expect.meet()


async def test_a_termination_and_a_second_bootstrap_revoke(
    admin: Client, nobody: Client, expect: Expectations
) -> None:
    workload = await running(admin)
    own, first = f"instance:{workload.id}", f"certificate:{workload.sha256}"
    workload.token = (await admin.new_token(workload.id)).json()["bootstrap_token"]
    second = await nobody.bootstrap(workload)
    expect.of(
        second,
        200,
        f"issuer cert_create success {own} {certificate(second)}",
        f"instance cert_bootstrap success {own} {certificate(second)}",
        f"issuer cert_revoke success {own} {first}",
    )
    expect.of(
        await admin.move(workload.id, "terminated"),
        200,
        f"instance instance_set_status success {ADMIN} {own}",
        f"instance cert_revoke success {ADMIN} {certificate(second)}",
        f"issuer cert_revoke success {ADMIN} {certificate(second)}",
    )
    await expect.meet()


async def test_a_refused_instance_leaves_one_record_a_refusal(
    platform: Platform, admin: Client, address: str, expect: Expectations
) -> None:
    workload, other = await running(admin), await running(admin)
    own, others = f"instance:{workload.id}", f"instance:{other.id}"
    refused = f"instance cert_renew refused {own} {own}"
    async with Client(platform, workload.identity, address=address) as itself:
        bad = await itself.renew(workload, csr_pem=NO_CSR)
        expect.of(bad, 400, f"{refused} invalid_csr")
        wrong = await itself.renew(workload, wg_public_key=new_wg_key())
        expect.of(wrong, 401, f"{refused} identity_mismatch")
        wrong = await itself.refresh(workload, vpn_ip="10.9.9.9")
        expect.of(
            wrong,
            401,
            f"instance instance_refresh_secrets refused {own} {own} identity_mismatch",
        )
        wrong = await itself.renew(other)
        expect.of(wrong, 401, f"instance cert_renew refused unknown: {others} identity_mismatch")
        await admin.move(workload.id, "stopped")
        stopped = await itself.renew(workload)
        expect.of(stopped, 409, f"{refused} instance_not_running")
        await admin.move(workload.id, "running")
        workload.takes(await itself.renew(workload))
    async with Client(platform, workload.identity, address=address) as itself:
        expect.of(await itself.renew(workload), 429, f"{refused} rate_limited")
        await admin.revoke(workload.id)
        gone = await itself.renew(workload)
        expect.of(gone, 401, f"instance cert_renew refused unknown: {own} credential_refused")
    await expect.meet()


async def test_a_refused_administrator_leaves_one_record_a_refusal(
    platform: Platform, admin: Client, address: str, expect: Expectations
) -> None:
    workload = await running(admin)
    own = f"instance:{workload.id}"
    async with Client(platform, workload.identity, address=address) as itself:
        presented = f"credential:{workload.sha256}"
        expect.of(
            await itself.get(workload.id),
            403,
            f"registry credential_resolve refused unknown: {presented} credential_refused",
        )
    async with Client(platform, address=address, Authorization="Bearer made-up") as stranger:
        expect.of(
            await stranger.move(workload.id, "terminated"),
            401,
            "registry credential_resolve refused unknown: credential: credential_refused",
        )
    await admin.move(workload.id, "stopped")
    refused = f"instance instance_set_status refused {ADMIN}"
    await admin.move(workload.id, "terminated")
    expect.of(await admin.move(workload.id, "running"), 409, f"{refused} {own} invalid_transition")
    somewhere = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
    expect.of(
        await admin.move(somewhere, "running"), 404, f"{refused} instance:{somewhere} not_found"
    )
    await expect.meet()


async def test_logins_leave_one_record_each(
    platform: Platform, address: str, expect: Expectations
) -> None:
    login = json.loads((platform.bootstrap / "superuser.json").read_text())
    async with Client(platform, address=address) as nobody:
        path = "/api/v1/auth/token"
        wrong = await nobody.call("POST", path, data={**login, "password": "wrong"})
        expect.of(
            wrong, 401, "registry login_failure refused anonymous: user:superuser login_failed"
        )
        right = await nobody.call("POST", path, data=login)
        user = await platform.value("SELECT id FROM registry.users WHERE username = 'superuser'")
        expect.of(right, 200, f"registry login_success success user:{user} user:{user}")
        bearer = {"Authorization": f"Bearer {right.json()['access_token']}"}
        made = await nobody.call(
            "PUT",
            f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08/secrets",
            {"agent_secrets": {}},
            headers=bearer,
        )
        expect.of(
            made,
            404,
            f"instance instance_put_secrets refused user:{user}"
            " instance:497f6eca-6276-4993-bfeb-53cbbbba6f08 not_found",
        )
    await expect.meet()


async def test_a_wrong_bootstrap_token_leaves_a_record(
    admin: Client, nobody: Client, expect: Expectations
) -> None:
    workload = await registered(admin)
    own = f"instance:{workload.id}"
    refused = "instance cert_bootstrap refused"
    expect.of(
        await nobody.bootstrap(workload, token="wrong"),
        401,
        f"{refused} anonymous: {own} token_unknown",
    )
    expect.of(
        await nobody.bootstrap(workload, wg_public_key=new_wg_key()),
        401,
        f"{refused} {own} {own} identity_mismatch",
    )
    expect.of(
        await nobody.bootstrap(workload, csr_pem=NO_CSR),
        400,
        f"{refused} anonymous: {own} invalid_csr",
    )
    await expect.meet()


async def test_what_nobody_asked_and_what_makes_no_sense_leaves_no_record(
    admin: Client, nobody: Client, expect: Expectations
) -> None:
    workload = await running(admin)
    expect.of(await nobody.get(workload.id), 401)
    expect.of(await nobody.renew(workload), 401)
    expect.of(await admin.create(name=""), 422)
    expect.of(await nobody.renew(workload, csr_pem="x"), 422)
    await expect.meet()


async def test_a_flood_of_refusals_is_counted_rather_than_written_down(
    platform: Platform, address: str
) -> None:
    """60 records a minute for an address of unknown callers; one more says how many there were."""
    async with Client(platform, address=address, Authorization="Bearer made-up") as stranger:
        for _ in range(80):
            assert (await stranger.call("GET", INSTANCES)).status_code == 401
    await assert_everything_is_told(platform)
    written = await platform.value(
        "SELECT count(*) FROM audit.record WHERE record::json #>> '{detail,address}' = $1", address
    )
    assert written == 60


# --- The chain, and what may not stand in it ----------------------------------------


async def test_the_chain_computed_anew_by_others(platform: Platform, admin: Client) -> None:
    """From `certwire audit tail --json` alone, with another implementation of RFC 8785."""
    await running(admin)
    await assert_everything_is_told(platform)
    printed = await platform.succeed(
        "audit", "tail", "--from-sequence", "1", "--no-follow", "--json"
    )
    heads: dict[str, tuple[int, str]] = {}
    for line in printed.splitlines():
        record = json.loads(line)
        sequence, previous = heads.get(record["service"], (0, "0" * 64))
        assert record["sequence"] == sequence + 1
        assert record["previous_hash"] == previous
        body = {name: value for name, value in record.items() if name != "hash"}
        assert record["hash"] == hashlib.sha256(rfc8785.dumps(body)).hexdigest()
        heads[record["service"]] = (record["sequence"], record["hash"])
    assert heads.keys() >= {"issuer", "registry", "instance"}  # others, by what ran before
    for service, head in heads.items():
        row = f"SELECT (sequence, hash)::text FROM {service}.relay"  # noqa: S608 - a name of ours
        assert await platform.value(row) == f"({head[0]},{head[1]})"


@dataclass
class Secrets:
    """Everything that nobody but its owner may ever read; `known` is what everybody may."""

    values: dict[str, str] = field(default_factory=dict)
    known: str = ""
    known_in: set[str] = field(default_factory=set)

    def add(self, name: str, value: str) -> str:
        """Remember a secret."""
        assert len(value) >= 16, name
        self.values[name] = value
        return value

    def leaks(self, where: str, text: str) -> list[str]:
        """Return which secrets stand in a text, as they are or in hex."""
        if self.known in text:
            self.known_in.add(where)
        return [
            f"{name} in {where}"
            for name, value in self.values.items()
            if value in text or value.encode().hex() in text
        ]


@pytest.fixture
async def spilled(platform: Platform, address: str) -> Secrets:
    """Use secrets of every kind, rightly and wrongly."""
    found = Secrets()
    for file in (platform.home / "secrets").iterdir():
        found.add(file.name, file.read_text().strip())
    found.add("p12 password", (platform.bootstrap / "admin.p12.password").read_text().strip())
    found.add("admin key", (platform.bootstrap / "admin.key").read_text().splitlines()[1])
    found.add("root key", (platform.home / "root" / "root.key").read_text().splitlines()[1])
    login = json.loads((platform.bootstrap / "superuser.json").read_text())
    found.add("superuser password", login["password"])
    async with AsyncExitStack() as stack:
        nobody = await stack.enter_async_context(Client(platform, address=address))
        admin = await stack.enter_async_context(administrator(platform))
        root = await stack.enter_async_context(superuser(platform, address=address))
        found.add("access token", root.headers["Authorization"].split()[1])
        wrong = found.add("wrong password", secrets.token_urlsafe(24))
        await nobody.call("POST", "/api/v1/auth/token", data={**login, "password": wrong})
        await nobody.call("POST", "/api/v1/auth/token", {**login, "password": wrong})

        first, second = (found.add(f"agent secret {n}", secrets.token_urlsafe(24)) for n in (1, 2))
        workload = await running(admin, agent_secrets={"key": first, first: {"deep": [first]}})
        found.known = workload.id
        found.add("bootstrap token", workload.token)
        await nobody.bootstrap(workload)
        guessed = found.add("guessed token", secrets.token_urlsafe(24))
        # It may be somebody's weak password, which its hash would tell.
        found.add("hash of the guessed token", token_hash(guessed))
        await nobody.bootstrap(workload, token=guessed)
        await nobody.bootstrap(workload, token=guessed + "\0")
        stray = {"Authorization": f"Bearer {guessed}"}
        await nobody.call("GET", f"{INSTANCES}?cursor={guessed}", headers=stray)
        made = await admin.new_token(workload.id)
        found.add("second bootstrap token", made.json()["bootstrap_token"])
        header = {"Idempotency-Key": secrets.token_hex(8)}
        body = {"agent_secrets": {"key": second}}
        for _ in range(2):
            await admin.call("PUT", f"{workload.path}/secrets", body, headers=header)
        await admin.put_secrets(workload.id, [second])
        await admin.put_secrets(workload.id, {"key": second, "nul": "\0"})
        async with Client(platform, workload.identity) as itself:
            assert (await itself.refresh(workload)).json()["agent_secrets"]["key"] == second
            await itself.renew(workload)
        found.add("instance key", workload.key_pem.splitlines()[1])
    await assert_everything_is_told(platform)
    return found


async def test_no_secret_is_in_logs_database_streams_or_traces(
    platform: Platform, spilled: Secrets, collector: Collector
) -> None:
    leaks: list[str] = spilled.leaks("what `certwire up` said", platform.said)
    for log in platform.logs.iterdir():
        leaks += spilled.leaks(log.name, log.read_text(errors="replace"))
    for table in await platform.values(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN"
        " ('issuer', 'registry', 'instance', 'audit', 'acme')"
    ):
        rows = await platform.values(f"SELECT t::text FROM {table} AS t")  # noqa: S608 - a name of ours
        leaks += spilled.leaks(table, "\n".join(rows))
    for stream in (AUDIT_STREAM, EVENTS_STREAM):
        for message in await streamed(platform, stream):
            text = f"{message.headers} {message.payload.decode()}"
            leaks += spilled.leaks(stream, text)
    leaks += spilled.leaks("the traces", "\n".join(map(repr, collector.spans)))
    assert leaks == []
    # It was looked for where things are.
    assert spilled.known_in >= {
        "instance.instance",
        "instance.outbox",
        "issuer.outbox",
        "audit.record",
        AUDIT_STREAM,
        EVENTS_STREAM,
        "the traces",
    }
