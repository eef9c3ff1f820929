"""The configuration of nats-server: who there is (accounts), and where it listens (server).

The accounts are the same for every server; `deploy/nats` has the server's part for containers.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, INBOUND_WILDCARD
from services.provisioning.nats.keys import public_keys, subscribers
from services.provisioning.nats.permissions import API, STREAMS, Account, Permissions, User, users
from shared.files import write_private

ACCOUNTS_FILE: Final = "accounts.conf"
SERVER_FILE: Final = "nats.conf"
MIRROR_API: Final = "JS.STREAMS"
"""READERS' name for the API of STREAMS; the mirrors ask for their consumers there."""
MIRROR_DELIVERY: Final = "mirror"
"""Prefix of the subjects on which STREAMS delivers to the mirrors."""
MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024  # the architecture's limit of one message
MAX_CONSUMERS: Final = 1000  # an account's; each open `tail` and each subscriber has one
MEMORY_STORE_BYTES: Final = 64 * 1024 * 1024  # the state of consumers that live in memory
FILE_STORE_BYTES: Final = 20 * 1024**3  # about 8 million changes, kept twice


class ConfigurationError(Exception):
    """The server must not be run like this; the message tells a person why."""


@dataclass(frozen=True)
class TlsFiles:
    """Files that nats-server reads: PEM, the chain leaf first."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Server:
    """Where a server listens and keeps its streams."""

    port: int
    store: Path
    host: str = "127.0.0.1"
    tls: TlsFiles | None = None
    file_store_bytes: int = FILE_STORE_BYTES
    """For both accounts that have streams, together."""


def write_configuration(directory: Path, secrets: Path, server: Server) -> Path:
    """Write the configuration of a server, and return the file to start it with.

    Needs the seeds of `ensure_seeds`. A running server takes changed accounts in on SIGHUP. Raises
    `ConfigurationError`.
    """
    main = render_server(server)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    server.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_accounts(directory / ACCOUNTS_FILE, secrets, server.file_store_bytes)
    write_private(directory / SERVER_FILE, main)
    return directory / SERVER_FILE


def write_accounts(path: Path, secrets: Path, file_store_bytes: int = FILE_STORE_BYTES) -> None:
    """Write the accounts with all users that have a key; there is no secret in it."""
    granted = users(tuple(subscribers(secrets)))
    write_private(path, render_accounts(granted, public_keys(secrets, granted), file_store_bytes))


def render_server(server: Server) -> str:
    """Return the server's own part. Raises `ConfigurationError` off loopback without TLS."""
    if server.tls is None and not is_loopback(server.host):
        raise ConfigurationError(f"NATS may listen on {server.host} only with TLS")
    statements: dict[str, Any] = {
        "server_name": "certwire",
        "host": server.host,
        "port": server.port,
        "max_payload": MAX_PAYLOAD_BYTES,
        "jetstream": {
            "store_dir": str(server.store.absolute()),
            "max_file_store": server.file_store_bytes,
            "max_memory_store": 2 * MEMORY_STORE_BYTES,
        },
    }
    if server.tls is not None:
        statements["tls"] = {
            "cert_file": str(server.tls.certificate.absolute()),
            "key_file": str(server.tls.key.absolute()),
            "min_version": "1.3",
        }
    return _render(statements) + f'include "./{ACCOUNTS_FILE}"\n'


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def render_accounts(
    granted: Mapping[User, Permissions], keys: Mapping[User, str], file_store_bytes: int
) -> str:
    """Return the accounts with their users, streams and what crosses between them."""
    jetstream = {
        "max_file": file_store_bytes // 2,
        "max_mem": MEMORY_STORE_BYTES,
        "max_streams": len(STREAMS),
        "max_consumers": MAX_CONSUMERS,
    }
    accounts: dict[Account, dict[str, Any]] = {
        Account.BUS: {"exports": [_export("service", INBOUND_WILDCARD)]},
        Account.STREAMS: {
            "jetstream": jetstream,
            "exports": [
                *(_export("service", subject) for subject in _mirror_services()),
                _export("stream", f"{MIRROR_DELIVERY}.>"),
            ],
        },
        Account.READERS: {
            "jetstream": jetstream,
            "imports": [
                *(
                    {**_import("service", Account.STREAMS, subject), "to": local}
                    for subject, local in _mirror_services().items()
                ),
                _import("stream", Account.STREAMS, f"{MIRROR_DELIVERY}.>"),
                # `share` makes the server say who asks: see `comes_from_a_client`.
                {**_import("service", Account.BUS, INBOUND_WILDCARD), "share": True},
            ],
        },
    }
    for account, settings in accounts.items():
        settings["users"] = [
            _user(keys[user], permissions)
            for user, permissions in sorted(granted.items())
            if user.account is account
        ]
    named = {_name(account): settings for account, settings in accounts.items()}
    return _render({"accounts": named})


def _mirror_services() -> dict[str, str]:
    """Return what a mirror asks of its origin, with the names that READERS has for it."""
    services = {}
    for stream in (EVENTS_STREAM, AUDIT_STREAM):
        services[f"{API}.CONSUMER.CREATE.{stream}"] = f"{MIRROR_API}.CONSUMER.CREATE.{stream}"
        services[f"$JS.FC.{stream}.>"] = f"$JS.FC.{stream}.>"
    return services


def _user(key: str, permissions: Permissions) -> dict[str, Any]:
    return {
        "nkey": key,
        "permissions": {
            "publish": {"allow": list(permissions.publish)},
            "subscribe": {"allow": list(permissions.subscribe)},
        },
    }


def _export(kind: str, subject: str) -> dict[str, Any]:
    return {kind: subject, "accounts": [_name(Account.READERS)]}


def _import(kind: str, account: Account, subject: str) -> dict[str, Any]:
    return {kind: {"account": _name(account), "subject": subject}}


def _name(account: Account) -> str:
    return account.upper()


def _render(statements: Mapping[str, Any]) -> str:
    """Return statements whose values are JSON, which nats-server's own format contains."""
    return "".join(f"{name}: {json.dumps(value, indent=2)}\n" for name, value in statements.items())
