"""Every NATS user tries every subject, on a real server; and the attacks by way of JetStream."""

import asyncio
import contextlib
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

import contracts.events
from contracts.events import Event
from contracts.messages import Command
from contracts.subjects import REQUEST_INFO, Service, comes_from_a_client
from services.provisioning.nats import provision_streams, users
from services.provisioning.nats.permissions import Account, User
from tests.nats_server import NatsHome

OUTSIDER = "orchestrator"
OTHER_OUTSIDER = "scheduler"
BUS, STREAMS, READERS = Account.BUS, Account.STREAMS, Account.READERS
WITH_OUTBOX = [service for service in Service if service != "gateway"]
NAMES = [*Service, "cli", "operator", "provision", OUTSIDER, OTHER_OUTSIDER]

COMMANDS: dict[str, frozenset[str]] = {
    value.SUBJECT: value.CALLERS
    for module in pkgutil.iter_modules(contracts.__path__, "contracts.")
    for value in vars(importlib.import_module(module.name)).values()
    if isinstance(value, type) and issubclass(value, Command) and hasattr(value, "SUBJECT")
} | {f"certwire.{service}.status.get": frozenset({"cli", "gateway"}) for service in Service}
COMMANDS |= {f"certwire.{service}.outbox.head": frozenset({"audit"}) for service in WITH_OUTBOX}

NOUNS = {
    "issuer": {"certificate", "ca", "crl"},
    "acme": {"certificate", "project", "order"},
    "registry": {"agent", "token", "admin", "user", "organization", "api_key"},
    "instance": {"instance"},
}
EVENTS: dict[str, frozenset[str]] = {
    event.nats_subject(): frozenset(name for name, nouns in NOUNS.items() if event.NOUN in nouns)
    for event in vars(contracts.events).values()
    if isinstance(event, type) and issubclass(event, Event) and hasattr(event, "VERB")
}
AUDIT = {f"certwire.audit.{service}.cert_create": service for service in WITH_OUTBOX}
INBOXES = {f"_INBOX_{name}.abc.1": name for name in NAMES}
INBOUND = {f"certwire.inbound.{n}.instance.status": n for n in (OUTSIDER, OTHER_OUTSIDER)}

