"""Certwire as `certwire up` runs it, and instances that have a certificate to renew."""

import base64
import http.client
import importlib.metadata
import json
import random
import secrets
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509

from services.cli.ports import read_ports
from services.embedded import free_port
from tests.bench.json_client import JsonClient
from tests.bench.keys import (
    KeyAndRequest,
    check_certificate,
    key_and_request,
    server_key_and_request,
)
from tests.bench.ledger import Ledger
from tests.bench.load import Job, client_context, http_request
from tests.bench.processes import CpuTimes, cpu_of_tree
from tests.bench.servers import Measured, ServerError, log_tail, running
from tests.bench.statuses import of_work
from tests.bench.work import Work

START_SECONDS = 60
SETTLE_LIMIT_SECONDS = 30
SETTLE_POLL_SECONDS = 0.02
# Connections that make instances; more only wait for the two cores.
MAKERS = 8
INSTANCES_PATH = "/internal/v1/instances"
FIRST_VPN_ADDRESS = int(IPv4Address("10.0.0.1"))
VPN_ADDRESSES = 2**24 - 2


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance with its first certificate."""

    id: str
    wg_public_key: str
    certificate_and_key_file: Path


@dataclass
class Certwire:
    """A running platform; see `certwire`."""

    port: int
    plain_port: int
    pid: int
    version: str
    issuer: x509.Certificate
    maker: "InstanceMaker"
    ledger: Ledger
    name: str = field(default="certwire", init=False)
    instances: list[Instance] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def prepare(self, count: int) -> None:
        """Make as many instances as `jobs` will take."""
        self.instances += self.maker.make(count)
        self.settle()

    def jobs(self, count: int) -> list[Job]:
        """One renewal each of `count` instances that have not renewed yet."""
        chosen = [self.instances.pop() for _ in range(count)]
        self.used += [instance.id for instance in chosen]
        return [self._job(instance) for instance in chosen]

    def _job(self, instance: Instance) -> Job:
        key = key_and_request(instance.id)
        body = json.dumps({"csr_pem": key.csr_pem, "wg_public_key": instance.wg_public_key})
        request = http_request(
            "POST",
            f"{INSTANCES_PATH}/{instance.id}/cert/renew",
            f"localhost:{self.port}",
            body.encode(),
            {"Content-Type": "application/json"},
        )
        context = client_context(str(instance.certificate_and_key_file))
        return Job(request, context, partial(self._check, key=key))

    def _check(self, body: bytes, key: KeyAndRequest) -> int:
        return check_certificate(self.certificate_pem(body), key, self.issuer)

    def certificate_pem(self, body: bytes) -> str:
        return str(json.loads(body)["cert_pem"])

    def settle(self) -> float:
        """Wait until events, audit records and revocations are through; return the seconds."""
        start = time.monotonic()
        while not self.settled():
            if time.monotonic() - start > SETTLE_LIMIT_SECONDS:
                raise ServerError("events, audit records or revocations do not get through")
            time.sleep(SETTLE_POLL_SECONDS)
        return time.monotonic() - start

    def settled(self) -> bool:
        return self.ledger.settled()

    def cpu(self) -> CpuTimes:
        return cpu_of_tree(self.pid, part_of)

    def discrepancies(self, serials: list[int]) -> list[str]:
        return self.ledger.discrepancies(serials, self.used)


TOKEN_SECONDS = 600
"""A token is good for 900."""


@dataclass
class Signing(Certwire):
    """A running platform with a CA of a user's own."""

    client: JsonClient | None = None
    login: dict[str, str] = field(default_factory=dict)
    ca_id: int = 0
    slug: str = ""
    token_until: float = 0.0

    @classmethod
    def of(cls, platform: Certwire, bootstrap: Path, client: JsonClient) -> "Signing":
        """Log in as the superuser and make the CA."""
        login = json.loads((bootstrap / "superuser.json").read_text())
        signing = cls(
            platform.port,
            platform.plain_port,
            platform.pid,
            platform.version,
            platform.issuer,
            platform.maker,
            platform.ledger,
            client=client,
            login=login,
        )
        signing.prepare(0)
        name = f"Bench {secrets.token_hex(4)}"
        made = client.call(
            "POST", "/api/v1/cas/", {"name": name, "subject_dn": f"CN={name}", "key_type": "ec"}
        )
        signing.ca_id = made["id"]
        signing.slug = signing.ledger.slug(signing.ca_id)
        signing.issuer = x509.load_pem_x509_certificate(made["certificate"].encode())
        return signing

    def prepare(self, _count: int) -> None:
        """Have a token that is good for the round."""
        if time.monotonic() < self.token_until:
            return
        assert self.client is not None
        self.client.headers["Authorization"] = f"Bearer {self.client.log_in(self.login)}"
        self.token_until = time.monotonic() + TOKEN_SECONDS

    def jobs(self, count: int) -> list[Job]:
        """`count` CSRs to be signed."""
        assert self.client is not None
        context, headers = client_context(), self.client.headers
        jobs = []
        for number in range(count):
            key = server_key_and_request(f"{number}.bench.test")
            asked = {"csr": key.csr_pem, "certificate_type": "server", "ca_id": self.ca_id}
            request = http_request(
                "POST",
                "/api/v1/certificates/sign-csr",
                f"localhost:{self.port}",
                json.dumps({**asked, "valid_days": 1}).encode(),
                headers,
                keep_alive=True,
            )
            jobs.append(Job(request, context, partial(self._check, key=key)))
        return jobs

    def certificate_pem(self, body: bytes) -> str:
        return str(json.loads(body)["certificate"])

    @property
    def ocsp_path(self) -> str:
        return f"/ocsp/{self.slug}"

    @property
    def crl_path(self) -> str:
        return f"/crl/{self.slug}"

    def revocation(self, body: bytes) -> Job:
        """The request to revoke the certificate in the reply to a CSR."""
        assert self.client is not None
        certificate = json.loads(body)
        request = http_request(
            "POST",
            f"/api/v1/certificates/{certificate['id']}/revoke",
            f"localhost:{self.port}",
            b"{}",
            self.client.headers,
            keep_alive=True,
        )
        serial = int(certificate["serial_number"], 16)
        return Job(request, client_context(), partial(_check_revoked, serial=serial))

    def settled(self) -> bool:
        """Whether the CRL lists all that is revoked, too."""
        return self.ledger.listed(self.ca_id) and self.ledger.settled()

    def publish(self) -> None:
        """Wait for the CRL, which is made in the background."""
        self.settle()

    def revocation_discrepancies(self, serials: list[int]) -> list[str]:
        return self.ledger.revocation_discrepancies(serials, self.ca_id)

    def discrepancies(self, serials: list[int]) -> list[str]:
        return self.ledger.signing_discrepancies(
            serials, self.ca_id, self.issuer.subject.rfc4514_string()
        )


