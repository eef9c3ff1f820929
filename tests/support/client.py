"""Those who call the platform over HTTPS: nobody, the administrator, a superuser, an instance."""

import base64
import json
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.x509 import fingerprint
from tests.support.csr import Key, csr_pem, new_key
from tests.support.platform import Platform

INSTANCES = "/internal/v1/instances"
LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 30
CONNECTIONS = 250
KEPT_SECONDS = 25
"""How long a connection may be idle: less than the gateway's 30."""
TRANSPORT_ERRORS = (ssl.SSLError, OSError, httpx2.TransportError)
"""What a caller sees whose certificate dies in the handshake."""


class Client:
    """A caller with its TLS; what every answer has in common is checked on each of them."""

    def __init__(
        self,
        platform: Platform,
        identity: str | None = None,
        *,
        address: str = LOOPBACK,
        connections: int = CONNECTIONS,
        **headers: str,
    ) -> None:
        """`identity` is certificate and key in PEM; `address` is where the calls come from."""
        self.address = address
        self.headers = headers
        self._asked: set[str] = set()
        self._http = httpx2.AsyncClient(
            base_url=platform.url,
            headers=headers,
            transport=httpx2.AsyncHTTPTransport(
                verify=tls_context(platform.ca_file, identity),
                trust_env=False,
                limits=httpx2.Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections,
                    keepalive_expiry=KEPT_SECONDS,
                ),
                local_address=address,
            ),
            timeout=TIMEOUT_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        trouble: bool = False,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> httpx2.Response:
        """Send a request; only where `trouble` is expected may the answer be a 5xx."""
        if body is not None:
            options["json"] = body
        response = await self._http.request(method, path, **options)
        request_id = response.headers["x-request-id"]
        assert UUID(request_id).version == 7, request_id
        assert request_id not in self._asked, "the request id of another request"
        self._asked.add(request_id)
        assert trouble or response.status_code < 500, (response, response.text)
        return response

    # --- What administrators say -----------------------------------------------------------------

    async def create(self, **body: object) -> httpx2.Response:
        """Register an instance."""
        return await self.call("POST", INSTANCES, new_instance(**body))

    async def get(self, instance_id: str, *, trouble: bool = False) -> httpx2.Response:
        """Show an instance."""
        return await self.call("GET", f"{INSTANCES}/{instance_id}", trouble=trouble)

    async def move(self, instance_id: str, status: str, **options: Any) -> httpx2.Response:  # noqa: ANN401 - the client's own
        """Set the status of an instance."""
        return await self.call("PATCH", f"{INSTANCES}/{instance_id}", {"status": status}, **options)

    async def put_secrets(self, instance_id: str, agent_secrets: object) -> httpx2.Response:
        """Replace the secrets of an instance."""
        return await self.call(
            "PUT", f"{INSTANCES}/{instance_id}/secrets", {"agent_secrets": agent_secrets}
        )

    async def new_token(self, instance_id: str) -> httpx2.Response:
        """Make a bootstrap token."""
        return await self.call("POST", f"{INSTANCES}/{instance_id}/bootstrap-token")

    async def revoke(self, instance_id: str, body: object = None) -> httpx2.Response:
        """Revoke the current certificate of an instance."""
        return await self.call("POST", f"{INSTANCES}/{instance_id}/cert/revoke", body)

    async def certificates(self, instance_id: str) -> list[dict[str, Any]]:
        """Return the inventory of an instance, newest first."""
        response = await self.call("GET", f"{INSTANCES}/{instance_id}/certificates")
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()["certificates"]
        return rows

    # --- What instances say ----------------------------------------------------------------------

    async def bootstrap(self, workload: "Workload", **changes: object) -> httpx2.Response:
        """Exchange the workload's token for a certificate."""
        body = {**workload.bootstrap_body(), **changes}
        return await self.call("POST", f"{workload.path}/cert/bootstrap", body)

    async def renew(
        self,
        workload: "Workload",
        *,
        trouble: bool = False,
        headers: dict[str, str] | None = None,
        **changes: object,
    ) -> httpx2.Response:
        """Renew with the certificate that this caller has."""
        body = {**workload.renewal_body(), **changes}
        return await self.call(
            "POST", f"{workload.path}/cert/renew", body, trouble=trouble, headers=headers
        )

    async def refresh(
        self, workload: "Workload", *, trouble: bool = False, **changes: object
    ) -> httpx2.Response:
        """Fetch the workload's secrets with the certificate that this caller has."""
        body = {
            "vpn_ip": workload.vpn_ip,
            "wg_public_key": workload.wg_public_key,
            **changes,
        }
        return await self.call("POST", f"{workload.path}/secrets/refresh", body, trouble=trouble)


