"""The fastpki dialect from end to end, with the lines of its specification as they are printed."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.client import Client, superuser
from tests.support.csr import csr_pem, new_key
from tests.support.platform import Platform
from tests.support.programs import output_of, path_of

CAS, CERTIFICATES, EXPORT = "/api/v1/cas", "/api/v1/certificates", "/api/v1/export"
USERS, ORGANIZATIONS = "/api/v1/users", "/api/v1/organizations"
WALK = Path(__file__).with_name("fastpki-walk.txt")
PASSWORD = "correct horse"
FLAGS = (
    "can_create_ca",
    "can_create_cert",
    "can_revoke_cert",
    "can_export_private_key",
    "can_delete_ca",
)
_numbers = itertools.count(1)


@pytest.fixture
async def root(platform: Platform, address: str) -> AsyncIterator[Client]:
    """Return a superuser."""
    async with superuser(platform, address=address) as root:
        yield root


@dataclass
class Organization:
    """An organisation with its administrator, a user without any flag, and one with all.

    `user_id` is of the one without.
    """

    id: int
    admin: Client
    user: Client
    user_id: int
    maker: Client


@pytest.fixture
async def organization(platform: Platform, root: Client) -> AsyncIterator[Organization]:
    """Return an organisation of the test's own."""
    number = next(_numbers)
    made = await done(
        root, "POST", f"{ORGANIZATIONS}/", {"name": f"Walkers {os.getpid()}-{number}"}
    )
    ids = {}
    for who in ("admin", "user", "maker"):
        name = f"walker-{who}-{os.getpid()}-{number}"
        body: dict[str, object] = {"username": name}
        body |= {"email": f"{name}@example.com", "password": PASSWORD}
        body |= {"role": "admin" if who == "admin" else "user", "organization_id": made["id"]}
        body |= dict.fromkeys(FLAGS, who == "maker")
        ids[who] = (await done(root, "POST", f"{USERS}/", body))["id"], name
    async with (
        Client(platform, Authorization=await authorization(platform, ids["admin"][1])) as admin,
        Client(platform, Authorization=await authorization(platform, ids["user"][1])) as user,
        Client(platform, Authorization=await authorization(platform, ids["maker"][1])) as maker,
    ):
        yield Organization(made["id"], admin, user, ids["user"][0], maker)


async def authorization(platform: Platform, username: str) -> str:
    """Log in, from an address of its own: logins are limited."""
    async with Client(platform, address=f"127.0.77.{next(_numbers) + 1}") as nobody:
        body = {"username": username, "password": PASSWORD}
        response = await nobody.call("POST", "/api/v1/auth/token", data=body)
    assert response.status_code == 200, response.text
    return f"Bearer {response.json()['access_token']}"


