"""Public certificates from end to end, with the bodies that the specification prints.

curl calls the platform, pebble is the CA, and openssl says whether what comes back is any good.
"""

import asyncio
import itertools
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from shared.clock import utc_now
from shared.http_server import HttpServer, listen
from tests.support.client import administrator, superuser
from tests.support.dns_providers.cloudflare import CloudflareApi
from tests.support.dns_providers.hosting import MemoryHosting, into
from tests.support.eventually import eventually
from tests.support.pebble import ANOTHER_ACCOUNT
from tests.support.programs import output_of, path_of
from tests.support.public_platform import PublicPlatform

PROJECTS, API_KEYS = "/api/v1/projects", "/api/v1/api-keys"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DOMAIN = "api.example.com"
"""The specification's."""
_numbers = itertools.count(1)

# --- What the specification prints ---------------------------------------------------------------

HTTP_01 = """{
"email": "admin@example.com",
"challengeType": "http-01",
"autoRenew": true
}"""
CLOUDFLARE = """{
"email": "admin@example.com",
"challengeType": "dns-01",
"dnsProvider": "cloudflare",
"dnsCredentials": {
"apiToken": "your-cloudflare-api-token"
},
"autoRenew": true
}"""
TOKEN = "your-cloudflare-api-token"
CERTIFICATE = {
    "domain": DOMAIN,
    "type": "letsencrypt",
    "issuedAt": "2026-01-19T00:00:00Z",
    "expiresAt": "2026-04-19T00:00:00Z",
    "issuer": "Let's Encrypt Authority X3",
    "autoRenew": True,
}
OBTAINED = {
    "domain": DOMAIN,
    "issuedAt": "2026-01-19T12:00:00Z",
    "expiresAt": "2026-04-19T12:00:00Z",
    "issuer": "Let's Encrypt",
    "autoRenew": True,
}
RENEWED = {
    "domain": DOMAIN,
    "issuedAt": "2026-04-19T12:00:00Z",
    "expiresAt": "2026-07-19T12:00:00Z",
    "renewedFrom": "2026-01-19T12:00:00Z",
}
UPLOADED = {
    "domain": DOMAIN,
    "type": "custom",
    "issuedAt": "2026-01-01T00:00:00Z",
    "expiresAt": "2027-01-01T00:00:00Z",
    "issuer": "DigiCert Inc",
}
VALID = {
    "valid": True,
    "domain": DOMAIN,
    "expiresAt": "2027-01-01T00:00:00Z",
    "issuer": "DigiCert Inc",
    "warnings": [],
}
STATUS = {
    "status": "valid",
    "domain": DOMAIN,
    "expiresAt": "2026-04-19T12:00:00Z",
    "daysUntilExpiry": 90,
    "autoRenew": True,
    "lastRenewAttempt": None,
    "lastRenewError": None,
}
NO_DOMAIN = (400, {"success": False, "error": "Project has no domain configured"})
NOT_PROVED = "HTTP-01 challenge failed: Could not verify domain ownership"
NOT_FOR_DOMAIN = "Certificate is not valid for domain api.example.com"
NO_MATCH = "Certificate and private key do not match"
NO_CERTIFICATE = (404, {"success": False, "error": "No certificate found"})


def is_as_printed(said: Any, printed: dict[str, Any], **own: object) -> None:  # noqa: ANN401 - any JSON
    """Check that an answer has what the specification prints, but for its facts.

    `own` are the members that are these values here.
    """
    assert said.keys() == printed.keys(), said
    for name, value in printed.items():
        if name in own:
            assert said[name] == own[name], (name, said)
        elif isinstance(value, str) and MOMENT.fullmatch(value):
            assert MOMENT.fullmatch(said[name]), (name, said)
        elif name == "issuer":
            assert said[name], said
        else:
            assert said[name] == value, (name, said)


