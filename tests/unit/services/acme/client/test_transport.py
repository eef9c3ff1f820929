"""HTTPS to a CA that breaks every rule below ACME: refused in bounded time, nothing else asked."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.acme.client import Account, AcmeClient, CaMisbehaves, CaUnavailable, http_client
from services.acme.client.transport import JSON_BYTES
from shared import VERSION
from tests.support.hostile_ca import (
    CHAIN,
    HostileCa,
    Reply,
    address_of,
    hostile_ca,
    serving,
)
from tests.support.pebble import LOOPBACK
from tests.unit.services.acme.client.conftest import IMPATIENT_SECONDS, Elsewhere

GIVEN_UP_SECONDS = 10 * IMPATIENT_SECONDS
"""Generous, for a busy machine; nothing here would ever end by itself."""
MEBIBYTE = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def test_asks_plainly(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    hostile.replies["/dir"] = Reply(hostile.directory, headers=[("Set-Cookie", "id=1; Path=/")])
    await client.directory()
    await client.order(account, hostile.url("order"))
    directory, nonce, order = hostile.asked
    assert [each.method for each in hostile.asked] == ["GET", "HEAD", "POST"]
    for request in (directory, nonce, order):
        assert request.headers["user-agent"] == f"certwire/{VERSION}"
        assert request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers
    assert order.headers["content-type"] == "application/jose+json"
    assert hostile.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    hostile: HostileCa, client: AcmeClient, elsewhere: Elsewhere, status: int
) -> None:
    to = f"https://{elsewhere.address}/dir"
    hostile.replies["/dir"] = Reply(status=status, headers=[("Location", to)])
    with pytest.raises(CaMisbehaves, match="redirects"):
        await client.directory()
    hostile.replies["/dir"] = Reply(status=status, headers=[("Location", hostile.url("order"))])
    with pytest.raises(CaMisbehaves, match="redirects"):
        await client.directory()
    assert {request.path for request in hostile.asked} == {"/dir"}


@pytest.mark.parametrize("url", ["http://{}/order", "https://{}/order", "order", ""])
async def test_no_address_elsewhere_is_asked(
    hostile: HostileCa, client: AcmeClient, account: Account, elsewhere: Elsewhere, url: str
) -> None:
    await client.directory()
    with pytest.raises(CaMisbehaves, match="elsewhere"):
        await client.order(account, url.format(elsewhere.address))
    assert not hostile.asked_at("/order")


async def test_a_large_body_is_not_read(hostile: HostileCa, client: AcmeClient) -> None:
    written = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD + f"Content-Length: {1024 * MEBIBYTE}\r\n\r\n".encode())
        for _ in range(1024):
            writer.write(b" " * MEBIBYTE)
            written += 1
            await writer.drain()

    hostile.replies["/dir"] = Reply(raw=pour)
    with pytest.raises(CaMisbehaves, match=f"larger than {JSON_BYTES} octets"):
        await client.directory()
    assert written < 64


async def test_an_endless_body_is_not_read_to_its_end(
    hostile: HostileCa, client: AcmeClient
) -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            await writer.drain()

    hostile.replies["/dir"] = Reply(raw=pour)
    with pytest.raises(CaMisbehaves, match="larger than"):
        await client.directory()


async def test_a_chain_may_be_larger_than_json_but_not_endless(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/certificate"] = Reply(hostile.chain + "\n" * 200_000, content_type=CHAIN)
    assert await client.certificate(account, hostile.url("certificate")) == hostile.chain
    hostile.replies["/certificate"] = Reply(hostile.chain + "\n" * 300_000, content_type=CHAIN)
    with pytest.raises(CaMisbehaves, match="larger than"):
        await client.certificate(account, hostile.url("certificate"))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
async def test_an_encoded_body_is_refused(
    hostile: HostileCa, client: AcmeClient, encoding: str
) -> None:
    bomb = gzip.compress(b"\0" * 10 * MEBIBYTE)
    assert len(bomb) < JSON_BYTES
    hostile.replies["/dir"] = Reply(bomb, headers=[("Content-Encoding", encoding)])
    with pytest.raises(CaMisbehaves, match="encoded"):
        await client.directory()


async def _nothing(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _half_a_head(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    await asyncio.sleep(3600)


async def _half_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await asyncio.sleep(3600)


async def _drop_by_drop(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("hangs", [_nothing, _half_a_head, _half_a_body, _drop_by_drop])
async def test_what_hangs_is_given_up(
    hostile: HostileCa, impatient: AcmeClient, hangs: Callable[..., Awaitable[None]]
) -> None:
    hostile.replies["/dir"] = Reply(raw=hangs)
    async with asyncio.timeout(GIVEN_UP_SECONDS):
        with pytest.raises(CaUnavailable, match="in time"):
            await impatient.directory()


async def test_those_who_wait_for_what_hangs_are_given_up_together(
    hostile: HostileCa, impatient: AcmeClient
) -> None:
    hostile.replies["/dir"] = Reply(raw=_nothing)
    async with asyncio.timeout(GIVEN_UP_SECONDS):
        results = await asyncio.gather(
            *(impatient.directory() for _ in range(50)), return_exceptions=True
        )
    assert {type(result) for result in results} == {CaUnavailable}


async def _dropped(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()


async def _no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n" * 10)
    await writer.drain()


async def _endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4096 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("broken", [_dropped, _no_http, _endless_head])
async def test_what_is_no_answer(
    hostile: HostileCa, client: AcmeClient, broken: Callable[..., Awaitable[None]]
) -> None:
    hostile.replies["/dir"] = Reply(raw=broken)
    async with asyncio.timeout(GIVEN_UP_SECONDS):
        with pytest.raises(CaUnavailable, match="the CA cannot be reached: "):
            await client.directory()


async def test_a_server_of_somebody_else_is_refused(hostile: HostileCa) -> None:
    async with hostile_ca() as other, http_client(hostile.ca_file) as http:
        client = AcmeClient(other.directory_url, http)
        with pytest.raises(CaUnavailable, match="certificate does not verify"):
            await client.directory()
    assert not other.asked


async def test_a_server_of_another_name_is_refused(hostile: HostileCa) -> None:
    port = hostile.origin.rsplit(":", 1)[1]
    async with http_client(hostile.ca_file) as http:
        client = AcmeClient(f"https://127.0.0.2:{port}/dir", http)
        with socket.create_server(("127.0.0.2", int(port))) as listener:
            async with serving(listener, hostile.serve, hostile.context):
                with pytest.raises(CaUnavailable, match="certificate does not verify"):
                    await client.directory()
    assert not hostile.asked


async def test_nobody_there(hostile: HostileCa) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = address_of(listener)
    async with http_client(hostile.ca_file) as http:
        client = AcmeClient(f"https://{address}/dir", http)
        with pytest.raises(CaUnavailable, match="cannot be reached"):
            await client.directory()


async def test_a_handshake_that_hangs(hostile: HostileCa) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.sleep(3600)

    with socket.create_server((LOOPBACK, 0)) as listener:
        url = f"https://{address_of(listener)}/dir"
        async with serving(listener, silent), http_client(hostile.ca_file) as http:
            client = AcmeClient(url, http, call_seconds=IMPATIENT_SECONDS)
            async with asyncio.timeout(GIVEN_UP_SECONDS):
                with pytest.raises(CaUnavailable, match="in time"):
                    await client.directory()


async def test_plain_http_behind_an_https_address(hostile: HostileCa) -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    with socket.create_server((LOOPBACK, 0)) as listener:
        url = f"https://{address_of(listener)}/dir"
        async with serving(listener, plain), http_client(hostile.ca_file) as http:
            with pytest.raises(CaUnavailable, match="cannot be reached"):
                await AcmeClient(url, http).directory()


def test_trusts_the_machine_where_nothing_is_said() -> None:
    http_client()  # the machine's trust is read


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        http_client(tmp_path / "ca.pem")