OPERATOR_API = frozenset(
    {"$JS.API.STREAM.INFO.{}", "$JS.API.CONSUMER.CREATE.{}", "$JS.FC.{}.consumer.1"}
)
PROVISION_API = frozenset(
    {"$JS.API.STREAM.INFO.{}", "$JS.API.STREAM.CREATE.{}", "$JS.API.STREAM.UPDATE.{}"}
)
API_OF: dict[str, set[str]] = {
    "operator": {verb.format(stream) for verb in OPERATOR_API for stream in ("EVENTS", "AUDIT")},
    "provision": {verb.format(stream) for verb in PROVISION_API for stream in ("EVENTS", "AUDIT")},
}
OUTSIDER_API = {
    "$JS.API.STREAM.INFO.EVENTS",
    "$JS.API.CONSUMER.CREATE.EVENTS.{}",
    "$JS.API.CONSUMER.CREATE.EVENTS.{}.certwire.events.ca.created",
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.{}",
    "$JS.API.CONSUMER.INFO.EVENTS.{}",
    "$JS.API.CONSUMER.DELETE.EVENTS.{}",
    "$JS.API.CONSUMER.MSG.NEXT.EVENTS.{}",
    "$JS.ACK.EVENTS.{}.1.1.1.1.1",
    "$JS.FC.EVENTS.{}.1",
}
AUDIT_CONSUMER_API = {
    "$JS.API.CONSUMER.INFO.AUDIT.audit",
    "$JS.API.CONSUMER.MSG.NEXT.AUDIT.audit",
    "$JS.API.CONSUMER.RESET.AUDIT.audit",
    "$JS.ACK.AUDIT.audit.1.1.1.1.1",
}
JETSTREAM = sorted(
    {
        template.format(stream)
        for template in OPERATOR_API | PROVISION_API
        for stream in ("EVENTS", "AUDIT", "OTHER")
    }
    | {template.format(name) for template in OUTSIDER_API for name in NAMES}
    | AUDIT_CONSUMER_API
    | {
        "$JS.API.INFO",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.DELETE.AUDIT",
        "$JS.API.STREAM.PURGE.AUDIT",
        "$JS.API.STREAM.MSG.DELETE.AUDIT",
        "$JS.API.STREAM.MSG.GET.AUDIT",
        "$JS.API.DIRECT.GET.AUDIT",
        "$JS.API.CONSUMER.CREATE.AUDIT.audit",
        "$JS.API.CONSUMER.DELETE.AUDIT.audit",
    }
)
ELSEWHERE = [
    "$SYS.REQ.SERVER.PING",
    "JS.STREAMS.CONSUMER.CREATE.EVENTS",
    "certwire.audit.checkpoint",
    "certwire.audit.gateway.cert_create",
    "certwire.inbound.nobody.instance.status",
    "mirror.M.abc",
    "_INBOX.abc.1",
    "_R_.abc.def",
    "anything",
]
SUBJECTS = sorted({*COMMANDS, *EVENTS, *AUDIT, *INBOXES, *INBOUND, *JETSTREAM, *ELSEWHERE})
WILDCARDS = [
    ">",
    "*",
    "*.>",
    "certwire.>",
    "certwire.*.>",
    "certwire.events.>",
    "certwire.audit.>",
    "certwire.inbound.>",
    "certwire.inbound.*.instance.status",
    "$JS.>",
    "$SYS.>",
    "mirror.>",
    *(f"certwire.{service}.>" for service in Service),
    *(f"_INBOX_{name}.>" for name in NAMES),
]


def publishable(user: User) -> set[str]:
    """Return the subjects that the contracts and the architecture allow."""
    by_account = {BUS: on_the_bus, STREAMS: to_the_streams, READERS: as_a_reader}
    return by_account[user.account](user.name)


def on_the_bus(name: str) -> set[str]:
    own = [callers for of, callers in COMMANDS.items() if of.startswith(f"certwire.{name}.")]
    callers = frozenset[str]().union(*own)
    replies = {inbox for inbox, owner in INBOXES.items() if owner in callers}
    imported = {"_R_.abc.def"} if name == "instance" else set[str]()
    return {subject for subject, by in COMMANDS.items() if name in by} | replies | imported


def to_the_streams(name: str) -> set[str]:
    if name == "provision":
        consumer = {"$JS.API.CONSUMER.CREATE.AUDIT.audit", "$JS.API.CONSUMER.INFO.AUDIT.audit"}
        return API_OF["provision"] | consumer
    allowed = {subject for subject, by in EVENTS.items() if name in by}
    allowed |= {subject for subject, by in AUDIT.items() if name == by}
    allowed |= {"$JS.API.STREAM.INFO.EVENTS", "$JS.API.STREAM.INFO.AUDIT"}
    if name == "audit":
        allowed |= AUDIT_CONSUMER_API | {"certwire.audit.checkpoint"}
    return allowed


def as_a_reader(name: str) -> set[str]:
    if name == "provision":
        deletes = {"$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.DELETE.AUDIT"}
        return API_OF["provision"] | deletes
    if name == "operator":
        return API_OF["operator"] | {f"$JS.FC.EVENTS.{consumer}.1" for consumer in NAMES}
    inbound = {subject for subject, by in INBOUND.items() if name == by}
    return inbound | {template.format(name) for template in OUTSIDER_API}


