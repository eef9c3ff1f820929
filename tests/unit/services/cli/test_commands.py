"""Commands against real services over real NATS: registry and issuer run, the others do not."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from services.issuer import app as issuer
from services.issuer.settings import IssuerSettings
from services.registry import app as registry
from services.registry.settings import RegistrySettings
from tests.support.command_line import CommandLine
from tests.support.registry import Tables
from tests.support.running import running
from tests.support.servers import Place, PostgresServer

CURRENT = "SELECT fingerprint FROM registry.admin_certificate WHERE state = 'current'"

TOLD = """
SELECT count(*) FROM issuer.certificate WHERE fingerprint = $1 AND revoked_at IS NOT NULL
"""


@dataclass(frozen=True)
class Stack:
    """A home with the services that it needs here."""

    line: CommandLine
    home: Path
    place: Place
    tables: Tables

    @asynccontextmanager
    async def services(self) -> AsyncIterator[None]:
        """Run registry and issuer in this process."""
        place = Place(self.home, self.place.database_url, self.place.nats_url)
        others = {"CERTWIRE_SECRETS_DIR": self.place.home / "secrets"}
        async with (
            running(await issuer.build(place.settings(IssuerSettings, **others))),
            running(await registry.build(place.settings(RegistrySettings, **others))),
        ):
            yield


@pytest.fixture
async def stack(
    bus_place: Place, postgres: PostgresServer, tmp_path: Path, database_url: str
) -> Stack:
    home = tmp_path / "home"
    line = CommandLine.embedded(home, bus_place, postgres)
    done = await line.run("init")
    assert done.code == 0, done.err
    return Stack(line, home, bus_place, Tables(postgres, database_url))


async def test_a_reset_writes_the_file_and_prints_the_password(stack: Stack) -> None:
    [old] = await stack.tables.values(CURRENT)
    output = stack.home / "new.p12"
    async with stack.services():
        done = await stack.line.run("admin", "reset", "--output", str(output))
        async with asyncio.timeout(10):
            while await stack.tables.values(TOLD, old) != [1]:  # noqa: ASYNC110 - in the database
                await asyncio.sleep(0.1)
    assert done.code == 0, done.err
    printed = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    bundle = pkcs12.load_pkcs12(output.read_bytes(), printed["password"].encode())
    assert bundle.cert is not None
    assert f"{bundle.cert.certificate.serial_number:X}" == printed["serial"]
    [new] = await stack.tables.values(CURRENT)
    assert new != old
    beside = stack.home / "bootstrap"
    assert (beside / "admin.p12").read_bytes() == output.read_bytes()
    assert (beside / "admin.p12.password").read_text().strip() == printed["password"]


@pytest.mark.parametrize("output", [".", "nowhere/new.p12"])
async def test_a_reset_that_could_not_be_written_is_not_begun(stack: Stack, output: str) -> None:
    async with stack.services():
        done = await stack.line.run("admin", "reset", "--output", output)
    assert done.code == 2
    assert done.err == f"certwire: {output} can't be written\n"
    assert len(await stack.tables.values("SELECT 1 FROM registry.claim")) == 1


async def test_status_names_what_is_not_there(stack: Stack) -> None:
    async with stack.services():
        done = await stack.line.run("status", "--json")
        table = await stack.line.run("status")
    assert done.code == table.code == 1
    report = json.loads(done.out)
    assert report["ready"] is False
    parts = {part["service"]: part for part in report["parts"]}
    ready = {name for name, part in parts.items() if part["ready"]}
    assert ready == {"postgres", "nats", "issuer", "registry"}
    assert parts["gateway"]["missing"] == ["it does not run"]
    assert parts["registry"]["outbox_waiting"] is not None
    assert parts["nats"]["version"].count(".") == 2
    assert any("certwire onboarding complete" in warning for warning in report["warnings"])
    assert any("certwire bootstrap clear" in warning for warning in report["warnings"])
    assert table.out.splitlines()[0].split() == ["PART", "VERSION", "STATE", "WAITING", "MISSING"]


async def test_onboarding_is_completed_again_and_again(stack: Stack) -> None:
    async with stack.services():
        for _ in range(2):
            done = await stack.line.run("onboarding", "complete")
            assert (done.code, done.out) == (0, "onboarding is completed\n"), done.err
    onboarding = await stack.tables.values("SELECT onboarding FROM registry.platform")
    assert onboarding == ["COMPLETED"]


async def test_the_platforms_cas_are_listed_and_printed(stack: Stack) -> None:
    async with stack.services():
        listed = await stack.line.run("ca", "list", "--json")
        table = await stack.line.run("ca", "list")
        shown = await stack.line.run("ca", "show")
        root = await stack.line.run("ca", "show", "root")
        nobody = await stack.line.run("ca", "show", "nobody")
    names = [row["subject"] for row in json.loads(listed.out)]
    assert len(names) == 2
    assert all(name in table.out for name in names)
    assert shown.out == (stack.home / "bootstrap" / "ca.crt").read_text()
    [certificate] = x509.load_pem_x509_certificates(root.out.encode())
    assert certificate.subject == certificate.issuer
    assert (nobody.code, nobody.out) == (1, "")
    assert nobody.err == "certwire: no CA fits 'nobody': see `certwire ca list`\n"


async def test_the_bootstrap_secrets_are_removed(stack: Stack) -> None:
    assert (stack.home / "bootstrap").is_dir()
    for _ in range(2):
        assert (await stack.line.run("bootstrap", "clear")).code == 0
        assert not (stack.home / "bootstrap").exists()


async def test_services_that_do_not_run_are_told_from_a_platform_that_does_not(
    stack: Stack, tmp_path: Path
) -> None:
    done = await stack.line.run("admin", "reset", "--output", str(tmp_path / "new.p12"))
    assert (done.code, done.err) == (1, "certwire: the registry service is unavailable\n")
    away = CommandLine({**stack.line.environment, "NATS_URL": "nats://127.0.0.1:9"})
    done = await away.run("onboarding", "complete")
    assert done.code == 1
    assert done.err == (
        "certwire: the platform does not answer at nats://127.0.0.1:9: is it running?\n"
    )
    done = await away.run("status", "--json")
    assert done.code == 1
    assert json.loads(done.out)["parts"][1]["ready"] is False


async def test_a_home_without_keys_is_named(tmp_path: Path) -> None:
    line = CommandLine.at(tmp_path, NATS_URL="nats://127.0.0.1:9")
    done = await line.run("onboarding", "complete")
    assert done.code == 1
    assert done.err.startswith(f"certwire: there are no keys in {tmp_path}/secrets: ")
    status = await line.run("status")
    assert status.code == 1
    assert "not ready" in status.out
    assert status.err == ""


async def test_migrate_says_what_it_did(stack: Stack) -> None:
    done = await stack.line.run("migrate")
    assert done.code == 0, done.err
    assert "registry: up to date" in done.out.splitlines()