# --- A deployment tool ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Tool:
    """curl with an API key, and the project that it deploys."""

    public: PublicPlatform
    key: str
    project: str
    directory: Path

    async def curl(
        self, method: str, path: str, body: str | None = None, *options: str
    ) -> tuple[int, Any]:
        """Return status and body of an answer; one that is no JSON as text."""
        words = ["curl", "-sS", "--cacert", self.public.platform.ca_file, "-X", method]
        words += ["-H", f"X-API-Key: {self.key}", "-w", "\n%{http_code}", "-m", "100", *options]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", body]
        out = await output_of(*words, self.public.platform.url + path, seconds=110)
        said, _, status = out.rpartition("\n")
        try:
            return int(status), json.loads(said)
        except ValueError:
            return int(status), said

    async def certificate(
        self, method: str = "GET", what: str = "", body: str | None = None, *options: str
    ) -> tuple[int, Any]:
        """Do something with the project's certificate."""
        path = f"{PROJECTS}/{self.project}/certificate{what}"
        return await self.curl(method, path, body, *options)

    async def has_domain(self, domain: str) -> None:
        """Give the project a domain."""
        body = json.dumps({"domain": domain})
        answer = await self.curl("POST", f"{PROJECTS}/{self.project}/domain", body)
        assert answer == (200, {"success": True, "domain": domain})

    async def obtained(self, body: str = HTTP_01) -> dict[str, Any]:
        """Obtain a certificate; return what is said of it."""
        status, said = await self.certificate("POST", "/obtain", body)
        assert status == 200, said
        assert said.keys() == {"success", "certificate"}
        assert said["success"] is True
        certificate: dict[str, Any] = said["certificate"]
        return certificate

    async def files(self) -> tuple[Path, Path]:
        """Download chain and key."""
        chain, key = self.directory / "fullchain.pem", self.directory / "privkey.pem"
        for path, what in ((chain, "/download"), (key, "/private-key")):
            status, text = await self.certificate("GET", what)
            assert status == 200, text
            path.write_text(text + "\n")
        return chain, key

    async def leaf(self) -> x509.Certificate:
        """Return the certificate that the project has."""
        status, text = await self.certificate("GET", "/download")
        assert status == 200, text
        return x509.load_pem_x509_certificate(text.encode())

    async def orders(self) -> list[dict[str, Any]]:
        """Return the project's orders, the newest first."""
        status, said = await self.certificate("GET", "/orders")
        assert status == 200, said
        orders: list[dict[str, Any]] = said["orders"]
        return orders


async def api_key(public: PublicPlatform, **permissions: str) -> str:
    """Return a new API key."""
    async with superuser(public.platform, address=f"127.0.78.{next(_numbers) % 250 + 2}") as root:
        body = {"name": "deploy", "permissions": permissions}
        made = await root.call("POST", API_KEYS, body)
    assert made.status_code == 201, made.text
    key: str = made.json()["key"]
    return key


@pytest.fixture(scope="session")
def keys() -> dict[str, str]:
    """Return what holds the API key of all tests, once there is one."""
    return {}


@pytest.fixture
async def tool(public: PublicPlatform, keys: dict[str, str], tmp_path: Path) -> AsyncIterator[Tool]:
    """Return a tool with a project, which is gone afterwards, and its domain free again."""
    path_of("curl")
    if not keys:
        keys["write"] = await api_key(public, projects="write", keys="read")
    project = f"shop-{os.getpid()}-{next(_numbers)}"
    tool = Tool(public, keys["write"], project, tmp_path)
    body = json.dumps({"id": project, "name": "The shop"})
    status, made = await tool.curl("POST", f"{PROJECTS}/create", body)
    assert status == 201, made
    assert made["project"]["domain"] is None
    yield tool
    deleted = await tool.curl("DELETE", f"{PROJECTS}/{project}")
    assert deleted == (200, {"success": True, "message": "Project deleted"})


def new_domain() -> str:
    """Return a domain that no other test has."""
    return f"d{next(_numbers)}-{os.getpid()}.example.com"


# --- A certificate of the CA ---------------------------------------------------------------------