def may_subscribe(user: User, subject: str) -> bool:
    """Say what the contracts and the architecture allow."""
    if subject.startswith(f"_INBOX_{user.name}."):
        return True
    if user.account is not BUS or user.name not in set(Service):
        return False
    if user.name == "instance" and re.fullmatch(
        r"certwire\.inbound\.[^.>]+\.instance\.status", subject
    ):
        return True
    return subject.startswith(f"certwire.{user.name}.")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsHome]:
    """Return a server without streams: what is published in trying does nothing."""
    home = NatsHome(tmp_path_factory.mktemp("nats"), subscribers=(OUTSIDER, OTHER_OUTSIDER))
    with home.serving():
        yield home


ALL_USERS = sorted(users((OUTSIDER, OTHER_OUTSIDER)))


def test_there_are_exactly_these_users() -> None:
    assert set(ALL_USERS) == (
        {User(name, BUS) for name in [*Service, "cli"]}
        | {User(service, STREAMS) for service in WITH_OUTBOX}
        | {User("provision", STREAMS), User("provision", READERS), User("operator", READERS)}
        | {User(OUTSIDER, READERS), User(OTHER_OUTSIDER, READERS)}
    )


@pytest.mark.parametrize("user", ALL_USERS, ids=lambda user: f"{user.account}-{user.name}")
async def test_a_user_publishes_and_hears_what_the_contracts_say_and_nothing_else(
    bare: NatsHome, user: User
) -> None:
    problems: list[str] = []
    async with bare.connected(user.name, user.account, problems) as client:
        for subject in SUBJECTS:
            await client.publish(subject, b"")
        await settle(client)
        refused = refusals(problems, "publish to")
        problems.clear()
        for subject in [*SUBJECTS, *WILDCARDS]:
            await client.subscribe(subject)
        await settle(client)
        unheard = refusals(problems, "subscription to")
    published = {subject for subject in SUBJECTS if subject.lower() not in refused}
    heard = {subject for subject in [*SUBJECTS, *WILDCARDS] if subject.lower() not in unheard}
    assert published == publishable(user)
    assert heard == {s for s in [*SUBJECTS, *WILDCARDS] if may_subscribe(user, s)}


async def settle(client: Client) -> None:
    """Wait for what the server says to everything sent so far; the first PING overtakes it."""
    await client.flush()
    await client.flush()


def refusals(problems: Sequence[str], what: str) -> set[str]:
    """Return the subjects that the server named, which nats-py puts in lower case."""
    found = [re.search(rf'permissions violation for {what} "([^"]+)"', text) for text in problems]
    return {match[1] for match in found if match}


