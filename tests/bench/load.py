"""The load generator: a closed loop in one thread, for any server.

Every request has a connection of its own, or each connection is kept for one after the other. What
is costly and no part of the exchange (keys, CSRs, TLS contexts) the caller makes beforehand.
"""

import gc
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from tests.bench.reply import MalformedReplyError, Reply, parse_reply

RECEIVE_BYTES = 65_536

Exchange = Generator[int, None, Reply]


@dataclass(frozen=True, slots=True)
class Job:
    """A request as bytes, how it is sent, and what is looked at in the reply."""

    request: bytes
    context: ssl.SSLContext | None
    """With the client's own certificate, if any; None: plain HTTP."""
    check: Callable[[bytes], int]
    """Takes the reply's body, returns the serial of the certificate that it is about.

    Raises ValueError where the body is not what was asked for.
    """


@dataclass(frozen=True, slots=True)
class Sample:
    job: Job
    latency_seconds: float
    reply: Reply | None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.reply is not None and self.reply.ok

    def __str__(self) -> str:
        return (
            self.error if self.reply is None else f"{self.reply.status} {self.reply.body[:200]!r}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    samples: list[Sample]
    elapsed_seconds: float
    generator_cpu_seconds: float


class TooSlowError(Exception):
    """The server did not answer everything within the time allowed."""


def client_context(certificate_and_key_file: str | None = None) -> ssl.SSLContext:
    """TLS 1.3 that does not check the server's chain: clients' work would be on servers' cores."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate_and_key_file is not None:
        context.load_cert_chain(certificate_and_key_file)
    return context


def http_request(
    method: str,
    path: str,
    host: str,
    body: bytes,
    headers: dict[str, str],
    *,
    keep_alive: bool = False,
) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drive(
    address: tuple[str, int],
    jobs: Sequence[Job],
    connections: int,
    limit_seconds: float,
    *,
    keep_alive: bool = False,
) -> Run:
    """Sends every job once, `connections` at a time; the next starts when one is answered."""
    gc.collect()
    gc.disable()
    try:
        return _Loop(address, jobs, connections, keep_alive=keep_alive).run(limit_seconds)
    finally:
        gc.enable()


class _Loop:
    def __init__(
        self, address: tuple[str, int], jobs: Sequence[Job], connections: int, *, keep_alive: bool
    ) -> None:
        self.address = address
        self.keep_alive = keep_alive
        self.waiting = deque(jobs)
        self.connections = connections
        self.samples: list[Sample] = []
        self.open = 0
        self.selector = selectors.DefaultSelector()

    def run(self, limit_seconds: float) -> Run:
        cpu = time.process_time()
        start = time.perf_counter()
        try:
            for _ in range(min(self.connections, len(self.waiting))):
                self._begin()
            while self.open:
                for key, _ in self.selector.select(limit_seconds):
                    key.data.step()
                if time.perf_counter() - start > limit_seconds:
                    raise TooSlowError(f"{len(self.samples)} answers within {limit_seconds:.0f} s")
            elapsed = time.perf_counter() - start
        finally:
            for key in list(self.selector.get_map().values()):
                key.data.socket.close()
            self.selector.close()
        return Run(self.samples, elapsed, time.process_time() - cpu)

    def _begin(self) -> None:
        self.open += 1
        _Connection(self, self.waiting.popleft()).step()

    def finished(self, sample: Sample, connection: "_Connection") -> None:
        self.samples.append(sample)
        if self.keep_alive and self.waiting and sample.reply is not None:
            connection.ask_again(self.waiting.popleft())
            return
        self.open -= 1
        connection.close()
        if self.waiting:
            self._begin()


class _Connection:
    """A connection; registered with the selector for what it waits for."""

    def __init__(self, loop: _Loop, job: Job) -> None:
        self.loop = loop
        self.job = job
        self.events = 0
        self.started = time.perf_counter()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.exchange = self._exchange()

    def ask_again(self, job: Job) -> None:
        """Send another request over the same connection."""
        self.job = job
        self.started = time.perf_counter()
        self.exchange = self._ask()
        self.step()

    def close(self) -> None:
        if self.events:
            self.loop.selector.unregister(self.socket)
        self.socket.close()

    def step(self) -> None:
        try:
            events = next(self.exchange)
        except StopIteration as stop:
            self._finish(stop.value, "")
        except (OSError, MalformedReplyError) as error:
            self._finish(None, f"{type(error).__name__}: {error}")
        else:
            if not self.events:
                self.loop.selector.register(self.socket, events, self)
            elif events != self.events:
                self.loop.selector.modify(self.socket, events, self)
            self.events = events

    def _finish(self, reply: Reply | None, error: str) -> None:
        latency_seconds = time.perf_counter() - self.started
        self.loop.finished(Sample(self.job, latency_seconds, reply, error), self)

    def _exchange(self) -> Exchange:
        """Connect, handshake where it is TLS, ask; yields the events to wait for."""
        self.socket.settimeout(0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(self.loop.address)
        yield selectors.EVENT_WRITE
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        if self.job.context is not None:
            yield from self._shake_hands(self.job.context)
        return (yield from self._ask())

    def _shake_hands(self, context: ssl.SSLContext) -> Generator[int, None, None]:
        tls = context.wrap_socket(
            self.socket, do_handshake_on_connect=False, server_hostname="localhost"
        )
        self.socket = tls  # the same descriptor: the old is detached, the selector keeps watching
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                yield selectors.EVENT_READ
            else:
                return

    def _ask(self) -> Exchange:
        """Request, reply; it always waits in between, or fast replies would nest their steps."""
        self.socket.send(self.job.request)  # a few kB into an empty socket buffer never blocks
        yield selectors.EVENT_READ
        received = b""
        while True:
            try:
                piece = self.socket.recv(RECEIVE_BYTES)
            except (ssl.SSLWantReadError, BlockingIOError):
                yield selectors.EVENT_READ
                continue
            received += piece
            reply = parse_reply(received, at_end=not piece)
            if reply is not None:
                return reply