async def test_a_certificate_from_the_first_order_to_its_removal(
    public: PublicPlatform, tool: Tool
) -> None:
    assert await tool.certificate("POST", "/obtain", HTTP_01) == NO_DOMAIN
    await tool.has_domain(DOMAIN)
    assert await tool.certificate() == (200, None)
    assert await tool.certificate("GET", "/status") == (200, None)
    assert await tool.certificate("POST", "/renew") == NO_CERTIFICATE

    obtained = await tool.obtained()
    is_as_printed(obtained, OBTAINED)
    status, shown = await tool.certificate()
    assert status == 200
    is_as_printed(shown, CERTIFICATE, issuedAt=obtained["issuedAt"], issuer=obtained["issuer"])
    status, state = await tool.certificate("GET", "/status")
    assert status == 200
    is_as_printed(state, STATUS, expiresAt=obtained["expiresAt"], daysUntilExpiry=89)
    await openssl_is_content(public, tool)
    first = await tool.leaf()

    status, renewed = await tool.certificate("POST", "/renew")
    assert status == 200, renewed
    certificate = renewed["certificate"]
    assert certificate.pop("issuer") == obtained["issuer"]  # by the rulings, beside what is printed
    is_as_printed(certificate, RENEWED, renewedFrom=obtained["issuedAt"])
    await openssl_is_content(public, tool)
    second = await tool.leaf()
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    _, state = await tool.certificate("GET", "/status")
    assert MOMENT.fullmatch(state["lastRenewAttempt"])
    assert state["lastRenewError"] is None

    revoked = await tool.certificate("POST", "/revoke")
    assert revoked == (200, {"success": True, "message": "Certificate revoked"})
    assert public.authority.status(second.serial_number)["Status"] == "Revoked"
    assert public.authority.status(first.serial_number)["Status"] == "Valid"
    _, state = await tool.certificate("GET", "/status")
    is_as_printed(
        state,
        {**STATUS, "status": "revoked"},
        daysUntilExpiry=89,
        autoRenew=False,
        lastRenewAttempt=state["lastRenewAttempt"],
    )
    again = await tool.certificate("POST", "/revoke")
    assert again == (409, {"success": False, "error": "Certificate is already revoked"})

    removed = await tool.certificate("DELETE")
    assert removed == (200, {"success": True, "message": "Certificate removed"})
    assert await tool.certificate() == (200, None)
    for method, what in (("DELETE", ""), ("POST", "/revoke"), ("GET", "/download")):
        assert await tool.certificate(method, what) == NO_CERTIFICATE
    await everything_was_recorded(public, tool)


async def openssl_is_content(public: PublicPlatform, tool: Tool) -> None:
    """Check chain, name and key of what the tool downloads."""
    chain, key = await tool.files()
    root = tool.directory / "root.pem"
    root.write_text(public.authority.root())
    verify = ["openssl", "verify", "-CAfile", root, "-untrusted", chain, "-purpose", "sslserver"]
    assert "OK" in await output_of(*verify, "-verify_hostname", DOMAIN, chain)
    of_certificate = await output_of("openssl", "x509", "-in", chain, "-noout", "-pubkey")
    assert await output_of("openssl", "pkey", "-in", key, "-pubout") == of_certificate
    assert "OK" not in await output_of("openssl", "x509", "-in", chain, "-noout", "-text")


async def everything_was_recorded(public: PublicPlatform, tool: Tool) -> None:
    """Check what stands on the audit log, and that nothing answers challenges any more."""
    platform = public.platform

    async def recorded() -> list[str]:
        return await platform.values(
            "SELECT action FROM audit.record WHERE service = 'acme' AND outcome = 'success'"
            " AND (record::jsonb#>>'{detail,project_id}' = $1 OR object_id = $1) ORDER BY position",
            tool.project,
        )

    async def removal() -> bool:
        return "cert_remove" in await recorded()

    await eventually(removal, "the removal stands on the audit log")
    actions = await recorded()
    for action in ("project_create", "order_create", "cert_create", "cert_renew", "cert_revoke"):
        assert action in actions, actions
    assert actions.count("cert_export_private_key") == 2
    domain = "SELECT count(*) FROM acme.acme_order WHERE domain = $1 AND state <> 'valid'"
    assert await platform.value(domain, DOMAIN) == 0
    assert await platform.value("SELECT count(*) FROM acme.http_challenge") == 0


