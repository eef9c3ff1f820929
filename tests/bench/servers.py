"""Child processes of the benchmark: started so that they die with it, and always stopped."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cryptography import x509

from services.embedded import PopenOptions, die_with_parent
from tests.bench.load import Job
from tests.bench.processes import CpuTimes

STOP_SECONDS = 15


class ServerError(Exception):
    """A server did not start or answer as it should; the text is for the person at the terminal."""


class Measured(Protocol):
    """A running server, and one kind of request to it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def port(self) -> int: ...

    def prepare(self, count: int) -> None:
        """Make what the next `count` jobs need."""

    def jobs(self, count: int) -> list[Job]: ...

    def settle(self) -> float:
        """Wait until nothing is left to do; return the seconds."""

    def cpu(self) -> CpuTimes: ...

    def discrepancies(self, serials: list[int]) -> list[str]:
        """Where the server does not hold exactly what its clients were told."""


class Authority(Measured, Protocol):
    """A server whose jobs are CSRs to sign, and that revokes what it signed."""

    @property
    def plain_port(self) -> int:
        """Where it answers over HTTP without TLS."""

    @property
    def issuer(self) -> x509.Certificate: ...
    @property
    def ocsp_path(self) -> str: ...
    @property
    def crl_path(self) -> str: ...

    def certificate_pem(self, body: bytes) -> str:
        """The certificate in the reply to a CSR."""

    def revocation(self, body: bytes) -> Job:
        """The request to revoke the certificate in the reply to a CSR."""

    def publish(self) -> None:
        """Have a CRL with all that is revoked."""

    def revocation_discrepancies(self, serials: list[int]) -> list[str]: ...


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    options: PopenOptions | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process while the block runs; then the signal, and SIGKILL if that does not help."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            **(options or die_with_parent(stop_signal)),
        )
        try:
            yield process
        finally:
            process.send_signal(stop_signal)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def log_tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