# Written down by hand: what must never change by a slip in a contract's CALLERS.
NEVER = [
    ("gateway", BUS, "certwire.issuer.instance_certificate.sign"),
    ("gateway", BUS, "certwire.issuer.admin_certificate.sign"),
    ("gateway", BUS, "certwire.issuer.admin_certificate.generate"),
    ("gateway", BUS, "certwire.issuer.instance_certificate.revoke"),
    ("gateway", BUS, "certwire.registry.admin.reset"),
    ("gateway", BUS, "certwire.inbound.orchestrator.instance.status"),
    ("instance", BUS, "certwire.issuer.admin_certificate.sign"),
    ("instance", BUS, "certwire.issuer.agent_certificate.sign"),
    ("instance", BUS, "certwire.issuer.registry_certificate.revoke"),
    ("registry", BUS, "certwire.issuer.instance_certificate.sign"),
    ("registry", BUS, "certwire.issuer.instance_certificate.void"),
    ("acme", BUS, "certwire.issuer.agent_certificate.sign"),
    ("acme", BUS, "certwire.issuer.instance_certificate.sign"),
    ("acme", BUS, "certwire.registry.credential.resolve"),
    ("gateway", BUS, "certwire.acme.kek.rewrap"),
    ("instance", BUS, "certwire.acme.private_key.get"),
    ("cli", BUS, "certwire.acme.private_key.get"),
    ("audit", BUS, "certwire.issuer.instance_certificate.sign"),
    ("cli", BUS, "certwire.issuer.instance_certificate.sign"),
    ("cli", BUS, "certwire.instance.instance.create"),
    ("issuer", STREAMS, "certwire.audit.registry.user_create"),
    ("issuer", STREAMS, "certwire.events.instance.started"),
    ("instance", STREAMS, "certwire.events.certificate.issued"),
    ("acme", STREAMS, "certwire.events.ca.created"),
    ("acme", STREAMS, "certwire.audit.issuer.cert_create"),
    ("audit", STREAMS, "certwire.audit.issuer.cert_create"),
    ("audit", STREAMS, "$JS.API.STREAM.DELETE.AUDIT"),
    ("registry", STREAMS, "$JS.API.CONSUMER.CREATE.AUDIT.x"),
    ("provision", STREAMS, "$JS.API.STREAM.DELETE.AUDIT"),
    ("provision", STREAMS, "$JS.API.STREAM.PURGE.AUDIT"),
    ("provision", STREAMS, "certwire.audit.issuer.cert_create"),
    ("operator", READERS, "certwire.inbound.operator.instance.status"),
    ("operator", READERS, "certwire.issuer.instance_certificate.sign"),
    ("operator", READERS, "certwire.audit.issuer.cert_create"),
    ("operator", READERS, "certwire.events.ca.created"),
    ("operator", READERS, "JS.STREAMS.CONSUMER.CREATE.AUDIT"),
    ("operator", READERS, "$JS.API.CONSUMER.CREATE.EVENTS.orchestrator"),
    (OUTSIDER, READERS, "certwire.inbound.scheduler.instance.status"),
    (OUTSIDER, READERS, "certwire.instance.instance.set_status"),
    (OUTSIDER, READERS, "certwire.events.instance.started"),
    (OUTSIDER, READERS, "$JS.API.CONSUMER.CREATE.AUDIT.orchestrator"),
    (OUTSIDER, READERS, "$JS.API.CONSUMER.CREATE.EVENTS.scheduler"),
    (OUTSIDER, READERS, "$JS.API.CONSUMER.MSG.NEXT.EVENTS.scheduler"),
]
ALWAYS = [
    ("gateway", BUS, "certwire.acme.order.obtain"),
    ("gateway", BUS, "certwire.acme.http_challenge.get"),
    ("cli", BUS, "certwire.acme.kek.rewrap"),
    ("acme", BUS, "_INBOX_gateway.abc.1"),
    ("acme", STREAMS, "certwire.events.certificate.renewed"),
    ("acme", STREAMS, "certwire.events.order.failed"),
    ("gateway", BUS, "certwire.instance.certificate.renew"),
    ("gateway", BUS, "certwire.registry.credential.resolve"),
    ("instance", BUS, "certwire.issuer.instance_certificate.sign"),
    ("registry", BUS, "certwire.issuer.admin_certificate.generate"),
    ("cli", BUS, "certwire.registry.admin.reset"),
    ("cli", BUS, "certwire.audit.status.get"),
    ("instance", BUS, "_INBOX_gateway.abc.1"),
    ("issuer", BUS, "_INBOX_instance.abc.1"),
    ("issuer", STREAMS, "certwire.audit.issuer.cert_create"),
    ("issuer", STREAMS, "certwire.events.certificate.issued"),
    (OUTSIDER, READERS, "certwire.inbound.orchestrator.instance.status"),
]


async def test_the_cells_that_matter_most(bare: NatsHome) -> None:
    for name, account in sorted({cell[:2] for cell in NEVER + ALWAYS}):
        problems: list[str] = []
        async with bare.connected(name, account, problems) as client:
            never = {cell[2] for cell in NEVER if cell[:2] == (name, account)}
            for subject in never | {cell[2] for cell in ALWAYS if cell[:2] == (name, account)}:
                await client.publish(subject, b"")
            await settle(client)
        assert refusals(problems, "publish to") == {subject.lower() for subject in never}, name


