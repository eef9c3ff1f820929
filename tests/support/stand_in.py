"""The services behind a gateway, on a real bus: they answer what a test tells them to."""

import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from contracts.agents import GetOnboarding, Onboarding, OnboardingStatus
from contracts.errors import CertwireError
from contracts.instance import ResolvedInstance, ResolveInstance
from contracts.issuer import (
    GatewayCertificate,
    GetPlatformCa,
    PlatformCa,
    SignGatewayCertificate,
)
from contracts.messages import Command, Message
from contracts.principal import Credential, Principal
from contracts.registry import ResolveCredentials, ResolvedCredentials
from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from services.gateway.app import Gateway
from services.gateway.settings import GatewaySettings
from shared.broker import Bus, close, connect, nats_broker
from shared.clock import utc_now
from shared.settings import Settings
from tests.nats_server import NatsHome
from tests.support.authority import Authority, Leaf

Answer = Message | CertwireError | Callable[[Any], Awaitable[Message]]
CommandT = TypeVar("CommandT", bound=Command[Any])
SERVICES = (Service.ISSUER, Service.REGISTRY, Service.INSTANCE, Service.AUDIT, Service.ACME)


@dataclass
class StandIn:
    """What the services say, and what they heard."""

    authority: Authority = field(default_factory=Authority)
    server_lifetime: timedelta = timedelta(days=1)
    server_age: timedelta = timedelta(0)
    """How old the gateway's certificates are when they are signed."""
    answers: dict[type[Any], Answer] = field(default_factory=dict)
    principals: dict[str, Principal] = field(default_factory=dict)
    missing: dict[Service, tuple[str, ...]] = field(default_factory=dict)
    heard: list[Command[Any]] = field(default_factory=list)

    def says(self, answers: dict[type[Any], Answer]) -> None:
        """Answer these commands from now on."""
        self.answers.update(answers)

    def heard_of(self, kind: type[CommandT]) -> list[CommandT]:
        """Return the commands of one kind."""
        return [command for command in self.heard if isinstance(command, kind)]

    def know(self, credential: Credential | Leaf | str, principal: Principal) -> None:
        """Let the registry know whom a credential stands for."""
        sha256 = credential if isinstance(credential, str) else credential.sha256
        self.principals[sha256] = principal

    async def answer(self, command: Command[Any]) -> Message:
        """Answer as the test has it, else as the services would."""
        self.heard.append(command)
        answer = self.answers.get(type(command))
        if answer is None:
            return self._usual(command)
        if isinstance(answer, CertwireError):
            raise answer
        if isinstance(answer, Message):
            return answer
        return await answer(command)

    def _usual(self, command: Command[Any]) -> Message:
        if isinstance(command, GetPlatformCa):
            return PlatformCa(ca_pem=self.authority.ca_pem)
        if isinstance(command, SignGatewayCertificate):
            now = utc_now()
            return GatewayCertificate(
                chain_pem=self.authority.server_chain(
                    command.csr_pem, self.server_lifetime, self.server_age
                ),
                not_before=now - self.server_age,
                not_after=now + self.server_lifetime,
            )
        if isinstance(command, ResolveCredentials):
            hashes = (question.credential.sha256 for question in command.questions)
            return ResolvedCredentials(principals=tuple(map(self.principals.get, hashes)))
        if isinstance(command, ResolveInstance):
            return ResolvedInstance(principal=None)
        if isinstance(command, GetOnboarding):
            return OnboardingStatus(status=Onboarding.COMPLETED)
        raise AssertionError(f"nobody told the stand-in about {type(command).__name__}")


@contextmanager
def bus_home() -> Iterator[NatsHome]:
    """Run a NATS server with the platform's users."""
    with tempfile.TemporaryDirectory(prefix="certwire-test-") as directory:
        home = NatsHome(Path(directory))
        with home.serving():
            yield home


@asynccontextmanager
async def standing_in(
    home: NatsHome, stand_in: StandIn, services: tuple[Service, ...] = SERVICES
) -> AsyncIterator[None]:
    """Answer for the services until the block ends."""
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(_serving(home, stand_in, service))
        yield


@asynccontextmanager
async def _serving(home: NatsHome, stand_in: StandIn, service: Service) -> AsyncIterator[None]:
    settings = Settings(home=home.home, CERTWIRE_NATS_URL=home.url)
    broker = nats_broker(settings, service, "bus")
    await connect(broker)
    bus = Bus(service, broker)

    async def status(_command: GetStatus) -> StatusReport:
        missing = stand_in.missing.get(service, ())
        return StatusReport(service=service, version="0", ready=not missing, missing=missing)

    await bus.serve_own(GetStatus, status_subject(service), status)
    commands = dict.fromkeys(commands_of(service), stand_in.answer)
    await bus.serve(commands, direct=frozenset(commands))
    try:
        yield
    finally:
        await bus.finish()
        await close(broker)


def commands_of(service: Service) -> list[type[Command[Any]]]:
    """Return the commands that the gateway may send to a service."""
    return [
        kind
        for kind in _descendants(Command)
        if kind.__module__.startswith("contracts.")  # other tests have commands of their own
        and hasattr(kind, "SUBJECT")
        and kind.SUBJECT.split(".")[1] == service
        and Service.GATEWAY in kind.CALLERS
    ]


def _descendants(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        if "[" not in child.__name__:
            yield child
        yield from _descendants(child)


def gateway_settings(home: NatsHome, directory: Path, **others: Any) -> GatewaySettings:  # noqa: ANN401 - any setting
    """Return settings with ports that are free, and files below `directory`."""
    return GatewaySettings(
        **{
            "home": directory,
            "CERTWIRE_SECRETS_DIR": home.secrets,
            "CERTWIRE_NATS_URL": home.url,
            "https_port": 0,
            "http_port": 0,
            **others,
        }
    )


@asynccontextmanager
async def running_gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Run a gateway in the test's own process; it serves TLS when the block begins."""
    gateway = Gateway(settings)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()


def client_context(authority: Authority, leaf: Leaf | None = None) -> ssl.SSLContext:
    """Return the TLS of a client that trusts the platform, with its certificate if it has one."""
    context = ssl.create_default_context(cadata=authority.ca_pem)
    if leaf is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(leaf.pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def client(gateway: Gateway, authority: Authority, leaf: Leaf | None = None) -> httpx2.AsyncClient:
    """Return an HTTP client of the gateway's TLS port."""
    return httpx2.AsyncClient(
        base_url=f"https://localhost:{gateway.https.port}",
        verify=client_context(authority, leaf),
        trust_env=False,
        timeout=15,
    )