def _check_revoked(body: bytes, serial: int) -> int:
    certificate = json.loads(body)
    if certificate["status"] != "revoked" or int(certificate["serial_number"], 16) != serial:
        raise ValueError("the reply is of another certificate, or it is not revoked")
    return serial


def part_of(argv: Sequence[str]) -> str:
    """Which part of the platform a process is, by its command line."""
    program = Path(argv[0].split(" ")[0]).name
    if program.startswith("postgres"):
        return "postgres"
    if program == "nats-server":
        return "nats"
    following = argv[argv.index("run") + 1 :] if "run" in argv else []
    return following[0] if following else "runner"


@contextmanager
def certwire(directory: Path, home: Path | None, work: Work) -> Iterator[Measured]:
    """A new platform, or the one that runs in `home`."""
    directory.mkdir()
    directory.chmod(0o755)
    files = directory / "instances"
    files.mkdir(mode=0o700)
    with ExitStack() as stack:
        if home is None:
            home = directory / "home"
            log = directory / "certwire.log"
            port, plain_port, pid = stack.enter_context(_new_platform(home, log))
        else:
            port, plain_port, pid = _running_platform(home)
        bootstrap = home / "bootstrap"
        chain = x509.load_pem_x509_certificates((bootstrap / "ca.crt").read_bytes())
        maker = InstanceMaker(port, bootstrap, files)
        ledger = stack.enter_context(Ledger.opened(bootstrap))
        version = importlib.metadata.version("certwire")
        platform = Certwire(port, plain_port, pid, version, chain[-1], maker, ledger)
        signing = None
        if work is not Work.RENEW:
            context = ssl.create_default_context(cafile=str(bootstrap / "ca.crt"))
            client = stack.enter_context(JsonClient(port, context))
            signing = Signing.of(platform, bootstrap, client)
        yield platform if signing is None else of_work(signing, work)