async def test_nobody_connects_without_a_key(bare: NatsHome) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bare.port)
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"-ERR 'Authorization Violation'" in answer
    assert b"PONG" not in answer


# --- Attacks by way of JetStream -----------------------------------------------------------------


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsHome]:
    home = NatsHome(tmp_path_factory.mktemp("nats"), subscribers=(OUTSIDER, OTHER_OUTSIDER))
    with home.serving():
        asyncio.run(provision_streams(home.url, home.secrets))
        yield home


@contextlib.asynccontextmanager
async def everybody_listening(home: NatsHome) -> AsyncIterator[list[tuple[str, Msg]]]:
    """Collect everything that reaches any user of BUS or STREAMS."""
    heard: list[tuple[str, Msg]] = []

    async with AsyncExitStack() as stack:
        for user, permissions in users().items():
            if user.account is READERS:
                continue
            client = await stack.enter_async_context(home.connected(user.name, user.account))

            async def note(message: Msg, who: str = f"{user.account} {user.name}") -> None:
                heard.append((who, message))

            for subject in permissions.subscribe:
                await client.subscribe(subject, cb=note)
            await client.flush()
        yield heard


AIMS = [
    *COMMANDS,
    *(subject for subject in INBOXES),
    *INBOUND,
    *AUDIT,
    *EVENTS,
    "JS.STREAMS.CONSUMER.CREATE.EVENTS",
    "JS.STREAMS.CONSUMER.CREATE.AUDIT",
    "$JS.API.STREAM.DELETE.EVENTS",
    "$JS.API.STREAM.CREATE.EVENTS",
    "$JS.FC.EVENTS.x.1",
    "mirror.M.abc",
]


async def an_event(home: NatsHome) -> None:
    """Put an event on the stream and wait for its mirror."""
    async with (
        home.connected("issuer", STREAMS) as issuer,
        home.connected("operator", READERS) as operator,
    ):
        await issuer.jetstream().publish("certwire.events.ca.created", b"{}", stream="EVENTS")
        for _ in range(200):
            if (await operator.jetstream().stream_info("EVENTS")).state.messages:
                return
            await asyncio.sleep(0.02)
        pytest.fail("the mirror stays empty")


async def sequences(home: NatsHome) -> list[int]:
    async with home.connected("issuer", STREAMS) as issuer:
        streams = [await issuer.jetstream().stream_info(name) for name in ("EVENTS", "AUDIT")]
    return [stream.state.last_seq for stream in streams]


@pytest.mark.parametrize("attacker", ["operator", OUTSIDER])
async def test_a_push_consumer_reaches_nobody_outside_the_readers(
    provisioned: NatsHome, attacker: str
) -> None:
    await an_event(provisioned)
    before = await sequences(provisioned)
    async with (
        everybody_listening(provisioned) as heard,
        provisioned.connected(attacker, READERS) as client,
    ):
        jetstream = client.jetstream()
        own_inbox = client.new_inbox()
        mine = await client.subscribe(own_inbox)
        for aim in [*AIMS, own_inbox]:
            config = ConsumerConfig(
                name=OUTSIDER if attacker == OUTSIDER else None,
                deliver_subject=aim,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=1,
            )
            with contextlib.suppress(JetStreamError):
                created = await jetstream.add_consumer("EVENTS", config)
                await asyncio.sleep(0.02)  # for deliveries
                if attacker == OUTSIDER:
                    await jetstream.delete_consumer("EVENTS", created.name)
        await mine.next_msg(timeout=5)  # the attack as such works
        await asyncio.sleep(0.2)
        assert heard == []
    assert await sequences(provisioned) == before


