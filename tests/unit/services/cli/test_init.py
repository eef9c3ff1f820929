"""`certwire init`: once, twice, and cut off after every step."""

import asyncio
import importlib
import inspect
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from services.cli import init
from services.cli.init import InitSettings, initialise, prepare
from services.registry.passwords import Passwords
from shared.files import write_private
from shared.x509 import public_key_der
from tests.support.command_line import CommandLine
from tests.support.registry import Crash, Tables
from tests.support.servers import Place, PostgresServer

BOOTSTRAP = {
    "admin.crt",
    "admin.key",
    "admin.p12",
    "admin.p12.password",
    "ca.crt",
    "nats-operator.json",
    "nats-operator.nk",
    "postgres-inspect.url",
    "superuser.json",
}
# Each is followed by the next, so a crash before one is a crash after the one above it.
STEPS = (
    "services.provisioning.postgres.provision_postgres",
    "services.provisioning.postgres.migrate_all",
    "services.issuer.bootstrap.create_platform_ca",
    "services.registry.store.claims.insert",
    "services.registry.admin.generate",
    "services.registry.admin.record",
    "services.registry.store.users.insert",
    "services.registry.store.platform.mark_initialised",
    "services.cli.bootstrap_files.write_ca",
    "services.cli.bootstrap_files.write_admin",
    "services.cli.bootstrap_files.write_superuser",
    "services.cli.bootstrap_files.write_connections",
)


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


