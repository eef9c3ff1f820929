"""Keys, permissions and configuration, without a server."""

import json
import stat
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no annotations
import pytest

from contracts.events import Event
from contracts.messages import Command, Done
from contracts.subjects import EVENT_SOURCES, Service, comes_from_a_client
from services.provisioning.nats import (
    ConfigurationError,
    Server,
    TlsFiles,
    add_subscriber,
    ensure_seeds,
    remove_subscriber,
    users,
    write_configuration,
    write_operator_file,
)
from services.provisioning.nats.configuration import is_loopback, render_server
from services.provisioning.nats.keys import public_key, subscribers
from services.provisioning.nats.permissions import Account, User, commands


def test_seeds_are_made_once_and_for_us_alone(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    ensure_seeds(secrets, users())
    seeds = {path.name: path.read_text() for path in secrets.iterdir()}
    assert "nats-issuer-bus.seed" in seeds
    assert "nats-issuer-streams.seed" in seeds
    assert "nats-operator-readers.seed" in seeds
    assert len(set(seeds.values())) == len(seeds) == len(users())
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    ensure_seeds(secrets, users())
    assert {path.name: path.read_text() for path in secrets.iterdir()} == seeds


def test_a_seed_signs_for_its_public_key(tmp_path: Path) -> None:
    seed = add_subscriber(tmp_path, "orchestrator")
    pair = nkeys.from_seed(seed.encode())
    assert pair.verify(b"nonce", pair.sign(b"nonce"))
    assert subscribers(tmp_path) == {"orchestrator": public_key(seed)}
    assert public_key(seed).startswith("U")


def test_a_subscribers_seed_is_not_kept(tmp_path: Path) -> None:
    seed = add_subscriber(tmp_path, "orchestrator")
    assert all(seed not in path.read_text() for path in tmp_path.iterdir())
    with pytest.raises(FileExistsError):
        add_subscriber(tmp_path, "orchestrator")
    remove_subscriber(tmp_path, "orchestrator")
    assert subscribers(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["", "a.b", "*", ">", "Upper", "-a", "a-", "a" * 33, "operator", "issuer", "../x", "a\n"],
)
def test_a_subscriber_has_a_harmless_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="can't name a subscriber"):
        add_subscriber(tmp_path, name)


def test_commands_outside_the_contracts_grant_nothing() -> None:
    class Planted(Command[Done]):
        SUBJECT = "certwire.issuer.planted.sign"
        REPLY = Done

    assert Planted.SUBJECT not in commands()


def test_every_event_has_a_source() -> None:
    def nouns(event: type[Event]) -> set[str]:
        own = {event.NOUN} if hasattr(event, "NOUN") else set()
        return own.union(*map(nouns, event.__subclasses__()))

    assert nouns(Event) <= set(EVENT_SOURCES)


def test_only_the_instance_service_answers_other_accounts() -> None:
    granted = users(("orchestrator",))
    may = {user for user, permissions in granted.items() if "_R_.>" in permissions.publish}
    assert may == {User(Service.INSTANCE, Account.BUS)}


def test_no_permission_has_a_wildcard_for_a_service() -> None:
    for user, permissions in users(("orchestrator",)).items():
        for subject in permissions.publish:
            assert not subject.startswith((">", "*", "certwire.>", "certwire.*"))
            if user.account is Account.BUS:
                assert ">" not in subject.removesuffix(".>") or subject.startswith("_")


def test_the_configuration_holds_public_keys_only(tmp_path: Path) -> None:
    ensure_seeds(tmp_path / "secrets", users())
    main = write_configuration(
        tmp_path / "nats", tmp_path / "secrets", Server(port=4222, store=tmp_path / "store")
    )
    accounts = (main.parent / "accounts.conf").read_text()
    for path in (tmp_path / "secrets").iterdir():
        assert path.read_text().strip() not in accounts + main.read_text()
        assert public_key(path.read_text().strip()) in accounts
    assert json.loads(accounts.removeprefix("accounts: ")).keys() == {"BUS", "STREAMS", "READERS"}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "nats.example.org", ""])  # noqa: S104 - to be refused
def test_off_loopback_there_is_no_configuration_without_tls(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="TLS"):
        render_server(Server(port=4222, store=tmp_path, host=host))
    tls = TlsFiles(tmp_path / "nats.crt", tmp_path / "nats.key")
    assert '"min_version": "1.3"' in render_server(
        Server(port=4222, store=tmp_path, host=host, tls=tls)
    )


def test_loopback_is_known_by_address_and_name() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.8.8.8")
    assert is_loopback("::1")
    assert is_loopback("localhost")


def test_the_operator_finds_everything_in_one_file(tmp_path: Path) -> None:
    ensure_seeds(tmp_path / "secrets", users())
    path = write_operator_file(tmp_path / "bootstrap", tmp_path / "secrets", "nats://127.0.0.1:1")
    content = json.loads(path.read_text())
    assert content["url"] == "nats://127.0.0.1:1"
    assert content["inbox_prefix"] == "_INBOX_operator"
    seed = Path(content["nkey"])
    assert seed.parent == path.parent
    assert seed.read_text() == (tmp_path / "secrets/nats-operator-readers.seed").read_text()
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("request_info", "client"),
    [
        ('{"acc":"READERS","user":"U","kind":"Client"}', True),
        ('{"acc":"READERS","kind":"JetStream"}', False),
        ('{"acc":"READERS"}', False),
        ("[]", False),
        ("{", False),
        ("", False),
        (None, False),
    ],
)
def test_jetstream_is_no_client(request_info: str | None, client: bool) -> None:  # noqa: FBT001 - a case
    assert comes_from_a_client(request_info) is client
