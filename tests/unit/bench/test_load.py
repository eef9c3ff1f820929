"""The generator against a small TLS server of the standard library."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.keys import server_chain_and_key
from tests.bench.load import Job, TooSlowError, client_context, drive, http_request

LIMIT_SECONDS = 20.0


class Answer(socketserver.BaseRequestHandler):
    """Replies with the first line of the request, or to /port with the client's port.

    /fail is refused, /hang is not answered.
    """

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        with server.context.wrap_socket(self.request, server_side=True) as tls:
            while request := tls.recv(65_536):
                line = request.partition(b"\r\n")[0]
                path = line.split()[1]
                if path == b"/hang":
                    tls.recv(1)
                elif path != b"/close":
                    status = b"500 Oops" if path == b"/fail" else b"200 OK"
                    if path == b"/port":
                        line = b"%d" % self.client_address[1]
                    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(line))
                    tls.sendall(head + line)
                if b"Connection: close" in request:
                    return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.context = context


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    file: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(b"".join(server_chain_and_key()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with Server(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield "127.0.0.1", server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def job(path: str, context: ssl.SSLContext, *, keep_alive: bool = False) -> Job:
    request = http_request("GET", path, "localhost", b"", {}, keep_alive=keep_alive)
    return Job(request, context, len)


@pytest.mark.parametrize("connections", [1, 7, 100])
def test_sends_every_job_once(address: tuple[str, int], connections: int) -> None:
    context = client_context()
    jobs = [job(f"/{number}", context) for number in range(30)]
    run = drive(address, jobs, connections, LIMIT_SECONDS)
    bodies = {sample.reply.body for sample in run.samples if sample.reply is not None}
    assert bodies == {b"GET /%d HTTP/1.1" % number for number in range(30)}
    assert all(sample.ok for sample in run.samples)
    assert 0 < min(s.latency_seconds for s in run.samples) <= run.elapsed_seconds
    assert run.generator_cpu_seconds > 0


@pytest.mark.parametrize("connections", [1, 7])
def test_keeps_its_connections(address: tuple[str, int], connections: int) -> None:
    context = client_context()
    jobs = [job("/port", context, keep_alive=True) for _ in range(30)]
    run = drive(address, jobs, connections, LIMIT_SECONDS, keep_alive=True)
    assert len(run.samples) == 30
    assert all(sample.ok for sample in run.samples)
    ports = {sample.reply.body for sample in run.samples if sample.reply is not None}
    assert len(ports) == connections


def test_a_refusal_and_a_closed_connection_are_errors(address: tuple[str, int]) -> None:
    context = client_context()
    run = drive(address, [job("/fail", context), job("/close", context)], 1, LIMIT_SECONDS)
    refused, closed = run.samples
    assert not refused.ok
    assert str(refused).startswith("500 ")
    assert not closed.ok
    assert "ended after 0 bytes" in str(closed)


class Plain(socketserver.BaseRequestHandler):
    """Replies with as many octets as the path says, without TLS."""

    def handle(self) -> None:
        while request := self.request.recv(65_536):
            length = int(request.split()[1][1:])
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
            self.request.sendall(head + b"x" * length)


@pytest.mark.parametrize(("count", "length"), [(5, 200_000), (3000, 10)])
def test_plain_http_without_a_context(count: int, length: int) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plain) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        request = http_request("GET", f"/{length}", "localhost", b"", {}, keep_alive=True)
        address = "127.0.0.1", server.socket.getsockname()[1]
        jobs = [Job(request, None, len)] * count
        run = drive(address, jobs, 2, LIMIT_SECONDS, keep_alive=True)
        server.shutdown()
        thread.join()
    lengths = [sample.job.check(sample.reply.body) for sample in run.samples if sample.reply]
    assert lengths == [length] * count


def test_nobody_listening_is_an_error() -> None:
    run = drive(("127.0.0.1", 1), [job("/", client_context())], 1, LIMIT_SECONDS)
    assert "connect" in run.samples[0].error


def test_does_not_wait_for_ever(address: tuple[str, int]) -> None:
    with pytest.raises(TooSlowError):
        drive(address, [job("/hang", client_context())], 1, 0.3)
