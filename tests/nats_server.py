"""A real NATS server with the platform's accounts, and connections as any of its users."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.aio.client import Client

from contracts.subjects import inbox
from services.embedded import EmbeddedNats, free_port
from services.provisioning.nats import (
    Server,
    add_subscriber,
    ensure_seeds,
    users,
    write_configuration,
)
from services.provisioning.nats.keys import seed_file
from services.provisioning.nats.permissions import Account, User
from shared.files import write_private


@dataclass
class NatsHome:
    """Secrets and configuration of a server; the server itself runs within `serving`."""

    home: Path
    subscribers: Sequence[str] = ()
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        ensure_seeds(self.secrets, users())
        for name in self.subscribers:
            seed = add_subscriber(self.secrets, name)
            write_private(seed_file(self.secrets, User(name, Account.READERS)), seed)

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def store(self) -> Path:
        return self.home / "nats" / "store"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server; it is gone afterwards."""
        path = write_configuration(
            self.home / "nats", self.secrets, Server(port=self.port, store=self.store)
        )
        server = EmbeddedNats(path, self.port)
        log = (self.home / "nats.log").open("ab")
        process = subprocess.Popen(server.command(), stderr=log, **server.popen)
        try:
            server.wait_ready(process)
            yield process
        finally:
            process.kill()
            process.wait()
            log.close()

    @contextlib.asynccontextmanager
    async def connected(
        self, name: str, account: Account, problems: list[str] | None = None
    ) -> AsyncIterator[Client]:
        """Connect as a user; what the server refuses goes to `problems`."""

        async def note(problem: Exception) -> None:
            if problems is not None:
                problems.append(str(problem))

        client = await nats.connect(
            self.url,
            nkeys_seed=str(seed_file(self.secrets, User(name, account))),
            inbox_prefix=inbox(name).encode(),
            allow_reconnect=False,
            error_cb=note,
        )
        try:
            yield client
        finally:
            await client.close()
