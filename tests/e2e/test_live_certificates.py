"""Public certificates on the hosts that serve them: pebble issues, a real nginx serves.

docs/live-certificates.md as it stands, with this test's paths and ports. While a certificate is
renewed visitors come without a pause, and each is answered.
"""

import asyncio
import json
import re
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.embedded import free_port
from shared import live_directory
from tests.support.client import Client, superuser
from tests.support.eventually import eventually
from tests.support.following import Following, has
from tests.support.live import keys
from tests.support.platform import Platform, home_directory
from tests.support.programs import path_of
from tests.support.public_platform import PublicPlatform, public_platform
from tests.support.visitors import STAYING, Visitors, site, visiting

DOCUMENT = Path(__file__).parents[2] / "docs" / "live-certificates.md"
EXAMPLE = re.compile(r"<!-- nginx -->\n```nginx\n(.*?)```", re.DOTALL)
AROUND = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes 2;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {example}
}}
"""
PROJECTS = "/api/v1/projects"
ISSUANCE = {"email": "admin@example.com", "challengeType": "http-01", "keyType": "ec"}
RENEWALS = 3


@dataclass(frozen=True)
class Delivering:
    """A platform with a live directory; `reload` is the script that its acme service runs."""

    public: PublicPlatform
    live_dir: Path
    reload: Path

    @property
    def platform(self) -> Platform:
        return self.public.platform


@pytest.fixture(scope="module")
def delivering() -> Iterator[Delivering]:
    path_of("nginx")
    with home_directory() as directory:
        live_dir, reload = directory / "public", directory / "reload"
        reload.write_text("#!/bin/sh\n")
        reload.chmod(0o755)
        with public_platform(
            CERTWIRE_ACME_LIVE_DIR=str(live_dir), CERTWIRE_ACME_RELOAD_COMMAND=str(reload)
        ) as public:
            yield Delivering(public, live_dir, reload)


@pytest.fixture
async def root(delivering: Delivering) -> AsyncIterator[Client]:
    """Return a superuser, who may do everything with projects."""
    async with superuser(delivering.platform) as root:
        yield root


@dataclass(frozen=True)
class Shop:
    """A project with a domain."""

    root: Client
    project: str
    domain: str

    @classmethod
    async def open(cls, root: Client, project: str) -> "Shop":
        """Make it."""
        domain = f"{project}.example.com"
        made = await root.call("POST", f"{PROJECTS}/create", {"id": project, "name": "A shop"})
        assert made.status_code == 201, made.text
        given = await root.call("POST", f"{PROJECTS}/{project}/domain", {"domain": domain})
        assert given.status_code == 200, given.text
        return cls(root, project, domain)

    async def certificate(self, what: str, body: object = None) -> dict[str, Any]:
        """Do something with its certificate, which has to succeed."""
        answer = await self.root.call(
            "POST", f"{PROJECTS}/{self.project}/certificate/{what}", body, timeout=100
        )
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def remove_certificate(self) -> None:
        answer = await self.root.call("DELETE", f"{PROJECTS}/{self.project}/certificate")
        assert answer.status_code == 200, answer.text


@dataclass(frozen=True)
class Nginx:
    """nginx as the page has it, and who visits it."""

    directory: Path
    port: int

    @property
    def reload_command(self) -> str:
        """Return what makes it read its files again."""
        words = [path_of("nginx"), "-p", self.directory, "-c", self.directory / "nginx.conf"]
        return shlex.join(map(str, [*words, "-s", "reload"]))


@asynccontextmanager
async def nginx(live_dir: Path, domain: str) -> AsyncIterator[Nginx]:
    """Serve a domain with the files of a live directory."""
    async with site() as behind:
        with home_directory() as directory:
            server = Nginx(directory, free_port())
            [example] = EXAMPLE.findall(DOCUMENT.read_text())
            for before, after in (
                ("listen 443 ssl", f"listen 127.0.0.1:{server.port} ssl"),
                ("/var/lib/certwire-watch/public", str(live_dir)),
                ("shop.example.com", domain),
                ("127.0.0.1:8090", f"127.0.0.1:{behind}"),
            ):
                assert before in example
                example = example.replace(before, after)
            configuration = directory / "nginx.conf"
            configuration.write_text(AROUND.format(directory=directory, example=example))
            words = [path_of("nginx"), "-p", str(directory), "-c", str(configuration)]
            with (directory / "out.log").open("wb") as log:
                process = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: ASYNC220 - it goes on
            try:
                await _listens(server, process)
                yield server
            finally:
                process.terminate()
                process.wait(10)


async def _listens(server: Nginx, process: "subprocess.Popen[bytes]") -> None:
    async def does() -> bool:
        assert process.poll() is None, (server.directory / "out.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(does, "nginx listens")


def trust(public: PublicPlatform) -> ssl.SSLContext:
    """Return the TLS of a browser that trusts the CA."""
    return ssl.create_default_context(cadata=public.authority.root())


async def shows_another(visitors: Visitors, than: str) -> str:
    """Wait until visitors are shown another certificate; return which."""

    async def it_does() -> str | None:
        shown = await visitors.certificate()
        return shown if shown != than else None

    return await eventually(it_does, "another certificate") or ""


# --- On a host of the acme service ----------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_a_renewal_is_served_without_a_dropped_request(
    delivering: Delivering, root: Client
) -> None:
    shop = await Shop.open(root, "own-host")
    await shop.certificate("obtain", ISSUANCE)
    async with nginx(delivering.live_dir, shop.domain) as server:
        delivering.reload.write_text(f"#!/bin/sh\nexec {server.reload_command}\n")
        async with visiting(server.port, shop.domain, trust(delivering.public)) as visitors:
            shown = [await visitors.certificate()]
            for _ in range(RENEWALS):
                said = await shop.certificate("renew")
                assert "warning" not in said
                shown.append(await shows_another(visitors, shown[-1]))
                await asyncio.sleep(0.5)
    assert visitors.dropped == []
    assert visitors.asked_again <= STAYING * RENEWALS  # nginx closes what is idle, once a reload
    assert len(set(shown)) == RENEWALS + 1
    assert set(visitors.answered) == set(shown)
    assert min(visitors.answered.values()) > 10, visitors.answered


async def test_with_its_project_the_files_go(delivering: Delivering, root: Client) -> None:
    shop = await Shop.open(root, "gone")
    delivering.reload.write_text("#!/bin/sh\n")
    await shop.certificate("obtain", ISSUANCE)
    live = delivering.live_dir / live_directory.path_of(shop.domain)
    assert live.exists()
    deleted = await root.call("DELETE", f"{PROJECTS}/{shop.project}")
    assert deleted.status_code == 200, deleted.text

    async def is_gone() -> bool:
        return not [path for path in keys(delivering.live_dir) if shop.domain in str(path)]

    await eventually(is_gone, "no key")
    assert not live.exists()


async def test_a_directory_that_cannot_be_written_is_a_warning_of_the_status(
    delivering: Delivering, root: Client
) -> None:
    """Somebody made the name of a domain a file; what other domains have goes on."""
    delivering.reload.write_text("#!/bin/sh\n")
    shop, other = await Shop.open(root, "blocked"), await Shop.open(root, "not-blocked")
    (delivering.live_dir / "archive").mkdir(parents=True, exist_ok=True)
    blocked = delivering.live_dir / "archive" / shop.domain
    blocked.touch()
    await shop.certificate("obtain", ISSUANCE)
    await other.certificate("obtain", ISSUANCE)
    assert (delivering.live_dir / live_directory.path_of(other.domain)).exists()

    async def warns() -> bool:
        said = json.loads((await delivering.platform.certwire("status", "--json")).out)
        return any(
            f"is not up to date for {shop.domain}" in warning for warning in said["warnings"]
        )

    async def is_silent() -> bool:
        return not await warns()

    await eventually(warns, "a warning")
    blocked.unlink()
    await eventually(is_silent, "no warning", seconds=30)
    assert (delivering.live_dir / live_directory.path_of(shop.domain)).exists()


# --- On another host ------------------------------------------------------------------------------


@asynccontextmanager
async def edge(
    delivering: Delivering, root: Client, host: Path, name: str, project: str, reload: Path
) -> AsyncIterator[Following]:
    """Run `certwire agent run --watch` as the page has it, on a host of its own."""
    body = {"name": name, "permissions": {"projects": "read", "keys": "read"}}
    made = await root.call("POST", "/api/v1/api-keys", body)
    assert made.status_code == 201, made.text
    (host / "api-key").write_text(made.json()["key"])
    (host / "api-key").chmod(0o600)
    await delivering.platform.succeed("subscriber", "add", name, "--directory", str(host))
    words = ["agent", "run", "--directory", str(host / "agent"), "--watch", project]
    words += ["--live-dir", str(host / "public"), "--reload-command", str(reload)]
    words += ["--url", delivering.platform.url, "--ca", str(delivering.platform.ca_file)]
    words += ["--api-key-file", str(host / "api-key"), "--nats-file", str(host / f"{name}.json")]
    process = await delivering.platform.line.start(*words)
    assert process.stdout
    try:
        yield Following(process.stdout)
    finally:
        process.terminate()
        await process.communicate()
        assert process.returncode == 0


@pytest.mark.timeout(300)
async def test_another_host_serves_a_renewal_without_a_dropped_request(
    delivering: Delivering, root: Client
) -> None:
    shop = await Shop.open(root, "other-host")
    delivering.reload.write_text("#!/bin/sh\n")
    await shop.certificate("obtain", ISSUANCE)
    with home_directory() as host:
        live_dir, reload = host / "public", host / "reload"
        reload.write_text("#!/bin/sh\n")
        reload.chmod(0o755)
        async with edge(delivering, root, host, "edge-1", shop.project, reload) as said:
            await said.until(has("the reload command has run"))
            async with nginx(live_dir, shop.domain) as server:
                reload.write_text(f"#!/bin/sh\nexec {server.reload_command}\n")
                await _renew_and_remove(delivering, shop, server, said)
        assert not keys(live_dir)
        status = await delivering.platform.succeed(
            "agent", "status", "--directory", str(host / "agent")
        )
        assert f"project      {shop.project}: no certificate" in status
    # A key was fetched with each certificate, and at no other time.
    exports = await delivering.platform.value(
        "SELECT count(*) FROM acme.outbox WHERE entry::jsonb->>'action' = $1"
        " AND entry::jsonb->'detail'->>'project_id' = $2",
        "cert_export_private_key",
        shop.project,
    )
    assert exports == 1 + RENEWALS


async def _renew_and_remove(
    delivering: Delivering, shop: Shop, server: Nginx, said: Following
) -> None:
    async with visiting(server.port, shop.domain, trust(delivering.public)) as visitors:
        shown = [await visitors.certificate()]
        for _ in range(RENEWALS):
            await shop.certificate("renew")
            shown.append(await shows_another(visitors, shown[-1]))
            await asyncio.sleep(0.5)
        # What is removed goes from the disk; nginx serves what it has, and the failure is said.
        await shop.remove_certificate()
        await said.until(has(f"the certificate of {shop.domain} is gone, and its files"))
        await said.until(has("the reload command: failed with exit code 1"))
        assert await visitors.certificate() == shown[-1]
    assert visitors.dropped == []
    assert visitors.asked_again <= STAYING * RENEWALS  # nginx closes what is idle, once a reload
    assert set(visitors.answered) == set(shown)
    assert min(visitors.answered.values()) > 10, visitors.answered