async def done(client: Client, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
    """Return the answer of a call that succeeds."""
    response = await client.call(method, path, body)
    assert response.is_success, (path, response.text)
    return response.json() if response.content else None


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Return status and text of a refusal."""
    return response.status_code, response.json()["detail"]


async def a_ca(client: Client, name: str, **fields: object) -> dict[str, Any]:
    """Make a CA; of P-256, for that is quick."""
    body = {"name": name, "subject_dn": f"CN={name},O=Acme Corp,C=US", "key_type": "ec", **fields}
    made: dict[str, Any] = await done(client, "POST", f"{CAS}/", body)
    return made


async def signed(client: Client, ca_id: int, **fields: object) -> dict[str, Any]:
    """Have a CSR signed."""
    body = {"csr": csr_pem(new_key(), "api.example.com"), "certificate_type": "server"}
    made: dict[str, Any] = await done(
        client, "POST", f"{CERTIFICATES}/sign-csr", {**body, "ca_id": ca_id, **fields}
    )
    return made


# --- The specification's lines -------------------------------------------------------------------


class Shell:
    """Runs lines of the specification as they stand, but for the host and the ids in paths."""

    def __init__(self, platform: Platform, directory: Path, token: str) -> None:
        self._url = platform.url
        self._directory = directory
        (directory / ".curlrc").write_text(f"cacert = {platform.ca_file}\n")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {"CURL_HOME": str(directory), "PATH": path, "TOKEN": token}
        parts = WALK.read_text().split("# ")[1:]
        self._lines = {title: line for title, _, line in (part.partition("\n") for part in parts)}

    async def run(self, title: str, *changes: tuple[str, str]) -> Any:  # noqa: ANN401 - any JSON
        """Run a line; return the JSON that it printed."""
        line = self._lines[title]
        for before, after in (("http://localhost:8000", self._url), *changes):
            assert before in line or before.startswith("http"), (before, line)
            line = line.replace(before, after)
        finished = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert finished.returncode == 0, (line, finished.stderr)
        return json.loads(finished.stdout or "null")


async def walk(client: Client, platform: Platform, directory: Path, name: str) -> None:
    """Go through the specification, from a root CA to a certificate that is revoked."""
    for program in ("curl", "jq"):
        path_of(program)
    shell = Shell(platform, directory, client.headers["Authorization"].removeprefix("Bearer "))
    root = await a_ca(client, f"{name} Root", path_length=1)
    issuing = await a_ca(client, f"{name} Issuing CA", parent_ca_id=root["id"])
    closed = await client.call("POST", f"{CERTIFICATES}/?ca_id={root['id']}", LEAF)
    assert refusal(closed) == (400, "The CA does not allow leaf certificates")
    at = ("ca_id=1", f"ca_id={issuing['id']}")

    issued = await shell.run("issue", at)
    assert (issued["status"], issued["key_size"], issued["valid_days"]) == ("valid", 2048, 365)
    assert issued["subject_alternative_names"] == ["DNS:api.example.com"]
    named = await shell.run("issue with names", at)
    assert named["subject_alternative_names"] == [
        "DNS:api.example.com",
        "DNS:api-v2.example.com",
        "IP:10.0.0.42",
    ]
    of_alice = await shell.run("issue to a client", at)
    assert of_alice["subject_alternative_names"] == []

    await shell.run("make a CSR")
    by_name = await shell.run("sign it", ("Acme Issuing CA", f"{name} Issuing CA"))
    by_id = await shell.run(
        "sign it",
        (" --arg ca ", " --argjson ca "),
        ('"Acme Issuing CA"', str(issuing["id"])),
        ("ca_name", "ca_id"),
    )
    key = load_pem_private_key((directory / "api.example.com.key").read_bytes(), None)
    for made in (by_name, by_id):
        assert "private_key" not in made
        assert made["subject_dn"] == "C=US,O=Acme Corp,CN=api.example.com"
        assert x509.load_pem_x509_certificate(made["certificate"].encode()).public_key() == (
            key.public_key()
        )
    all_ids = [made["id"] for made in (issued, named, of_alice, by_name, by_id)]
    assert [one["id"] for one in await shell.run("list those of a CA", at)] == all_ids
    assert await shell.run("list")

    number = ("certificates/1", f"certificates/{issued['id']}")
    without_key = {name: value for name, value in issued.items() if name != "private_key"}
    assert await shell.run("view", number) == without_key
    assert await shell.run("view with private key", number) == issued
    await verified(client, issued, directory)

    revoked = await shell.run("revoke", number)
    assert (revoked["status"], revoked["revocation_reason"]) == ("revoked", "key_compromise")
    again = await client.call("POST", f"{CERTIFICATES}/{issued['id']}/revoke", {})
    assert refusal(again) == (409, "Certificate is already revoked")
    assert (await shell.run("view", number))["revoked_at"] == revoked["revoked_at"]


LEAF = {
    "common_name": "api.example.com",
    "subject_dn": "CN=api.example.com",
    "certificate_type": "server",
    "key_type": "ec",
}


async def verified(client: Client, issued: dict[str, Any], directory: Path) -> None:
    """Export chain and key, and let openssl say that they belong together."""
    for name in ("chain", "private-key"):
        response = await client.call("GET", f"{EXPORT}/certificate/{issued['id']}/{name}")
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"].startswith("attachment; filename=")
        (directory / f"{name}.pem").write_text(response.text)
    *_, root = x509.load_pem_x509_certificates((directory / "chain.pem").read_bytes())
    assert root.issuer == root.subject
    (directory / "leaf.pem").write_text(issued["certificate"])
    said = await output_of(
        "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "chain.pem",
        "leaf.pem", cwd=directory,
    )  # fmt: skip
    assert "leaf.pem: OK" in said
    public = await output_of("openssl", "pkey", "-in", "private-key.pem", "-pubout", cwd=directory)
    of_leaf = await output_of(
        "openssl", "x509", "-in", "leaf.pem", "-pubkey", "-noout", cwd=directory
    )
    assert public == of_leaf


async def test_the_walk_as_a_superuser(platform: Platform, root: Client, tmp_path: Path) -> None:
    await walk(root, platform, tmp_path, f"Root's {os.getpid()}")


async def test_the_walk_as_an_organisation_s_user(
    platform: Platform, organization: Organization, tmp_path: Path
) -> None:
    await walk(organization.maker, platform, tmp_path, f"Acme {organization.id}")


# --- Who may -------------------------------------------------------------------------------------


async def test_a_grant_makes_the_difference(organization: Organization) -> None:
    ca = await a_ca(organization.admin, f"Granting {organization.id}")
    user = organization.user
    body = {"csr": csr_pem(), "certificate_type": "client", "ca_id": ca["id"]}
    refused = await user.call("POST", f"{CERTIFICATES}/sign-csr", body)
    assert refusal(refused) == (403, "Not enough permissions")
    grant = f"{CAS}/{ca['id']}/grants/{organization.user_id}"
    await done(organization.admin, "PUT", grant, {"capabilities": ["create_cert", "revoke_cert"]})
    made = await done(user, "POST", f"{CERTIFICATES}/sign-csr", body)
    theirs = await signed(organization.admin, ca["id"])
    revoked = await done(user, "POST", f"{CERTIFICATES}/{theirs['id']}/revoke", {})
    assert revoked["status"] == "revoked"
    listed = await done(user, "GET", f"{CERTIFICATES}/?ca_id={ca['id']}")
    assert [one["id"] for one in listed] == [made["id"], theirs["id"]]
    await done(organization.admin, "DELETE", grant)
    refused = await user.call("POST", f"{CERTIFICATES}/sign-csr", body)
    assert refused.status_code == 403


async def test_another_organisation_sees_nothing(
    root: Client, organization: Organization, platform: Platform
) -> None:
    ca = await a_ca(root, f"Superusers' {organization.id}")
    made = await signed(root, ca["id"])
    for client in (organization.admin, organization.user):
        listed = await done(client, "GET", f"{CERTIFICATES}/?limit=1000")
        assert made["id"] not in [one["id"] for one in listed]
        for method, path in (("GET", ""), ("GET", "/private-key"), ("POST", "/revoke")):
            response = await client.call(method, f"{CERTIFICATES}/{made['id']}{path}")
            assert response.status_code == 403, path
    async with Client(platform) as nobody:
        assert (await nobody.call("GET", f"{CERTIFICATES}/")).status_code == 401


async def test_the_platform_s_certificates_are_revoked_elsewhere(root: Client) -> None:
    listed = await done(root, "GET", f"{CERTIFICATES}/")
    elsewhere = [one for one in listed if one["certificate_type"] in {"gateway", "admin"}]
    assert elsewhere
    for one in elsewhere:
        response = await root.call("POST", f"{CERTIFICATES}/{one['id']}/revoke", {})
        assert response.status_code == 409
        assert "This is the certificate of" in response.json()["detail"]


# --- Races and repeats ---------------------------------------------------------------------------


async def test_of_twenty_revocations_one_succeeds(organization: Organization) -> None:
    ca = await a_ca(organization.admin, f"Racing {organization.id}")
    made = await signed(organization.admin, ca["id"])
    path = f"{CERTIFICATES}/{made['id']}/revoke"
    answers = await asyncio.gather(*(organization.admin.call("POST", path) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}


async def test_a_repeat_under_a_key_gets_the_same_certificate(organization: Organization) -> None:
    ca = await a_ca(organization.admin, f"Repeating {organization.id}")
    body = {"csr": csr_pem(), "certificate_type": "client", "ca_id": ca["id"]}
    key = {"Idempotency-Key": "once"}

    async def sign(body: object) -> httpx2.Response:
        return await organization.admin.call("POST", f"{CERTIFICATES}/sign-csr", body, headers=key)

    answers = await asyncio.gather(*(sign(body) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert (await sign(body)).text == answers[0].text
    assert (await sign({**body, "valid_days": 1})).status_code == 409
    listed = await done(organization.admin, "GET", f"{CERTIFICATES}/?ca_id={ca['id']}")
    assert len(listed) == 1


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"certificate_type": "server", "san_email_addresses": ["a@example.com"]}, 400, "email"),
        ({"certificate_type": "client", "san_dns_names": ["a.example.com"]}, 400, "DNS"),
        ({"certificate_type": "client", "san_ip_addresses": ["10.0.0.1"]}, 400, "IP"),
        ({"subject_dn": "CN=other.example.com"}, 400, "common_name"),
        ({"subject_dn": "no name"}, 422, "distinguished name"),
        ({"subject_dn": "CN=" + "x" * 65}, 422, "distinguished name"),
        ({"san_dns_names": ["bücher.example"]}, 422, "xn--"),
        ({"common_name": "Our API", "subject_dn": "CN=Our API"}, 400, "needed"),
        ({"key_size": 1024, "key_type": "rsa"}, 422, "RSA"),
    ],
)
async def test_what_makes_no_certificate(
    root: Client, fields: dict[str, object], status: int, text: str
) -> None:
    ca = await a_ca(root, f"Refusing {next(_numbers)}")
    response = await root.call("POST", f"{CERTIFICATES}/?ca_id={ca['id']}", {**LEAF, **fields})
    assert response.status_code == status, response.text
    assert text in json.dumps(response.json()["detail"], ensure_ascii=False)
    assert not await done(root, "GET", f"{CERTIFICATES}/?ca_id={ca['id']}")


async def test_an_invalid_csr_is_400_whoever_the_ca(root: Client) -> None:
    weak = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    for csr in ("no CSR", weak):
        body = {"csr": csr, "certificate_type": "server", "ca_id": 10**9}
        response = await root.call("POST", f"{CERTIFICATES}/sign-csr", body)
        assert response.status_code == 400
        assert response.json()["detail"].startswith("Invalid CSR: ")
    body = {"csr": csr_pem(), "certificate_type": "client", "ca_id": 10**9}
    response = await root.call("POST", f"{CERTIFICATES}/sign-csr", body)
    assert refusal(response) == (404, "CA not found")
