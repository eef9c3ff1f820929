"""What administrators do with instances, over HTTPS."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.e2e.conversations import Refused, detail
from tests.support.authority import Authority
from tests.support.client import (
    INSTANCES,
    TRANSPORT_ERRORS,
    Client,
    administrator,
    bootstrapped,
    new_instance,
    new_wg_key,
    registered,
    running,
    superuser,
)
from tests.support.platform import Platform

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NOT_FOUND = Refused(404, "Instance not found")
NOT_AUTHENTICATED = Refused(401, "Not authenticated")
FORBIDDEN = Refused(403, "Forbidden")
VIEW = {"id", "name", "status", "wg_public_key", "vpn_ip", "created_at"}


def moment(text: str) -> datetime:
    """Return a time that is printed as this dialect prints it."""
    assert TIMESTAMP.fullmatch(text), text
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


# --- Registration -----------------------------------------------------------------------------


async def test_a_new_instance_is_pending_and_its_token_is_shown_once(admin: Client) -> None:
    body = new_instance(name="db-7", vpn_ip="10.20.30.40", agent_secrets={"a": "b"})
    response = await admin.call("POST", INSTANCES, body)
    assert response.status_code == 201
    made = response.json()
    assert made.keys() == VIEW | {"bootstrap_token", "bootstrap_expires_at"}
    assert UUID(made["id"]).version == 4
    assert {name: made[name] for name in ("name", "status", "wg_public_key", "vpn_ip")} == {
        "name": "db-7",
        "status": "pending",
        "wg_public_key": body["wg_public_key"],
        "vpn_ip": "10.20.30.40",
    }
    lifetime = moment(made["bootstrap_expires_at"]) - moment(made["created_at"])
    assert abs(lifetime - timedelta(minutes=15)) <= timedelta(seconds=1)
    assert re.fullmatch(r"[0-9a-f]{64}", made["bootstrap_token"])
    shown = await admin.get(made["id"])
    assert shown.status_code == 200
    assert shown.json() == {name: made[name] for name in VIEW}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 101),
        ("name", "new\nline"),
        ("name", "nul\0"),
        ("name", " "),
        ("name", 7),
        ("name", None),
        ("vpn_ip", "10.999.1.1"),
        ("vpn_ip", "11.0.0.1"),
        ("vpn_ip", "10.0.0.1 "),
        ("vpn_ip", "10.0.0.1\n"),
        ("vpn_ip", "10.0.0.01"),
        ("vpn_ip", "10.\u0660.0.1"),  # a digit of another script
        ("vpn_ip", "10.0.0"),
        ("wg_public_key", ""),
        ("wg_public_key", "A" * 43 + "="),  # all zero
        ("wg_public_key", "B" * 42 + "B="),  # bits beyond the 32 bytes
        ("wg_public_key", "B" * 43),
        ("wg_public_key", "B" * 40),
        ("wg_public_key", "B" * 42 + "A=\n"),
        ("wg_public_key", "-" * 42 + "A="),
        ("agent_secrets", ["no object"]),
        ("agent_secrets", None),
        ("agent_secrets", {"much": "x" * 65_536}),
    ],
)
async def test_a_field_that_cannot_be_is_refused(admin: Client, field: str, value: object) -> None:
    response = await admin.create(**{field: value})
    assert response.status_code == 422, response.text
    assert response.json()["detail"][0]["loc"][:2] == ["body", field]
    if len(str(value)) > 3:
        assert str(value) not in response.text, "what was sent is said back"


async def test_secrets_may_be_left_out(admin: Client) -> None:
    body = new_instance()
    del body["agent_secrets"]
    assert (await admin.call("POST", INSTANCES, body)).status_code == 201


async def test_names_in_every_script_are_kept(admin: Client) -> None:
    for name in ("Zoë's web-1", "データベース", "🙂" * 100):
        made = (await admin.create(name=name)).json()
        assert (await admin.get(made["id"])).json()["name"] == name


# --- Lists ------------------------------------------------------------------------------------


async def test_instances_are_listed_page_by_page(admin: Client) -> None:
    ours = [(await registered(admin)).id for _ in range(5)]
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await admin.call("GET", INSTANCES, params=query)).json()
        assert page.keys() == {"instances", "next_cursor"}
        assert len(page["instances"]) <= 2
        assert all(view.keys() == VIEW for view in page["instances"])
        found += [view["id"] for view in page["instances"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [instance_id for instance_id in found if instance_id in ours] == ours
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=٣", "cursor=", "cursor=%00", "cursor=AAAA"]
)
async def test_a_page_that_cannot_be_is_refused(admin: Client, query: str) -> None:
    response = await admin.call("GET", f"{INSTANCES}?{query}")
    assert response.status_code == 422
    assert response.json()["detail"][0].keys() == {"loc", "msg", "type"}


async def test_certificates_are_listed_newest_first(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload))
    workload.token = (await admin.new_token(workload.id)).json()["bootstrap_token"]
    workload.takes(await admin.bootstrap(workload))

    path = f"{INSTANCES}/{workload.id}/certificates"
    first = (await admin.call("GET", path, params={"limit": "2"})).json()
    rest = (await admin.call("GET", path, params={"cursor": first["next_cursor"]})).json()
    assert rest["next_cursor"] is None
    rows = first["certificates"] + rest["certificates"]
    assert [row["revocation_reason"] for row in rows] == [None, "superseded", "superseded"]
    assert rows[0]["fingerprint"] == workload.sha256
    for row in rows:
        assert row.keys() == {
            "instance_id",
            "serial",
            "fingerprint",
            "issued_at",
            "expires_at",
            "revoked_at",
            "revocation_reason",
        }
        assert row["instance_id"] == workload.id
        age = moment(row["expires_at"]) - moment(row["issued_at"])
        assert timedelta(hours=23, minutes=59) <= age <= timedelta(hours=24)
        if row["revoked_at"] is not None:
            moment(row["revoked_at"])


# --- Status ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "refused"),
    [
        (["running", "stopped", "running"], "pending"),
        (["running", "stopped"], "pending"),
        ([], "stopped"),
        (["terminated"], "pending"),
        (["terminated"], "running"),
        (["running", "terminated"], "stopped"),
    ],
)
async def test_the_status_goes_its_way_and_no_other(
    admin: Client, way: list[str], refused: str
) -> None:
    instance_id = (await registered(admin)).id
    status = "pending"
    for status in way:
        for _ in range(2):  # the same status again is fine
            moved = await admin.move(instance_id, status)
            assert moved.status_code == 200
            assert moved.json().keys() == VIEW
            assert moved.json()["status"] == status
    response = await admin.move(instance_id, refused)
    assert response.status_code == 409
    assert (await admin.get(instance_id)).json()["status"] == status
    assert (await admin.move(instance_id, "paused")).status_code == 422


# --- What belongs to an instance --------------------------------------------------------------


async def test_a_certificate_is_revoked_once(admin: Client) -> None:
    workload = await bootstrapped(admin)
    revoked = await admin.revoke(workload.id)
    assert revoked.status_code == 200
    assert revoked.json().keys() == {"serial", "revoked_at"}
    moment(revoked.json()["revoked_at"])
    again = await admin.revoke(workload.id)
    assert again.status_code == 404
    assert detail(again) == "the instance has no certificate"


async def test_a_terminated_instance_gets_no_token(admin: Client) -> None:
    workload = await registered(admin)
    await admin.move(workload.id, "terminated")
    assert await admin.new_token(workload.id) == Refused(409, "Instance not running")


async def test_what_is_not_there_is_not_found(admin: Client) -> None:
    somewhere = str(uuid4())
    assert await admin.get(somewhere) == NOT_FOUND
    assert await admin.move(somewhere, "running") == NOT_FOUND
    assert await admin.put_secrets(somewhere, {}) == NOT_FOUND
    assert await admin.new_token(somewhere) == NOT_FOUND
    assert await admin.revoke(somewhere) == NOT_FOUND
    assert await admin.call("GET", f"{INSTANCES}/{somewhere}/certificates") == NOT_FOUND


# --- Who may -----------------------------------------------------------------------------------


async def ask_everything(caller: Client, instance_id: str) -> list[httpx2.Response]:
    """Send every call of an administrator."""
    return [
        await caller.create(),
        await caller.call("GET", INSTANCES),
        await caller.get(instance_id),
        await caller.move(instance_id, "running"),
        await caller.put_secrets(instance_id, {}),
        await caller.new_token(instance_id),
        await caller.call("GET", f"{INSTANCES}/{instance_id}/certificates"),
        await caller.revoke(instance_id),
    ]


async def test_nobody_is_asked_for_a_credential(admin: Client, nobody: Client) -> None:
    instance_id = (await registered(admin)).id
    for answer in await ask_everything(nobody, instance_id):
        assert answer == NOT_AUTHENTICATED
    assert (await nobody.get(instance_id)).headers["www-authenticate"] == "Bearer"


async def test_an_instance_may_not(platform: Platform, admin: Client) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        for answer in await ask_everything(itself, workload.id):
            assert answer == FORBIDDEN
    assert (await admin.get(workload.id)).json()["status"] == "running"


async def test_a_superusers_token_may(platform: Platform, address: str) -> None:
    async with superuser(platform, address=address) as root:
        workload = await bootstrapped(root)
        answers = await ask_everything(root, workload.id)
        assert [answer.status_code for answer in answers] == [
            201,
            200,
            200,
            200,
            204,
            201,
            200,
            200,
        ]


async def test_a_made_up_token_is_refused_even_beside_a_good_certificate(
    platform: Platform, admin: Client, address: str
) -> None:
    workload = await registered(admin)
    made_up = "Bearer " + new_wg_key()
    async with administrator(platform, address=address, Authorization=made_up) as caller:
        assert await caller.get(workload.id) == Refused(401, "Invalid or expired credential")


async def test_the_administrators_name_alone_is_worth_nothing(platform: Platform) -> None:
    forged = Authority("Certwire").client("admin")
    with pytest.raises(TRANSPORT_ERRORS):
        async with Client(platform, forged.pem) as forger:
            await forger.get(str(uuid4()))
