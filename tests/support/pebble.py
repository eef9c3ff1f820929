"""Debian's `pebble`, a real and strict ACME server, and its DNS, `pebble-challtestsrv`.

Pebble knows no ARI and no profiles: `tests/support/acme2certifier.py` does.
"""

import base64
import json
import secrets
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import httpx2
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.embedded import free_port
from tests.support.authority import Authority
from tests.support.csr import csr_pem, new_key
from tests.support.programs import path_of
from tests.support.serving import running, started

LOOPBACK = "127.0.0.1"
ASK_SECONDS = 10


@dataclass(frozen=True)
class ChallengeDns:
    """A DNS server whose records a test sets. It is asked as a resolver, over UDP and TCP.

    Names it was told nothing about have the A record 127.0.0.1, no AAAA, TXT or CAA. It answers
    questions for NS and SOA with NOTIMP, and knows no zones.
    """

    address: str
    """host:port, as pebble's `-dnsserver` and our own resolver take it."""
    management: str

    def add_txt(self, name: str, value: str) -> None:
        """Add a TXT record to those of the name."""
        self._post("set-txt", host=_absolute(name), value=value)

    def clear_txt(self, name: str) -> None:
        """Remove all TXT records of the name."""
        self._post("clear-txt", host=_absolute(name))

    def set_a(self, name: str, *addresses: str) -> None:
        """Set the IPv4 addresses of a name, instead of 127.0.0.1."""
        self.clear_a(name)
        self._post("add-a", host=_absolute(name), addresses=addresses)

    def clear_a(self, name: str) -> None:
        """Let the name have 127.0.0.1 again."""
        self._post("clear-a", host=_absolute(name))

    def set_aaaa(self, name: str, *addresses: str) -> None:
        """Set the IPv6 addresses of a name."""
        self._post("clear-aaaa", host=_absolute(name))
        self._post("add-aaaa", host=_absolute(name), addresses=addresses)

    def set_cname(self, name: str, target: str) -> None:
        """Let a name stand for another."""
        self._post("set-cname", host=_absolute(name), target=_absolute(target))

    def clear_cname(self, name: str) -> None:
        """Let a name stand for itself again."""
        self._post("clear-cname", host=_absolute(name))

    def set_caa(self, name: str, *policies: tuple[str, str]) -> None:
        """Set the CAA records of a name, each a tag and a value."""
        self._post("clear-caa", host=_absolute(name))
        listed = [{"tag": tag, "value": value} for tag, value in policies]
        self._post("add-caa", host=_absolute(name), policies=listed)

    def set_servfail(self, name: str) -> None:
        """Answer every question about a name with SERVFAIL."""
        self._post("set-servfail", host=_absolute(name))

    def clear_servfail(self, name: str) -> None:
        """Answer about the name again."""
        self._post("clear-servfail", host=_absolute(name))

    def set_default_ipv4(self, address: str) -> None:
        """Set the address of all names without an A record of their own; empty for none."""
        self._post("set-default-ipv4", ip=address)

    def _post(self, path: str, **body: object) -> httpx2.Response:
        with httpx2.Client(trust_env=False, timeout=ASK_SECONDS) as http:
            response = http.post(f"{self.management}/{path}", json=body)
        response.raise_for_status()
        return response


@dataclass(frozen=True)
class Pebble:
    """A running ACME server with a CA of its own."""

    directory_url: str
    ca_file: Path
    """Trust for its HTTPS, not for what it issues."""
    management: str
    http_port: int
    """Where it asks for http-01 answers."""
    log: Path

    def root(self, number: int = 0) -> str:
        """Return the root certificate of a chain in PEM; those above 0 are alternates."""
        return self._get(f"roots/{number}").text

    def intermediate(self, number: int = 0) -> str:
        """Return the certificate that signs leaves in PEM, as a chain has it."""
        return self._get(f"intermediates/{number}").text

    def status(self, serial: int) -> dict[str, Any]:
        """Return what it knows of a certificate: `Status` is Valid or Revoked, `Reason`."""
        said: dict[str, Any] = self._get(f"cert-status-by-serial/{serial:x}").json()
        return said

    def _get(self, path: str) -> httpx2.Response:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with httpx2.Client(verify=context, trust_env=False, timeout=ASK_SECONDS) as http:
            response = http.get(f"{self.management}/{path}")
        response.raise_for_status()
        return response


