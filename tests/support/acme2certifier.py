"""acme2certifier, an ACME server with ARI (RFC 9773) and profiles.

It takes a challenge as answered once it is told so, and looks at none. It takes `replaces` in an
order and keeps nothing of it: `asked` has what it was told. `tools/acme2certifier.py` installs it.
"""

import json
import os
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.embedded import free_port
from tests.support.authority import Authority
from tests.support.pebble import LOOPBACK, write_identity
from tests.support.serving import running, started

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".tools" / "acme2certifier" / "bin" / "python"
SERVER = ROOT / "tests" / "support" / "acme2certifier_server.py"

PROFILES = {"classic": "What everybody has", "short": "https://example.com/profiles/short"}
"""The names and descriptions that it offers; each gives the same certificate."""


@dataclass(frozen=True)
class Acme2Certifier:
    """A running ACME server with a CA of its own."""

    directory_url: str
    ca_file: Path
    """Trust for its HTTPS, not for what it issues."""
    authority: Authority
    record: Path

    def asked(self, path: str) -> list[Any]:
        """Return what clients signed for a path, in order."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [entry["payload"] for line in lines if (entry := json.loads(line))["path"] == path]


@contextmanager
def acme2certifier(
    *,
    profiles: Mapping[str, str] = PROFILES,
    lifetime_days: int = 30,
    renewal_at_percent: int = 50,
    ask_again_seconds: int = 7200,
    renew_now: bool = False,
) -> Iterator[Acme2Certifier]:
    """Run the server until the block ends. Skips the test where it is not installed, but not in CI.

    ARI suggests a window from `renewal_at_percent` of the lifetime to its end; with `renew_now` one
    that began long ago and ends tomorrow.
    """
    if not PYTHON.exists():
        assert os.environ.get("CI") != "true", "acme2certifier is missing"
        pytest.skip("acme2certifier is missing; tools/acme2certifier.py installs it")

    def start(directory: Path) -> tuple[subprocess.Popen[bytes], Acme2Certifier]:
        port = free_port()
        server = Acme2Certifier(
            f"https://{LOOPBACK}:{port}/directory",
            directory / "ca.pem",
            Authority("acme2certifier"),
            directory / "asked.jsonl",
        )
        write_identity(directory)
        _write_authority(directory, server.authority)
        configuration = directory / "acme_srv.cfg"
        configuration.write_text(
            f"""
[Account]
contact_check_disable: True
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {directory}/issuing.key
issuing_ca_cert: {directory}/issuing.pem
issuing_ca_crl: {directory}/issuing.crl
ca_cert_chain_list: []
cert_validity_days: {lifetime_days}
cert_save_path: {directory}/issued
[DBhandler]
handler: wsgi
dbfile: {directory}/acme_srv.db
[Challenge]
challenge_validation_disable: True
[Order]
profiles: {json.dumps(dict(profiles))}
profiles_check_disable: False
[Renewalinfo]
renewalthreshold_pctg: {renewal_at_percent}
retry_after_timeout: {ask_again_seconds}
renewal_force: {renew_now}
"""
        )
        process = started(
            # -P: else modules beside the script stand for those of the standard library
            [str(PYTHON), "-P", str(SERVER), str(directory), str(port)],
            directory / "server.log",
            ACME_SRV_CONFIGFILE=str(configuration),
            ACME2CERTIFIER_I_KNOW_THE_RISK="1",  # of taking challenges as answered
        )
        return process, server

    with running(start, _is_ours) as server:
        yield server


def _write_authority(directory: Path, authority: Authority) -> None:
    """Write the CA that signs; where the server starts again, in place of the one before."""
    (directory / "issued").mkdir(exist_ok=True)
    (directory / "issuing.pem").write_bytes(authority.issuing.public_bytes(Encoding.PEM))
    (directory / "issuing.key").write_bytes(
        authority._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _is_ours(server: Acme2Certifier) -> bool:
    context = ssl.create_default_context(cafile=str(server.ca_file))
    try:
        with httpx2.Client(verify=context, trust_env=False, timeout=5) as http:
            return http.get(server.directory_url).is_success
    except httpx2.HTTPError:
        return False