@pytest.mark.parametrize("attacker", ["operator", OUTSIDER])
async def test_a_reply_subject_reaches_nobody_who_could_not_tell(
    provisioned: NatsHome, attacker: str
) -> None:
    """JetStream answers to any subject of READERS, and one of them leads to the instance service.

    The server itself says of such a message that no client sent it. Another deletes a mirror, for
    whoever may acknowledge can do that; provisioning brings it back, for it is a copy.
    """
    await an_event(provisioned)
    before = await sequences(provisioned)
    async with (
        everybody_listening(provisioned) as heard,
        provisioned.connected(attacker, READERS) as client,
    ):
        asked = ["$JS.API.STREAM.INFO.EVENTS"]
        if attacker == OUTSIDER:
            await client.jetstream().add_consumer(
                "EVENTS", ConsumerConfig(name=OUTSIDER, ack_policy=AckPolicy.EXPLICIT)
            )
            asked += [
                f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{OUTSIDER}",
                f"$JS.API.CONSUMER.INFO.EVENTS.{OUTSIDER}",
                f"certwire.inbound.{OUTSIDER}.instance.status",
            ]
        for aim in AIMS:
            for question in asked:
                await client.publish(question, b"", reply=aim)
        await client.flush()
        await asyncio.sleep(0.3)
        if attacker == OUTSIDER:
            with contextlib.suppress(JetStreamError):
                await client.jetstream().delete_consumer("EVENTS", OUTSIDER)
    own = f"certwire.inbound.{OUTSIDER}.instance.status"
    for who, message in heard:
        assert who == "bus instance"
        genuine = comes_from_a_client((message.headers or {}).get(REQUEST_INFO))
        assert genuine == (message.subject == own and not message.data)
        assert not (genuine and message.subject != own)
    assert await sequences(provisioned) == before
    if attacker == OUTSIDER:
        await provision_streams(provisioned.url, provisioned.secrets)
    await an_event(provisioned)


async def test_an_outsiders_request_reaches_the_instance_service_and_is_answered(
    provisioned: NatsHome,
) -> None:
    async with (
        provisioned.connected("instance", BUS) as instance,
        provisioned.connected(OUTSIDER, READERS) as outsider,
    ):
        received: list[Msg] = []

        async def answer(message: Msg) -> None:
            received.append(message)
            await message.respond(b"done")

        await instance.subscribe("certwire.inbound.*.instance.status", "instance", cb=answer)
        await instance.flush()
        subject = f"certwire.inbound.{OUTSIDER}.instance.status"
        headers = {"ce-id": "1", REQUEST_INFO: '{"kind":"forged"}'}
        reply = await outsider.request(subject, b"{}", headers=headers)
        assert reply.data == b"done"
        assert received[0].subject == subject
        assert received[0].headers is not None
        assert received[0].headers["ce-id"] == "1"
        assert comes_from_a_client(received[0].headers[REQUEST_INFO])
        with pytest.raises(nats.errors.NoRespondersError):
            await outsider.request(f"certwire.inbound.{OUTSIDER}.other.status", b"{}")


async def test_a_caller_cannot_choose_where_a_service_replies(bare: NatsHome) -> None:
    """Else the gateway could have the instance service publish to the issuer."""
    problems: list[str] = []
    async with (
        bare.connected("issuer", BUS) as issuer,
        bare.connected("instance", BUS, problems) as instance,
        bare.connected("gateway", BUS) as gateway,
    ):
        signed: list[Msg] = []

        async def note(message: Msg) -> None:
            signed.append(message)

        async def answer(message: Msg) -> None:
            await message.respond(b"a reply")

        await issuer.subscribe("certwire.issuer.>", cb=note)
        await instance.subscribe("certwire.instance.>", cb=answer)
        await issuer.flush()
        await instance.flush()
        await gateway.publish(
            "certwire.instance.certificate.renew",
            b"",
            reply="certwire.issuer.admin_certificate.sign",
        )
        await settle(gateway)
        await asyncio.sleep(0.05)  # for the handler
        await settle(instance)
        assert "certwire.issuer.admin_certificate.sign" in problems[0]
        assert signed == []
