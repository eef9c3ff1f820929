"""What each part is given: all that it needs, and nothing that others must keep from it."""

from pathlib import Path

import pytest

from contracts.subjects import Service
from services.cli.init import prepare
from services.provisioning.nats import ensure_certificate
from services.provisioning.parts import hand_out
from shared.settings import Settings

OPENS_SECRETS = {"kek", "root.passphrase", "nats-ca.key", "root.key"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    prepare(settings)
    return settings


def handed_out(settings: Settings) -> dict[str, set[str]]:
    directory = settings.home.parent / "parts"
    hand_out(settings, directory, [*Service])
    return {part.name: {file.name for file in part.iterdir()} for part in directory.iterdir()}


def test_each_part_has_its_own(settings: Settings) -> None:
    ensure_certificate(settings.home / "nats", settings.secrets, ["nats"])
    parts = handed_out(settings)
    assert parts.keys() == {*map(str, Service), "operator", "nats", "postgres"}
    assert parts["gateway"] == {"nats-gateway-bus.seed", "nats-ca.crt"}
    assert parts["audit"] == {
        "nats-audit-bus.seed",
        "nats-audit-streams.seed",
        "nats-ca.crt",
        "postgres-audit.password",
    }
    assert parts["issuer"] == {
        "kek",
        "nats-ca.crt",
        "nats-issuer-bus.seed",
        "nats-issuer-streams.seed",
        "postgres-issuer.password",
    }
    assert parts["acme"] == {
        "kek",
        "nats-acme-bus.seed",
        "nats-acme-streams.seed",
        "nats-ca.crt",
        "postgres-acme.password",
    }
    assert parts["operator"] == {
        "nats-ca.crt",
        "nats-cli-bus.seed",
        "nats-operator-readers.seed",
        "postgres-certwire_inspect.password",
    }
    assert parts["nats"] == {"accounts.conf", "ca.crt", "tls.crt", "tls.key"}
    assert parts["postgres"] == {"postgres-postgres.password"}


def test_nobody_has_a_key_for_nothing(settings: Settings) -> None:
    parts = handed_out(settings)
    holders = {part for part, files in parts.items() if files & OPENS_SECRETS}
    assert holders == {Service.ISSUER, Service.REGISTRY, Service.INSTANCE, Service.ACME}
    public = {"nats-ca.crt", "kek"}  # the second one is shared by those above
    owned = [file for files in parts.values() for file in files - public]
    assert len(owned) == len(set(owned))


@pytest.mark.parametrize(("name", "part"), [("pkcs11.pin", "issuer"), ("acme-eab.hmac", "acme")])
def test_what_an_operator_put_there_goes_to_the_part_that_needs_it(
    settings: Settings, name: str, part: str
) -> None:
    (settings.secrets / name).write_text("a secret of somebody else's")
    parts = handed_out(settings)
    assert {holder for holder, files in parts.items() if name in files} == {part}


def test_it_may_be_repeated_and_takes_what_is_new(settings: Settings) -> None:
    before = handed_out(settings)
    (settings.secrets / "kek").write_text("another")
    assert handed_out(settings) == before
    copy = settings.home.parent / "parts" / "issuer" / "kek"
    assert copy.read_text() == "another"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700
