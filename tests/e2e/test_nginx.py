"""The configuration in docs/nginx-auth-request.md, with a real nginx in front of a service."""

import asyncio
import re
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from services.embedded import free_port
from tests.e2e.conversations import http, say
from tests.support.agents import AGENTS, Agent, enrolled
from tests.support.authority import Authority
from tests.support.client import Client, tls_context
from tests.support.platform import Platform, home_directory
from tests.support.programs import path_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "nginx-auth-request.md"
EXAMPLE = re.compile(r"<!-- nginx -->\n```nginx\n(.*?)```", re.DOTALL)
AROUND = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
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


class Service(BaseHTTPRequestHandler):
    """What is behind nginx; it says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        names = ",".join(sorted(name.lower() for name in self.headers))
        content = f"{self.command} {self.path} {names}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_DELETE = do_GET  # noqa: N815 - the standard library's way to name methods

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def service() -> Iterator[int]:
    """Run the service; lend its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Proxy:
    """nginx, and those who call it."""

    port: int
    ca: Path

    def client(self, identity: str | None) -> httpx2.AsyncClient:
        """Return a caller with a certificate."""
        context = tls_context(self.ca, identity)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return httpx2.AsyncClient(
            base_url=f"https://localhost:{self.port}", verify=context, trust_env=False, timeout=30
        )

    async def status(self, agent: Agent | None, path: str, method: str = "GET") -> int:
        """Return what nginx answers."""
        async with self.client(agent.identity if agent else None) as client:
            return (await client.request(method, path)).status_code


@pytest.fixture
async def proxy(changing: Platform, chief: Client) -> AsyncIterator[Proxy]:
    """Run nginx with the documented configuration, with this test's paths and ports."""
    await chief.call("DELETE", f"{AGENTS}/edge-1")
    edge = await enrolled(chief, "edge-1")
    with home_directory() as directory, service() as behind:
        current = directory / "current"
        current.mkdir()
        key = edge.identity.removeprefix(edge.certificate_pem)
        (current / "client.crt").write_text(edge.certificate_pem)
        (current / "client.key").write_text(key)
        (directory / "ca.crt").write_text(changing.ca_file.read_text())
        own = Authority("Web").client("files.example.com")
        own.write(directory / "files.pem")
        port = free_port()
        [example] = EXAMPLE.findall(DOCUMENT.read_text())
        for before, after in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/nginx/tls/files.crt", f"{directory}/files.pem"),
            ("/etc/nginx/tls/files.key", f"{directory}/files.pem"),
            ("/var/lib/certwire-agent", str(directory)),
            ("127.0.0.1:8090", f"127.0.0.1:{behind}"),
            ("localhost:8443", f"127.0.0.1:{changing.https_port}"),
        ):
            assert before in example
            example = example.replace(before, after)
        configuration = directory / "nginx.conf"
        configuration.write_text(AROUND.format(directory=directory, example=example))
        words = [path_of("nginx"), "-p", str(directory), "-c", str(configuration)]
        with (directory / "out.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: ASYNC220 - it goes on
        try:
            await _listens(port, process, directory)
            yield Proxy(port, changing.ca_file)
        finally:
            process.terminate()
            process.wait(10)


async def _listens(port: int, process: "subprocess.Popen[bytes]", directory: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, (directory / "out.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError((directory / "error.log").read_text())


async def test_nginx_lets_in_who_may_and_nobody_else(
    changing: Platform, chief: Client, proxy: Proxy
) -> None:
    reader = await enrolled(chief, None, "sites:read", sites=("blog",))
    writer = await enrolled(chief, None, "sites:read", "sites:write", sites=("blog", "docs"))
    none = await enrolled(chief)
    for agent, path, method, status in (
        (reader, "/sites/blog/index.html", "GET", 200),
        (reader, "/sites/blog/index.html", "HEAD", 501),  # the service has no HEAD: it was asked
        (reader, "/sites/docs/index.html", "GET", 403),
        (reader, "/sites/blog/index.html", "DELETE", 403),
        (writer, "/sites/docs/index.html", "DELETE", 200),
        (none, "/sites/blog/index.html", "GET", 403),
        (None, "/sites/blog/index.html", "GET", 400),  # nginx: no certificate was sent
        (reader, "/sites/a%26site=blog/x", "GET", 404),
        (reader, "/sites/../sites/blog/x", "GET", 200),
        (reader, "/_authorize?capability=tunnels:read", "GET", 404),  # internal
        (reader, "/sites/blog/x?site=docs&capability=tunnels:read", "GET", 200),
        (none, "/sites/blog/x?site=docs&capability=tunnels:read", "GET", 403),
    ):
        assert await proxy.status(agent, path, method) == status, (path, method)

    change = {"allowedSites": ["docs"]}
    await chief.call("PATCH", f"{AGENTS}/{reader.label}/allowed-sites", change)
    assert await proxy.status(reader, "/sites/blog/index.html") == 403
    assert await proxy.status(reader, "/sites/docs/index.html") == 200
    await chief.call("DELETE", f"{AGENTS}/{writer.label}")
    assert await proxy.status(writer, "/sites/docs/index.html") == 403
    assert changing.url


async def test_a_header_of_the_client_goes_nowhere(chief: Client, proxy: Proxy) -> None:
    reader = await enrolled(chief, None, "sites:read", sites=("blog",))
    none = await enrolled(chief)
    forged = {"Client-Cert": _escaped(reader.certificate_pem)}
    async with proxy.client(none.identity) as client:
        answer = await client.get("/sites/blog/x", headers=forged)
        assert answer.status_code == 403
    async with proxy.client(reader.identity) as client:
        answer = await client.get("/sites/blog/x", headers=forged)
        assert answer.status_code == 200
        assert "client-cert" not in answer.text


def _escaped(pem: str) -> str:
    return pem.replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B").replace("/", "%2F")


async def test_only_the_proxy_is_believed(changing: Platform, chief: Client, proxy: Proxy) -> None:
    """The same question from another agent is about that agent."""
    reader = await enrolled(chief, None, "sites:read", sites=("blog",))
    other = await enrolled(chief)
    path = f"{AGENTS}/authorize?capability=sites:read&site=blog"
    header = f"Client-Cert: {_escaped(reader.certificate_pem)}"
    answer = await say(changing, http("GET", path, b"", header), other.identity)
    assert answer.status == 403
    answer = await say(changing, http("GET", path, b"", header))
    assert answer.status == 403
    assert await proxy.status(reader, "/sites/blog/x") == 200


async def test_a_revoked_proxy_is_believed_no_more(chief: Client, proxy: Proxy) -> None:
    reader = await enrolled(chief, None, "sites:read", sites=("blog",))
    assert await proxy.status(reader, "/sites/blog/x") == 200
    await chief.call("DELETE", f"{AGENTS}/edge-1")
    assert await proxy.status(reader, "/sites/blog/x") == 403


async def test_without_the_platform_nobody_is_let_in(
    changing: Platform, chief: Client, proxy: Proxy
) -> None:
    reader = await enrolled(chief, None, "sites:read", sites=("blog",))
    with changing.held("registry"):
        async with proxy.client(reader.identity) as client:
            answer = await client.get("/sites/blog/x", timeout=60)
    assert answer.status_code == 500