@pytest.fixture
def settings(
    place: Place, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> InitSettings:
    """Return the settings of a home of its own, in this process's environment too."""
    environment = CommandLine.embedded(tmp_path / "home", place, postgres).environment
    for name in ("CERTWIRE_HOME", "CERTWIRE_SECRETS_DIR", "DATABASE_URL", "NATS_URL"):
        monkeypatch.setenv(name, environment[name])
    settings = InitSettings()
    prepare(settings)
    return settings


async def assert_complete(settings: InitSettings, tables: Tables) -> None:
    """Check that what was handed out is what is recorded."""
    directory = settings.home / "bootstrap"
    assert {file.name for file in directory.iterdir()} == BOOTSTRAP
    bundle = pkcs12.load_pkcs12(
        (directory / "admin.p12").read_bytes(),
        (directory / "admin.p12.password").read_bytes().strip(),
    )
    assert bundle.cert is not None
    certificate = bundle.cert.certificate
    current = "SELECT serial_hex FROM registry.admin_certificate WHERE state = 'current'"
    assert await tables.values(current) == [f"{certificate.serial_number:x}"]
    chain = x509.load_pem_x509_certificates((directory / "admin.crt").read_bytes())
    assert chain[0] == certificate
    key = load_pem_private_key((directory / "admin.key").read_bytes(), None)
    public_keys = (key.public_key(), certificate.public_key())
    assert len({public_key_der(each) for each in public_keys}) == 1  # type: ignore[arg-type]  # both P-256
    root, issuing = x509.load_pem_x509_certificates((directory / "ca.crt").read_bytes())
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    certificate.verify_directly_issued_by(issuing)
    superuser = json.loads((directory / "superuser.json").read_text())
    assert superuser.keys() == {"username", "password"}
    [stored] = await tables.values("SELECT password_hash FROM registry.users")
    assert await Passwords().verify(stored, superuser["password"], deadline=2**40)


async def test_everything_is_made_once(settings: InitSettings, tables: Tables) -> None:
    await initialise(settings)
    await assert_complete(settings, tables)
    directory = settings.home / "bootstrap"
    files = {file: file.read_bytes() for file in directory.iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    prepare(settings)
    await initialise(settings)
    assert {file: file.read_bytes() for file in directory.iterdir()} == files
    assert await tables.values("SELECT onboarding FROM registry.platform") == ["FRESH"]
    assert await tables.values("SELECT count(*) FROM issuer.ca") == [2]


@pytest.mark.parametrize(
    ("step", "moment"), [*((step, "before") for step in STEPS), (STEPS[-1], "after")]
)
async def test_a_run_that_was_cut_off_is_finished_by_the_next(
    settings: InitSettings,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    moment: str,
) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, step, moment)
        with pytest.raises(Crash):
            await initialise(settings)
    await initialise(settings)
    await assert_complete(settings, tables)
    assert await tables.values("SELECT count(*) FROM issuer.ca") == [2]
    states = await tables.values("SELECT state FROM registry.claim ORDER BY id")
    assert states[-1] == "recorded"
    assert set(states[:-1]) <= {"pending"}


def crash_at(monkeypatch: pytest.MonkeyPatch, step: str, moment: str) -> None:
    """Let the process end before or after the function named `step`."""
    monkeypatch.setattr(step, crashing(resolve(step), moment))


def resolve(step: str) -> Callable[..., Any]:
    module, name = step.rsplit(".", 1)
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def crashing(function: Callable[..., Any], moment: str) -> Callable[..., Any]:
    async def later(*arguments: object, **named: object) -> None:
        if moment == "after":
            await function(*arguments, **named)
        raise Crash

    def now(*arguments: object, **named: object) -> None:
        if moment == "after":
            function(*arguments, **named)
        raise Crash

    return later if inspect.iscoroutinefunction(function) else now


@pytest.mark.parametrize("number", range(4))
def test_secret_files_that_are_missing_are_made_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    settings = InitSettings(home=tmp_path / "home")
    written: list[Path] = []

    def write(path: Path, content: str | bytes) -> None:
        if len(written) == number:
            raise Crash
        written.append(path)
        write_private(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(init, "write_private", write)
        if number < 3:
            with pytest.raises(Crash):
                prepare(settings)
    before = {path: path.read_text() for path in settings.secrets.glob("*")} if written else {}
    prepare(settings)
    after = {path: path.read_text() for path in settings.secrets.iterdir()}
    assert before.items() <= after.items()
    prepare(settings)
    assert {path: path.read_text() for path in settings.secrets.iterdir()} == after
    assert stat.S_IMODE(settings.secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in after} == {0o600}


async def test_for_servers_elsewhere_each_part_gets_its_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    line = CommandLine.at(home, CERTWIRE_NATS_NAMES="nats.example, 10.0.0.2")
    refused = await line.run("init", "--hand-out", "../parts")
    assert refused.code == 2
    assert "--prepare" in refused.err
    for _ in range(2):
        done = await line.run("init", "--prepare", "--hand-out", "../parts")
        assert (done.code, done.out) == (0, ""), done.err
    certificate = x509.load_pem_x509_certificate((home / "nats" / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["nats.example"]
    assert (home / "root" / "root.key").is_file()
    assert (tmp_path / "parts" / "issuer" / "kek").read_bytes() == (
        home / "secrets" / "kek"
    ).read_bytes()


def test_secrets_that_somebody_else_mounted_are_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = InitSettings(home=tmp_path / "home")
    prepare(settings)
    settings.secrets.chmod(0o750)
    monkeypatch.setattr(os, "geteuid", lambda: settings.secrets.stat().st_uid + 1)
    prepare(settings)
    assert stat.S_IMODE(settings.secrets.stat().st_mode) == 0o750


async def test_cleared_secrets_do_not_come_back(settings: InitSettings) -> None:
    await initialise(settings)
    directory = settings.home / "bootstrap"
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    await initialise(settings)
    assert not directory.exists()


async def test_elsewhere_the_secrets_are_printed_once(
    settings: InitSettings, tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = settings.model_copy(update={"postgres_admin_url": settings.admin_url})
    assert not outside.embedded
    await initialise(outside, to_files=False)
    secrets = json.loads(capsys.readouterr().out)
    assert secrets.keys() == {
        "ca_crt",
        "admin_p12",
        "admin_p12_password",
        "admin_crt",
        "admin_key",
        "superuser",
    }
    assert not (settings.home / "bootstrap").exists()
    await initialise(outside, to_files=False)
    assert capsys.readouterr().out == ""
    assert await tables.values("SELECT count(*) FROM registry.admin_certificate") == [1]


async def test_onboarding_can_be_completed_at_once(settings: InitSettings, tables: Tables) -> None:
    await initialise(settings, complete_onboarding=True)
    assert await tables.values("SELECT onboarding FROM registry.platform") == ["COMPLETED"]
    await initialise(settings, complete_onboarding=True)


async def test_two_at_once_agree(
    bus_place: Place, postgres: PostgresServer, tmp_path: Path, tables: Tables
) -> None:
    line = CommandLine.embedded(tmp_path / "home", bus_place, postgres)
    first, second = await asyncio.gather(line.run("init"), line.run("init"))
    assert (first.code, second.code) == (0, 0), (first.err, second.err)
    await assert_complete(InitSettings(home=tmp_path / "home"), tables)
    assert await tables.values("SELECT count(*) FROM issuer.ca") == [2]


async def test_a_killed_process_is_no_obstacle(
    bus_place: Place, postgres: PostgresServer, tmp_path: Path, tables: Tables
) -> None:
    line = CommandLine.embedded(tmp_path / "home", bus_place, postgres)
    for seconds in (0.3, 0.6, 0.9):
        process = await line.start("init")
        await asyncio.sleep(seconds)
        if process.returncode is None:
            process.kill()
        await process.communicate()
    done = await line.run("init")
    assert done.code == 0, done.err
    await assert_complete(InitSettings(home=tmp_path / "home"), tables)


async def test_a_refused_administrator_is_told_which_setting_to_look_at(
    place: Place, postgres: PostgresServer, tmp_path: Path
) -> None:
    line = CommandLine.embedded(tmp_path / "home", place, postgres)
    wrong = {"CERTWIRE_POSTGRES_ADMIN_URL": postgres.superuser_url.replace("superuser@", "wrong@")}
    done = await CommandLine({**line.environment, **wrong}).run("init")
    assert done.code == 1
    assert "CERTWIRE_POSTGRES_ADMIN_URL" in done.err
    assert done.err.count("\n") == 1
