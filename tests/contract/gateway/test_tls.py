"""TLS as clients meet it: openssl and curl against a running gateway, and its own certificate."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import RenewCertificate
from contracts.issuer import GetPlatformCa, SignGatewayCertificate
from contracts.registry import ResolveCredentials
from services.gateway import tls
from services.gateway.app import Gateway
from tests.contract.gateway.messages import RENEW, RENEW_BODY, SIGNED
from tests.nats_server import NatsHome
from tests.support.authority import CLIENT, SERVER, Authority, Leaf
from tests.support.stand_in import (
    StandIn,
    client,
    client_context,
    gateway_settings,
    running_gateway,
    standing_in,
)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for news often."""
    monkeypatch.setattr(tls, "REFRESH_SECONDS", 0.2)


@dataclass
class Clients:
    """The programs that people use, with files to give them."""

    port: int
    directory: Path

    async def s_client(self, *options: str) -> str:
        """Return what `openssl s_client` prints."""
        return await self._run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{self.port}",
            "-CAfile", str(self.directory / "ca.crt"), *options,
        )  # fmt: skip

    async def curl(self, path: str, *options: str) -> str:
        """Return curl's exit code and the last status, as in `0 401`."""
        url = f"https://localhost:{self.port}{path}"
        printed = await self._run(
            "curl", "--silent", "--show-error", "--cacert", str(self.directory / "ca.crt"),
            "--output", "/dev/null", "--write-out", "%{exitcode} %{http_code}", *options, url,
        )  # fmt: skip
        return printed.splitlines()[-1]

    async def _run(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "no_proxy": "*"},
        )
        async with asyncio.timeout(30):
            printed, _ = await process.communicate()
        return printed.decode()

    def file(self, leaf: Leaf) -> str:
        """Return the file that holds a certificate with its key."""
        return str(leaf.write(self.directory / f"{leaf.sha256[:8]}.pem"))


@pytest.fixture
def clients(gateway: Gateway, stand_in: StandIn, tmp_path: Path) -> Clients:
    directory = tmp_path / "clients"
    directory.mkdir()
    (directory / "ca.crt").write_text(stand_in.authority.ca_pem)
    return Clients(gateway.https.port, directory)


# --- The handshake ----------------------------------------------------------------------------