class InstanceMaker:
    """Makes instances as an administrator: create, start, and bootstrap the first certificate."""

    def __init__(self, port: int, bootstrap: Path, files: Path) -> None:
        self.port = port
        self.files = files
        self.context = ssl.create_default_context(cafile=str(bootstrap / "ca.crt"))
        self.context.load_cert_chain(bootstrap / "admin.crt", bootstrap / "admin.key")
        self.run_name = secrets.token_hex(4)
        self.first_address = random.SystemRandom().randrange(VPN_ADDRESSES)
        self.made = 0
        self.stopped = False

    def make(self, count: int) -> list[Instance]:
        first, self.made = self.made, self.made + count
        shares = [range(first + maker, self.made, MAKERS) for maker in range(MAKERS)]
        with ThreadPoolExecutor(MAKERS) as pool:
            try:
                return [instance for made in pool.map(self._share, shares) for instance in made]
            except BaseException:  # Ctrl-C, or one share failed: the others need not go on
                self.stopped = True
                raise

    def _share(self, numbers: range) -> list[Instance]:
        with JsonClient(self.port, self.context) as client:
            return [self._instance(client, number) for number in numbers if not self.stopped]

    def _instance(self, client: JsonClient, number: int) -> Instance:
        wg_public_key = base64.b64encode(secrets.token_bytes(32)).decode()
        offset = (self.first_address + number) % VPN_ADDRESSES
        created = client.call(
            "POST",
            INSTANCES_PATH,
            {
                "name": f"bench-{self.run_name}-{number}",
                "wg_public_key": wg_public_key,
                "vpn_ip": str(IPv4Address(FIRST_VPN_ADDRESS + offset)),
            },
        )
        path = f"{INSTANCES_PATH}/{created['id']}"
        client.call("PATCH", path, {"status": "running"})
        key = key_and_request(created["id"])
        bootstrap = {
            "token": created["bootstrap_token"],
            "csr_pem": key.csr_pem,
            "wg_public_key": wg_public_key,
        }
        reply = client.call("POST", f"{path}/cert/bootstrap", bootstrap)
        file = self.files / f"{created['id']}.pem"
        file.write_text(reply["cert_pem"] + key.private_key_pem)
        return Instance(created["id"], wg_public_key, file)


@contextmanager
def _new_platform(home: Path, log: Path) -> Iterator[tuple[int, int, int]]:
    """`certwire up` in this home; yields its TLS and plain ports, the runner's process id."""
    https_port, http_port, ops_port = free_port(), free_port(), free_port()
    environment = {
        "CERTWIRE_HOME": str(home),
        "CERTWIRE_HTTPS_PORT": str(https_port),
        "CERTWIRE_HTTP_PORT": str(http_port),
        "CERTWIRE_OPS_PORT": str(ops_port),
    }
    command = [str(Path(sys.executable).with_name("certwire")), "up"]
    with running(command, log, environment) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(http_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"`certwire up` did not become ready:\n{log_tail(log)}")
            time.sleep(0.2)
        yield https_port, http_port, process.pid


def _running_platform(home: Path) -> tuple[int, int, int]:
    """TLS and plain ports and runner of the platform that runs in this home."""
    ports = read_ports(home)
    try:
        return ports["https"], ports["http"], int((home / "run" / "up.lock").read_text())
    except (KeyError, OSError, ValueError) as error:
        raise ServerError(f"`certwire up` does not run in {home}") from error


def _ready(http_port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