async def test_a_domain_that_leads_elsewhere_is_not_ours(
    public: PublicPlatform, tool: Tool
) -> None:
    domain = new_domain()
    await tool.has_domain(domain)
    public.names.set_a(domain, "127.0.0.2")
    assert await tool.certificate("POST", "/obtain", HTTP_01) == (
        400,
        {"success": False, "error": NOT_PROVED},
    )
    [order] = await tool.orders()
    assert order["state"] == "failed"
    assert NOT_PROVED in order["reason"]
    assert await tool.certificate() == (200, None)
    public.names.clear_a(domain)
    assert (await tool.obtained())["domain"] == domain


@pytest.mark.parametrize(
    ("options", "key_text"),
    [
        ({"keyType": "ec"}, "ASN1 OID: prime256v1"),
        ({"keyType": "rsa", "keySize": 4096}, "(4096 bit)"),
        ({}, "(2048 bit)"),
    ],
    ids=["ec", "rsa 4096", "as it stands"],
)
async def test_the_key_is_as_it_was_wished(
    tool: Tool, options: dict[str, object], key_text: str
) -> None:
    await tool.has_domain(new_domain())
    await tool.obtained(json.dumps({**json.loads(HTTP_01), **options, "autoRenew": False}))
    chain, _ = await tool.files()
    assert key_text in await output_of("openssl", "x509", "-in", chain, "-noout", "-text")
    assert (await tool.certificate("GET", "/status"))[1]["autoRenew"] is False


async def test_what_is_tried_is_not_taken_for_a_certificate(tool: Tool) -> None:
    domain = new_domain()
    await tool.has_domain(domain)
    tried = await tool.obtained(json.dumps({**json.loads(HTTP_01), "dryRun": True}))
    assert tried["domain"] == domain
    assert await tool.certificate() == (200, None)
    staging = json.dumps({**json.loads(HTTP_01), "staging": True})
    assert (await tool.obtained(staging))["staging"] is True
    assert (await tool.certificate())[1]["staging"] is True
    await tool.obtained()
    live = await tool.certificate()
    assert "staging" not in live[1]
    assert (await tool.obtained(staging))["staging"] is True
    assert await tool.certificate() == live


async def test_many_at_once_make_one_order(tool: Tool) -> None:
    await tool.has_domain(new_domain())
    other = HTTP_01.replace("admin@", "other@")
    answers = await asyncio.gather(
        *(tool.certificate("POST", "/obtain", HTTP_01) for _ in range(5)),
        *(tool.certificate("POST", "/obtain", other) for _ in range(2)),
    )
    begun = [answer for answer in answers if answer[0] == 200]
    assert len(begun) in {2, 5}  # whoever was first, and who asked for the same
    assert all(answer == begun[0] for answer in begun)
    refused = [answer for answer in answers if answer[0] != 200]
    said = {"success": False, "error": "A certificate order is already in progress"}
    assert all(answer == (409, said) for answer in refused), refused
    assert len(await tool.orders()) == 1


async def test_a_repeated_request_gets_the_first_answer(tool: Tool) -> None:
    await tool.has_domain(new_domain())
    key = ("-H", "Idempotency-Key: deploy-1")
    first = await tool.certificate("POST", "/obtain", HTTP_01, *key)
    assert first[0] == 200, first
    assert await tool.certificate("POST", "/obtain", HTTP_01, *key) == first
    assert len(await tool.orders()) == 1
    other = HTTP_01.replace("admin@", "other@")
    assert (await tool.certificate("POST", "/obtain", other, *key))[0] == 422


async def test_a_key_that_may_read_gets_no_private_key_and_begins_nothing(
    public: PublicPlatform, tool: Tool
) -> None:
    await tool.has_domain(new_domain())
    await tool.obtained('{"email": "a@example.com", "challengeType": "http-01", "keyType": "ec"}')
    reader = Tool(public, await api_key(public, projects="read"), tool.project, tool.directory)
    assert (await reader.certificate())[0] == 200
    refused = (403, {"success": False, "error": "Not enough permissions"})
    assert await reader.certificate("GET", "/private-key") == refused
    for method, what in (("POST", "/renew"), ("POST", "/revoke"), ("DELETE", "")):
        assert await reader.certificate(method, what) == refused
    assert len(await tool.orders()) == 1