async def test_speaks_tls_1_3_and_its_chain_verifies(clients: Clients) -> None:
    printed = await clients.s_client("-verify_hostname", "localhost")
    assert "Protocol version: TLSv1.3" in printed or "TLSv1.3" in printed
    assert "Verification: OK" in printed or "Verify return code: 0 (ok)" in printed


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1"])
async def test_refuses_older_versions(clients: Clients, version: str) -> None:
    printed = await clients.s_client(version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert "Cipher is (NONE)" in printed or "alert protocol version" in printed


async def test_offers_no_session_to_resume(clients: Clients, tmp_path: Path) -> None:
    session = tmp_path / "session"
    curl_free = "GET / HTTP/1.0\r\n\r\n"
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{clients.port}", "-quiet",
        "-sess_out", str(session),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate(curl_free.encode())
    assert printed.startswith(b"HTTP/1.1 404")
    assert not session.exists()


async def test_asks_for_a_certificate_and_does_without(clients: Clients) -> None:
    assert await clients.curl("/nothing") == "0 404"


async def test_certificates_of_ours_come_through(clients: Clients, stand_in: StandIn) -> None:
    leaf = stand_in.authority.client()
    assert await clients.curl("/nothing", "--cert", clients.file(leaf)) == "0 404"


class Strangers:
    """Certificates that must not come through."""

    @staticmethod
    def foreign(_ours: Authority) -> Leaf:
        return Authority().client()

    @staticmethod
    def expired(ours: Authority) -> Leaf:
        return ours.client(lifetime=timedelta(seconds=-5))

    @staticmethod
    def not_yet_valid(ours: Authority) -> Leaf:
        return ours.client(age=timedelta(hours=-1), lifetime=timedelta(hours=2))

    @staticmethod
    def for_servers_only(ours: Authority) -> Leaf:
        return ours.client(usage=SERVER)


@pytest.mark.parametrize(
    "stranger",
    [Strangers.foreign, Strangers.expired, Strangers.not_yet_valid, Strangers.for_servers_only],
)
async def test_other_certificates_end_in_the_handshake(
    clients: Clients, stand_in: StandIn, stranger: Callable[[Authority], Leaf]
) -> None:
    leaf = stranger(stand_in.authority)
    exit_code, status = (await clients.curl("/x", "--cert", clients.file(leaf))).split()
    assert (int(exit_code) != 0, status) == (True, "000")


async def test_a_certificate_of_the_same_name_from_another_ca_is_foreign(
    clients: Clients, stand_in: StandIn
) -> None:
    stranger = Authority("Test")  # the same subjects, other keys
    assert stranger.issuing.subject == stand_in.authority.issuing.subject
    printed = await clients.curl("/x", "--cert", clients.file(stranger.client()))
    assert printed.endswith(" 000")


async def test_one_connection_carries_many_requests(clients: Clients, stand_in: StandIn) -> None:
    stand_in.says({RenewCertificate: SIGNED})
    context = client_context(stand_in.authority, stand_in.authority.client())
    reader, writer = await asyncio.open_connection("localhost", clients.port, ssl=context)
    for _ in range(5):
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        while (await reader.readline()).strip():
            pass
        await reader.readexactly(34)
    writer.close()


# --- A certificate that ends while the connection is open --------------------------------------


async def test_an_open_connection_does_not_outlive_its_certificate(
    gateway: Gateway, stand_in: StandIn
) -> None:
    """And the registry hears of it, so that it is on the audit log."""
    stand_in.says({RenewCertificate: SIGNED})
    leaf = stand_in.authority.client(lifetime=timedelta(seconds=3))
    ends = leaf.certificate.not_valid_after_utc.timestamp()
    async with client(gateway, stand_in.authority, leaf) as connection:
        assert (await connection.post(RENEW, json=RENEW_BODY)).status_code == 200
        while time.time() < ends + 0.1:
            await connection.get("/nothing")  # keeps the connection open
            await asyncio.sleep(0.2)
        answer = await connection.post(RENEW, json=RENEW_BODY)
    assert answer.status_code == 401
    assert len(stand_in.heard_of(RenewCertificate)) == 1
    assert stand_in.heard_of(ResolveCredentials)[0].questions[0].credential.sha256 == leaf.sha256


# --- The gateway's own certificate --------------------------------------------------------------


async def shown(port: int, authority: Authority) -> x509.Certificate:
    """Return the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(authority), server_hostname="localhost"
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


async def eventually_shown(
    port: int, authority: Authority, other_than: x509.Certificate
) -> x509.Certificate:
    certificates = []

    async def another() -> bool:
        certificates.append(await shown(port, authority))
        return certificates[-1] != other_than

    await eventually(another)
    return certificates[-1]


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def twice_asked(stand_in: StandIn) -> None:
    """Return once two certificates were asked for."""

    async def asked() -> bool:
        return len(stand_in.heard_of(SignGatewayCertificate)) >= 2

    await eventually(asked)


async def test_keeps_its_certificate_over_a_restart_even_without_an_issuer(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> None:
    settings = gateway_settings(nats_home, tmp_path)
    async with standing_in(nats_home, stand_in), running_gateway(settings) as gateway:
        first = await shown(gateway.https.port, stand_in.authority)
    for name in ("server.pem", "ca.crt"):
        assert (tmp_path / "gateway" / name).stat().st_mode & 0o777 == 0o600
    async with running_gateway(settings) as gateway:
        assert await shown(gateway.https.port, stand_in.authority) == first
    async with standing_in(nats_home, stand_in), running_gateway(settings) as gateway:
        assert await shown(gateway.https.port, stand_in.authority) == first
    assert len(stand_in.heard_of(SignGatewayCertificate)) == 1


async def test_renews_at_two_thirds_of_its_life_without_a_restart(
    gateway: Gateway, stand_in: StandIn
) -> None:
    first = await shown(gateway.https.port, stand_in.authority)
    await asyncio.sleep(0.5)
    assert len(stand_in.heard_of(SignGatewayCertificate)) == 1
    gateway.tls._shown = tls.Shown(_old(stand_in.authority))
    second = await eventually_shown(gateway.https.port, stand_in.authority, first)
    assert second.public_key() != first.public_key()


def _old(authority: Authority) -> x509.Certificate:
    """Return a certificate of which a bit more than two thirds have passed."""
    return authority.client(age=timedelta(hours=21), lifetime=timedelta(hours=10)).certificate


async def test_asks_again_under_the_same_claim_until_it_has_an_answer(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.answers[SignGatewayCertificate] = CertwireError(ErrorCode.UNAVAILABLE)
    gateway = Gateway(gateway_settings(nats_home, tmp_path))
    async with standing_in(nats_home, stand_in):
        starting = asyncio.create_task(gateway.start())
        await twice_asked(stand_in)
        assert not starting.done()
        del stand_in.answers[SignGatewayCertificate]
        async with asyncio.timeout(20):
            await starting
        await gateway.stop()
    asked = stand_in.heard_of(SignGatewayCertificate)
    assert len({(command.claim_id, command.csr_pem) for command in asked}) == 1


async def test_a_platform_with_other_cas_is_adopted(
    gateway: Gateway, stand_in: StandIn, clients: Clients
) -> None:
    """A new issuing CA is trusted, and a certificate that no CA signed any more is replaced."""
    first = await shown(gateway.https.port, stand_in.authority)
    stand_in.authority = Authority("Another")
    (clients.directory / "ca.crt").write_text(stand_in.authority.ca_pem)
    await twice_asked(stand_in)

    async def verifies() -> bool:
        with suppress(ssl.SSLError):
            return await shown(gateway.https.port, stand_in.authority) != first
        return False

    await eventually(verifies)
    leaf = stand_in.authority.client(usage=CLIENT)
    assert await clients.curl("/x", "--cert", clients.file(leaf)) == "0 404"


@pytest.fixture
async def configured(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> AsyncIterator[tuple[Path, Gateway]]:
    """Run with files of the operator's own."""
    (tmp_path / "tls.crt").write_text("")
    (tmp_path / "tls.key").write_text("")
    _write_configured(tmp_path, stand_in.authority)
    settings = gateway_settings(
        nats_home,
        tmp_path,
        tls_certificate=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.key",
    )
    async with standing_in(nats_home, stand_in), running_gateway(settings) as gateway:
        yield tmp_path, gateway


def _write_configured(directory: Path, authority: Authority) -> None:
    request = tls.CertificateRequest.new()
    chain = authority.server_chain(request.command.csr_pem)
    (directory / "tls.key").write_bytes(request.key_pem)
    (directory / "tls.crt").write_text(chain)


async def test_configured_files_are_shown_and_followed(
    configured: tuple[Path, Gateway], stand_in: StandIn
) -> None:
    directory, gateway = configured
    first = await shown(gateway.https.port, stand_in.authority)
    assert first == x509.load_pem_x509_certificates((directory / "tls.crt").read_bytes())[0]
    assert not stand_in.heard_of(SignGatewayCertificate)
    _write_configured(directory, stand_in.authority)
    second = await eventually_shown(gateway.https.port, stand_in.authority, first)
    assert second == x509.load_pem_x509_certificates((directory / "tls.crt").read_bytes())[0]


async def test_broken_files_do_not_take_the_good_certificate_away(
    configured: tuple[Path, Gateway], stand_in: StandIn
) -> None:
    directory, gateway = configured
    first = await shown(gateway.https.port, stand_in.authority)
    (directory / "tls.crt").write_text("nonsense")

    async def warned() -> bool:
        return bool((await gateway.status()).warnings)

    await eventually(warned)
    assert await shown(gateway.https.port, stand_in.authority) == first


# --- Before there is an issuer -------------------------------------------------------------------


async def test_waits_for_the_issuer_and_says_so(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> None:
    gateway = Gateway(gateway_settings(nats_home, tmp_path))
    starting = asyncio.create_task(gateway.start())
    public = f"http://127.0.0.1:{gateway.http.port}/readyz"

    async with httpx2.AsyncClient(trust_env=False) as anybody:

        async def answers() -> bool:
            with suppress(httpx2.ConnectError):
                return bool((await anybody.get(public)).text)
            return False

        async def ready() -> bool:
            return (await anybody.get(public)).status_code == 200

        await eventually(answers)
        answer = await anybody.get(public)
        assert (answer.status_code, answer.text) == (503, "not ready\n")
        missing = (await gateway.status()).missing
        assert {"the platform's CA certificates", "a server certificate"} <= set(missing)
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", gateway.https.port)
        async with standing_in(nats_home, stand_in):
            await starting
            await eventually(ready)
            await gateway.stop()
    assert stand_in.heard_of(GetPlatformCa)
