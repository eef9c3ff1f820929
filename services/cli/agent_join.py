"""Joining the platform: a one-use token for the first certificate, as often as it takes.

The request waits in a file until it is answered, and goes with an `Idempotency-Key`: the command
may be killed and called again with the same token, and gets the answer that was lost.
"""

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.cli.errors import CliError, UsageError

TIMEOUT_SECONDS: Final = 300
LONGEST_RETRY_SECONDS: Final = 10.0
STDIN: Final = "-"


@dataclass(frozen=True)
class Joining:
    """What is asked, and how the answer is judged (it raises CliError)."""

    path: str
    body: Callable[[str], dict[str, Any]]
    """Of a CSR in PEM."""
    judge: Callable[[dict[str, Any]], None] = lambda _answer: None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that agents and instances have in common."""
    parser.add_argument("--url", required=True, help="where the platform is: https://host:port")
    parser.add_argument(
        "--ca", required=True, type=Path, metavar="FILE", help="its CA certificates (ca.crt)"
    )
    token = parser.add_mutually_exclusive_group(required=True)
    token.add_argument("--token", help="the one-use token")
    token.add_argument(
        "--token-file", metavar="FILE", help="a file with the token; - reads standard input"
    )
    add_directory(parser)
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"how long a platform that is away is waited for ({TIMEOUT_SECONDS})",
    )


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add the argument that every command of the agent has."""
    parser.add_argument(
        "--directory", required=True, type=Path, metavar="DIR", help="where the agent's files are"
    )


def token_of(arguments: argparse.Namespace) -> str:
    """Return the token. Raises UsageError."""
    if arguments.token is not None:
        token = arguments.token
    elif arguments.token_file == STDIN:
        token = sys.stdin.read()
    else:
        token = Path(arguments.token_file).read_text()
    if not token.strip():
        raise UsageError("the token is empty")
    return str(token.strip())


def ca_of(arguments: argparse.Namespace) -> str:
    """Return the CA certificates to trust. Raises UsageError."""
    from cryptography import x509

    try:
        pem = Path(arguments.ca).read_text()
        x509.load_pem_x509_certificates(pem.encode())
    except (OSError, ValueError) as error:
        message = f"{arguments.ca} is no file of CA certificates: {error}"
        raise UsageError(message) from error
    return pem


def join(arguments: argparse.Namespace, token: str, joining: Joining, **who: str) -> None:
    """Exchange the token for a certificate and keep both. Raises CliError and OSError."""
    from services.cli.agent_files import RENEWAL, AgentDirectory, Identity
    from services.cli.agent_platform import Platform
    from services.cli.agent_work import certificate_of, described

    ca_pem = ca_of(arguments)
    platform = Platform(arguments.url, arguments.ca)
    directory = AgentDirectory(arguments.directory)
    directory.make()
    with directory.locked():
        asked = f"{arguments.url} {joining.path} {token}"
        pending = directory.begin(f"enrolment:{hashlib.sha256(asked.encode()).hexdigest()}")

        def ask() -> dict[str, Any]:
            body = joining.body(pending.csr_pem)
            return platform.post(joining.path, body, pending.idempotency_key)

        answer = patiently(ask, arguments.timeout)
        joining.judge(answer)
        who |= {"label": answer["label"]} if "label" in answer else {}
        directory.write_identity(Identity(arguments.url, **who), answer.get("caCert") or ca_pem)
        current = directory.install(pending, certificate_of(answer))
        directory.forget(RENEWAL)
        directory.write_deployed(directory.contents())
        directory.forget(pending.purpose)
    print(described("enrolled", current))
    print(f"certificate  {current.path.parent.parent / 'current' / 'client.crt'}")
    print(f"key          {current.path.parent.parent / 'current' / 'client.key'}")


def patiently(ask: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return the answer, asking again while that may help. Raises CliError."""
    from services.cli.agent_platform import PlatformError

    deadline, delay = time.monotonic() + seconds, 0.5
    while True:
        try:
            return ask()
        except PlatformError as error:
            wait = max(delay * random.uniform(0.5, 1), error.retry_after or 0)  # noqa: S311 - to spread load
            if error.is_final or time.monotonic() + wait > deadline:
                raise CliError(str(error)) from error
            print(f"{error}; again in {wait:.1f} s", file=sys.stderr)
            time.sleep(wait)
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)