@contextmanager
def challenge_dns() -> Iterator[ChallengeDns]:
    """Run a DNS server until the block ends. Skips the test where it is not installed."""
    program = path_of("pebble-challtestsrv")

    def start(directory: Path) -> tuple[subprocess.Popen[bytes], ChallengeDns]:
        address, management = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
        words = [program, "-dns01", address, "-management", management]
        words += ["-http01", "", "-https01", "", "-tlsalpn01", ""]
        words += ["-defaultIPv4", LOOPBACK, "-defaultIPv6", ""]
        return started(words, directory / "dns.log"), ChallengeDns(address, f"http://{management}")

    with running(start, _dns_is_ours) as server:
        yield server


ANOTHER_ACCOUNT = """
UPDATE acme.certificate SET issuance = jsonb_set(issuance, '{email}', '"another@example.com"')
WHERE domain = $1
"""
"""Lets the certificate of a name be renewed with an account that has proved nothing yet."""


@contextmanager
def pebble(
    resolver: ChallengeDns | None = None,
    *,
    http_port: int | None = None,
    external_accounts: Mapping[str, bytes] | None = None,
    always_valid: bool = False,
    nonces_rejected_percent: int = 5,
    authorizations_reused_percent: int = 0,
    alternate_roots: int = 0,
    chain_length: int = 1,
    lifetime_seconds: int = 90 * 86_400,
    blocked: Sequence[str] = (),
) -> Iterator[Pebble]:
    """Run a strict pebble until the block ends. Skips the test where it is not installed.

    Without `resolver` it asks the machine's. With `external_accounts`, HMAC keys by their ids, no
    account is made without one. `always_valid` means that challenges succeed unchecked. Names at
    and below `blocked` are refused. It can't let authorisations fail at random: whoever answers
    challenges can, or `ChallengeDns.set_servfail`. Of an account's valid authorisations it reuses
    one in a hundred even at 0 percent: what must be proved again needs `ANOTHER_ACCOUNT`.
    """
    program = path_of("pebble")
    variables = {
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": str(nonces_rejected_percent),
        "PEBBLE_AUTHZREUSE": str(authorizations_reused_percent),
        "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
        "PEBBLE_CHAIN_LENGTH": str(chain_length),
    }
    if always_valid:
        variables["PEBBLE_VA_ALWAYS_VALID"] = "1"

    def start(directory: Path) -> tuple[subprocess.Popen[bytes], Pebble]:
        listen, management = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
        server = Pebble(
            f"https://{listen}/dir",
            directory / "ca.pem",
            f"https://{management}",
            http_port or free_port(),
            directory / "pebble.log",
        )
        configuration = {
            "listenAddress": listen,
            "managementListenAddress": management,
            "certificate": str(directory / "chain.pem"),
            "privateKey": str(directory / "key.pem"),
            "httpPort": server.http_port,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(external_accounts),
            "externalAccountMACKeys": {
                name: base64.urlsafe_b64encode(key).rstrip(b"=").decode()
                for name, key in (external_accounts or {}).items()
            },
            "domainBlocklist": list(blocked),
            "certificateValidityPeriod": lifetime_seconds,
        }
        write_identity(directory)
        (directory / "pebble.json").write_text(json.dumps({"pebble": configuration}))
        words = [program, "-strict", "-config", str(directory / "pebble.json")]
        if resolver is not None:
            words += ["-dnsserver", resolver.address]
        return started(words, server.log, **variables), server

    with running(start, _pebble_is_ours) as server:
        yield server


def write_identity(directory: Path) -> None:
    """Write what a server on this machine needs: `chain.pem`, `key.pem`, and `ca.pem` to trust."""
    authority, key = Authority("Test ACME server"), new_key()
    (directory / "chain.pem").write_text(authority.server_chain(csr_pem(key)))
    (directory / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (directory / "ca.pem").write_text(authority.ca_pem)


def _absolute(name: str) -> str:
    return f"{name.rstrip('.')}."


def _dns_is_ours(server: ChallengeDns) -> bool:
    """Return whether the server answers what it was told, over UDP and TCP."""
    name, value = "ready.test.", secrets.token_hex()
    try:
        server.clear_txt(name)
        server.add_txt(name, value)
        host, port = server.address.rsplit(":", 1)
        question = dns.message.make_query(name, "TXT")
        answers = [
            ask(question, host, port=int(port), timeout=1) for ask in (dns.query.udp, dns.query.tcp)
        ]
    except (httpx2.HTTPError, dns.exception.DNSException, OSError):
        return False
    return all(value in answer.to_text() for answer in answers)


def _pebble_is_ours(server: Pebble) -> bool:
    """Return whether both ports speak with our certificate."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    try:
        with httpx2.Client(verify=context, trust_env=False, timeout=1) as http:
            answers = [http.get(server.directory_url), http.get(f"{server.management}/roots/0")]
    except httpx2.HTTPError:
        return False
    return all(answer.is_success for answer in answers)