async def test_a_preflight_says_what_an_order_would_stumble_over(
    public: PublicPlatform, tool: Tool
) -> None:
    domain = new_domain()
    await tool.has_domain(domain)
    status, said = await tool.certificate("POST", "/preflight", HTTP_01)
    assert (status, said["success"]) == (200, True), said
    public.names.set_a(domain, "127.0.0.2")
    status, said = await tool.certificate("POST", "/preflight", HTTP_01)
    assert (status, said["success"]) == (200, False), said
    failed = {check["name"] for check in said["checks"] if not check["ok"]}
    assert failed <= {"dns", "http"}
    assert failed
    assert await tool.orders() == []


# --- DNS ----------------------------------------------------------------------------------------


@asynccontextmanager
async def cloudflare(public: PublicPlatform) -> AsyncIterator[MemoryHosting]:
    """Run a provider that hosts example.com for whoever has the specification's token."""
    hosting = MemoryHosting(into(public.names))
    hosting.host("example.com")
    server = HttpServer(
        CloudflareApi(hosting, TOKEN).application,
        listen("127.0.0.1", public.cloudflare_port),
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    server.start()
    try:
        yield hosting
    finally:
        await server.stop()


async def test_a_wildcard_by_dns(public: PublicPlatform, tool: Tool) -> None:
    apex = new_domain()
    await tool.has_domain(f"*.{apex}")
    refused = {"success": False, "error": "Wildcard domains need the dns-01 challenge"}
    assert await tool.certificate("POST", "/obtain", HTTP_01) == (400, refused)
    async with cloudflare(public) as hosting:
        is_as_printed(await tool.obtained(CLOUDFLARE), OBTAINED, domain=f"*.{apex}")
        extension = (await tool.leaf()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert set(extension.value.get_values_for_type(x509.DNSName)) == {apex, f"*.{apex}"}

        async def are_gone() -> bool:
            return hosting.values(f"_acme-challenge.{apex}") == []

        await eventually(are_gone, "the records are removed")
        status, renewed = await tool.certificate("POST", "/renew")  # with the stored credentials
        assert status == 200, renewed
        await eventually(are_gone, "the records are removed")


async def test_a_token_that_the_provider_does_not_know_is_said_and_shown_nowhere(
    public: PublicPlatform, tool: Tool
) -> None:
    await tool.has_domain(new_domain())
    wrong = f"wrong-token-{os.getpid()}"
    async with cloudflare(public):
        status, said = await tool.certificate("POST", "/obtain", CLOUDFLARE.replace(TOKEN, wrong))
    assert status == 400
    assert said.keys() == {"success", "error"}
    assert said["error"].startswith("DNS provider error: ")
    assert wrong not in json.dumps([said, await tool.orders()])
    for log in public.platform.logs.glob("*.log"):
        assert wrong not in log.read_text()
        assert TOKEN not in log.read_text()


# --- Uploads ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bought:
    """A certificate of another CA, as openssl made it."""

    certificate: str
    key: str

    def body(self, **changes: str) -> str:
        """Return it as it is uploaded."""
        return json.dumps({"certificate": self.certificate, "privateKey": self.key, **changes})


async def bought(directory: Path, domain: str, days: int = 365) -> Bought:
    """Make a root, an intermediate and a certificate, and put the chain together."""
    (directory / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    (directory / "leaf.ext").write_text(f"subjectAltName=DNS:{domain}\n")
    signers = {"intermediate": "root", "leaf": "intermediate"}
    names = {"root": "/CN=A root", "intermediate": "/O=DigiCert Inc/CN=A CA", "leaf": "/CN=shop"}
    for name, subject in names.items():
        new_key = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]
        if name == "root":
            extension = ["-addext", "basicConstraints=critical,CA:TRUE"]
            made = [*new_key, "-x509", "-subj", subject, "-out", f"{name}.crt", *extension]
            await output_of(*made, cwd=directory)
            continue
        await output_of(*new_key, "-subj", subject, "-out", f"{name}.csr", cwd=directory)
        signer = signers[name]
        sign = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-days", str(days)]
        sign += ["-CA", f"{signer}.crt", "-CAkey", f"{signer}.key", "-out", f"{name}.crt"]
        kind = "leaf" if name == "leaf" else "ca"
        await output_of(*sign, "-extfile", f"{kind}.ext", "-CAcreateserial", cwd=directory)
    chain = "".join((directory / f"{name}.crt").read_text() for name in ("leaf", "intermediate"))
    return Bought(chain, (directory / "leaf.key").read_text())


async def test_an_uploaded_certificate(tool: Tool) -> None:
    ours = await bought(tool.directory, DOMAIN)
    assert await tool.certificate("POST", "/upload", ours.body()) == NO_DOMAIN
    await tool.has_domain(DOMAIN)
    status, said = await tool.certificate("POST", "/validate", ours.body())
    assert status == 200, said
    is_as_printed(said, VALID, issuer="DigiCert Inc")
    status, said = await tool.certificate("POST", "/upload", ours.body())
    assert status == 200, said
    assert said["success"] is True
    is_as_printed(said["certificate"], UPLOADED, issuer="DigiCert Inc")
    _, shown = await tool.certificate()
    is_as_printed(shown, {**CERTIFICATE, "type": "custom"}, issuer="A CA", autoRenew=False)
    chain, key = await tool.files()
    verify = ["openssl", "verify", "-CAfile", tool.directory / "root.crt", "-untrusted", chain]
    assert "OK" in await output_of(*verify, chain)
    of_key = await output_of("openssl", "pkey", "-in", key, "-pubout")
    assert await output_of("openssl", "x509", "-in", chain, "-noout", "-pubkey") == of_key
    status, said = await tool.certificate("POST", "/renew")
    assert (status, said["success"]) == (400, False)
    revoked = await tool.certificate("POST", "/revoke")
    assert revoked == (200, {"success": True, "message": "Certificate revoked"})


async def test_what_is_wrong_with_an_upload_is_said_and_changes_nothing(tool: Tool) -> None:
    await tool.has_domain(DOMAIN)
    ours = await bought(tool.directory, DOMAIN)
    directory = tool.directory / "others"
    directory.mkdir()
    theirs = await bought(directory, "www.example.org")
    assert await tool.certificate("POST", "/validate", ours.body(privateKey=theirs.key)) == (
        200,
        {"valid": False, "error": NO_MATCH},
    )
    for body, error in (
        (theirs.body(), NOT_FOR_DOMAIN),
        (ours.body(privateKey=theirs.key), NO_MATCH),
    ):
        refused = (400, {"success": False, "error": error})
        assert await tool.certificate("POST", "/upload", body) == refused
        validated = await tool.certificate("POST", "/validate", body)
        assert validated == (200, {"valid": False, "error": error})
    root = (tool.directory / "root.crt").read_text()
    _, said = await tool.certificate(
        "POST", "/validate", ours.body(certificate=root + ours.certificate)
    )
    assert said["valid"] is True, said
    stranger = (directory / "intermediate.crt").read_text()
    broken = ours.body(certificate=ours.certificate + stranger)
    refused = (400, {"success": False, "error": "Certificate chain is invalid"})
    assert await tool.certificate("POST", "/upload", broken) == refused
    assert await tool.certificate() == (200, None)


def on_disk(path: str) -> x509.Certificate:
    """Return the first certificate of a file."""
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


# --- The administrator ---------------------------------------------------------------------------


async def test_the_administrator_sees_and_renews_it(public: PublicPlatform, tool: Tool) -> None:
    domain = new_domain()
    await tool.has_domain(domain)
    obtained = await tool.obtained()
    before = await tool.leaf()
    live = Path(public.platform.line.environment["CERTWIRE_ACME_LIVE_DIR"])
    async with administrator(public.platform) as chief:
        listed = (await chief.call("GET", "/api/certs")).json()["certs"]
        [ours] = [each for each in listed if each["domain"] == domain]
        assert ours == {
            "type": "letsencrypt",
            "domain": domain,
            "expiresAt": obtained["expiresAt"].replace("Z", ".000Z"),
            "daysUntilExpiry": 89,
            "path": str(live / "live" / domain / "fullchain.pem"),
            "expiringSoon": False,
        }
        assert on_disk(ours["path"]) == before
        renewed = await chief.call("POST", f"/api/certs/{domain}/renew")
        assert renewed.status_code == 200, renewed.text
        said = renewed.json()
        assert said.keys() == {"ok", "domain", "newExpiry"}
        assert (said["ok"], said["domain"]) == (True, domain)
        assert MILLISECONDS.fullmatch(said["newExpiry"])
        after = await tool.leaf()
        assert after.serial_number != before.serial_number
        assert on_disk(ours["path"]) == after

        (live / "broken").touch()  # the reload command fails
        try:
            renewed = await chief.call("POST", f"/api/certs/{domain}/renew")
        finally:
            (live / "broken").unlink()
        assert renewed.status_code == 200, renewed.text
        assert renewed.json()["warning"] == "Certificate renewed but nginx reload failed"

        schedule = (await chief.call("GET", "/api/certs/auto-renew-status")).json()
        assert schedule.keys() == {"active", "nextRun", "lastRun"}
        assert schedule["active"] is True
        for name in ("nextRun", "lastRun"):
            assert MILLISECONDS.fullmatch(schedule[name]), schedule
        now, next_run = utc_now(), datetime.fromisoformat(schedule["nextRun"])
        assert now + timedelta(days=50) < next_run < now + timedelta(days=60)

        missing = await chief.call("POST", f"/api/certs/{new_domain()}/renew")
        assert (missing.status_code, missing.json()["error"]) == (404, "Certificate not found")
        async with public.platform.superuser() as connection:
            await connection.execute(ANOTHER_ACCOUNT, domain)
        public.names.set_a(domain, "127.0.0.2")
        failed = await chief.call("POST", f"/api/certs/{domain}/renew", trouble=True)
        assert failed.status_code == 500
        assert failed.json()["error"] == "Certificate renewal failed"
        assert NOT_PROVED in str(failed.json()["details"])
        public.names.clear_a(domain)
    assert NOT_PROVED in (await tool.certificate("GET", "/status"))[1]["lastRenewError"]
    assert on_disk(ours["path"]) == await tool.leaf()


# --- The operator --------------------------------------------------------------------------------


async def test_the_status_warns_and_the_metrics_count(public: PublicPlatform, tool: Tool) -> None:
    platform, elsewhere = public.platform, "https://ca.example.org/directory"
    async with platform.superuser() as connection:
        await connection.execute(
            "INSERT INTO acme.authority (directory, paused_until, pause_reason, renewals)"
            " VALUES ($1, now() + interval '1 hour', 'rateLimited: too many', 0)",
            elsewhere,
        )
        try:
            status = json.loads(await platform.succeed("status", "--json"))
        finally:
            await connection.execute("DELETE FROM acme.authority WHERE directory = $1", elsewhere)
    [warning] = [text for text in status["warnings"] if text.startswith("acme: ")]
    assert warning.startswith(f"acme: {elsewhere} is left alone until 2")
    assert warning.endswith(": rateLimited: too many")

    labels = 'directory="live",kind="obtain",outcome="valid"'
    before = await counted(public, labels)
    await tool.has_domain(new_domain())
    await tool.obtained()
    assert await counted(public, labels) == before + 1


async def counted(public: PublicPlatform, labels: str) -> float:
    """Return how many orders Prometheus would read."""
    url = f"http://127.0.0.1:{public.platform.ports()['ops-acme']}/metrics"
    metrics = await output_of("curl", "-sS", url)
    found = re.search(rf"^certwire_acme_orders_total{{{labels}}} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0
