"""Hosts that watch projects, and the NATS that tells them."""

import json
from pathlib import Path

from contracts.subjects import inbox
from services.cli.agent_watch import Watcher, Watching
from services.cli.operator_access import OperatorAccess
from services.provisioning.nats import add_subscriber, ensure_seeds, users, write_operator_file
from tests.support.servers import NatsServer, Place
from tests.support.streams import happen

SUBSCRIBER = "edge-1"


class ReadNats:
    """A server with a subscriber, and what each of those who read it has in files."""

    def __init__(self, home: Path) -> None:
        ensure_seeds(home / "secrets", users())
        self.home = home
        seed = add_subscriber(home / "secrets", SUBSCRIBER)
        self.server = NatsServer(home / "nats", home / "secrets")
        (home / "edge.nk").write_text(seed)
        content = {"url": self.server.url, "nkey": "edge.nk", "inbox_prefix": inbox(SUBSCRIBER)}
        self.subscriber_file.write_text(json.dumps(content))
        write_operator_file(home / "bootstrap", home / "secrets", self.server.url)

    @property
    def subscriber(self) -> OperatorAccess:
        return OperatorAccess.read(self.subscriber_file, None)

    @property
    def operator(self) -> OperatorAccess:
        return OperatorAccess.read(self.home / "bootstrap" / "nats-operator.json", None)

    @property
    def subscriber_file(self) -> Path:
        return self.home / "edge.json"

    async def happens(self, verb: str, owner: object, noun: str = "certificate") -> None:
        place = Place(self.home, nats_url=self.server.url)
        payload = owner if isinstance(owner, bytes) else json.dumps({"owner": owner}).encode()
        await happen(place, [payload], f"certwire.events.{noun}.{verb}")


def look_in(url: str, path: Path) -> None:
    """Look at the project `shop` once. Raises OSError where that did not succeed."""
    said: list[str] = []
    watching = Watching(url, path / "trusted.crt", path / "api-key", ("shop",), path / "public")
    if not Watcher(path / "agent", watching, said.append).run_once():
        raise OSError("; ".join(said))