@dataclass
class Workload:
    """An instance as it is itself: its key never leaves it."""

    id: str
    wg_public_key: str
    vpn_ip: str
    token: str
    key: Key = field(default_factory=new_key, repr=False)
    certificate_pem: str = ""

    @property
    def path(self) -> str:
        """Return where its calls go."""
        return f"{INSTANCES}/{self.id}"

    @property
    def key_pem(self) -> str:
        """Return its private key."""
        return pem_of(self.key)

    @property
    def identity(self) -> str:
        """Return certificate and key."""
        return self.certificate_pem + self.key_pem

    @property
    def sha256(self) -> str:
        """Return the fingerprint of its certificate."""
        return fingerprint_of(self.certificate_pem)

    def renewal_body(self) -> dict[str, object]:
        """Return what it says to renew: always for the same key."""
        return {"csr_pem": csr_pem(self.key), "wg_public_key": self.wg_public_key}

    def bootstrap_body(self) -> dict[str, object]:
        """Return what it says to get its first certificate."""
        return {**self.renewal_body(), "token": self.token}

    def takes(self, response: httpx2.Response) -> None:
        """Take the certificate of an answer as its own."""
        assert response.status_code == 200, (response, response.text)
        self.certificate_pem = response.json()["cert_pem"]


def new_instance(**fields: object) -> dict[str, object]:
    """Return the body that registers an instance."""
    return {
        "name": "app-1",
        "wg_public_key": new_wg_key(),
        "vpn_ip": "10.1.2.3",
        "agent_secrets": {"api_key": "for its eyes only"},
        **fields,
    }


async def registered(admin: Client, **fields: object) -> Workload:
    """Register an instance."""
    response = await admin.create(**fields)
    assert response.status_code == 201, response.text
    made = response.json()
    return Workload(made["id"], made["wg_public_key"], made["vpn_ip"], made["bootstrap_token"])


async def bootstrapped(admin: Client, **fields: object) -> Workload:
    """Register an instance and let it get its first certificate."""
    workload = await registered(admin, **fields)
    workload.takes(await admin.bootstrap(workload))  # a public endpoint: who calls is all the same
    return workload


async def running(admin: Client, **fields: object) -> Workload:
    """Register an instance, let it get its first certificate, and start it."""
    workload = await bootstrapped(admin, **fields)
    response = await admin.move(workload.id, "running")
    assert response.status_code == 200, response.text
    return workload


def identity_of_the_administrator(platform: Platform) -> str:
    """Return certificate and key."""
    return "".join((platform.bootstrap / name).read_text() for name in ("admin.crt", "admin.key"))


def administrator(platform: Platform, **options: Any) -> Client:  # noqa: ANN401 - the client's own
    """Return a client with the administrator's certificate."""
    return Client(platform, identity_of_the_administrator(platform), **options)


@asynccontextmanager
async def superuser(platform: Platform, **options: Any) -> AsyncIterator[Client]:  # noqa: ANN401 - the client's own
    """Lend a client with a superuser's token, and no certificate."""
    login = json.loads((platform.bootstrap / "superuser.json").read_text())
    async with Client(platform, **options) as nobody:
        response = await nobody.call("POST", "/api/v1/auth/token", data=login)
    assert response.status_code == 200, response.text
    token = f"Bearer {response.json()['access_token']}"
    async with Client(platform, Authorization=token, **options) as client:
        yield client


def tls_context(ca_file: Path, identity: str | None = None) -> ssl.SSLContext:
    """Return the TLS of a client that trusts the platform, with its certificate if it has one."""
    context = ssl.create_default_context(cafile=str(ca_file))
    if identity is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(identity)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def pem_of(key: Key) -> str:
    """Return a private key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def fingerprint_of(certificate_pem: str) -> str:
    """Return the SHA-256 of a certificate's DER in hex."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return fingerprint(certificate.public_bytes(Encoding.DER))


def connection_of(response: httpx2.Response) -> object:
    """Return which connection an answer came over: the caller's own end of it."""
    return response.extensions["network_stream"].get_extra_info("client_addr")


def new_wg_key() -> str:
    """Return what stands for the output of `wg pubkey`."""
    return base64.b64encode(secrets.token_bytes(32)).decode()
