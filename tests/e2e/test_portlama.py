"""The administrator and agents over HTTPS, and the files that they import elsewhere."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from tests.support.agents import AGENTS, ENROLL, Agent, enrolled, new_label, with_token
from tests.support.client import Client, connection_of, fingerprint_of, pem_of
from tests.support.csr import csr_pem, new_key
from tests.support.eventually import eventually
from tests.support.platform import Platform
from tests.support.programs import outcome_of, output_of, path_of

Changes = tuple[tuple[str, str], ...]
ROTATE, DOWNLOAD = "/api/certs/mtls/rotate", "/api/certs/mtls/download"
UPGRADE, AUTH_MODE = "/api/certs/admin/upgrade-to-hardware-bound", "/api/certs/admin/auth-mode"
CHEAT_SHEET = Path(__file__).with_name("portlama-cheat-sheet.txt")
GONE = (
    "P12 certificate {} is disabled. Admin uses hardware-bound authentication."
    " Use portlama-reset-admin on the server to revert."
)


def said(response: httpx2.Response) -> tuple[int, object]:
    """Return status and text of a refusal."""
    return response.status_code, response.json()["error"]


@dataclass(frozen=True)
class Bundle:
    """A PKCS#12 file and its password."""

    pkcs12: bytes
    password: str

    @property
    def identity(self) -> str:
        """Return certificate and key in PEM."""
        opened = load_pkcs12(self.pkcs12, self.password.encode())
        assert opened.cert
        assert opened.key
        pem = opened.cert.certificate.public_bytes(Encoding.PEM).decode()
        return pem + pem_of(opened.key)  # type: ignore[arg-type]  # the platform makes P-256 keys

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pkcs12)
        return path


def bundle_of(platform: Platform) -> Bundle:
    """Return what `certwire admin reset` left."""
    password = (platform.bootstrap / "admin.p12.password").read_text().strip()
    return Bundle((platform.bootstrap / "admin.p12").read_bytes(), password)


# --- curl ---------------------------------------------------------------------------------------


class Curl:
    """Runs lines of the cheat sheet as they stand, but for the host and the credentials."""

    def __init__(self, platform: Platform, directory: Path, bundle: Bundle) -> None:
        self._platform = platform
        self._directory = directory
        self._bundle = bundle
        self.present(bundle)
        # What an administrator writes down once, so that the lines can stay as they are.
        (directory / ".curlrc").write_text(f"cert-type = P12\ncacert = {platform.ca_file}\n")

    def present(self, bundle: Bundle) -> None:
        """Use this file from now on."""
        self._bundle = bundle
        bundle.write(self._directory / "client.p12")

    def run(self, line: str, changes: Changes = ()) -> bytes:
        """Run a line; return what it printed."""
        line = line.replace("203.0.113.42:9292", f"localhost:{self._platform.https_port}")
        line = line.replace("client.p12:password", f"client.p12:{self._bundle.password}")
        for before, after in changes:
            assert before in line
            line = line.replace(before, after)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self._directory,
            env={"CURL_HOME": str(self._directory), "PATH": os.environ["PATH"]},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def json(self, line: str, changes: Changes = ()) -> dict[str, Any]:
        """Run a line; return the JSON that it printed."""
        answer: dict[str, Any] = json.loads(self.run(line, changes))
        return answer


def cheat_sheet() -> dict[str, str]:
    """Return the lines by their comments."""
    parts = CHEAT_SHEET.read_text().strip().split("# ")[1:]
    return {comment: line for comment, _, line in (part.partition("\n") for part in parts)}


def escaped(pem: str) -> str:
    """Return a PEM text as the cheat sheet has it inside JSON."""
    return pem.replace("\n", "\\n")


EXAMPLE_CSR = r"-----BEGIN CERTIFICATE REQUEST-----\n...\n-----END CERTIFICATE REQUEST-----"


@pytest.mark.usefixtures("chief")
async def test_the_cheat_sheet_runs_as_it_stands(changing: Platform, tmp_path: Path) -> None:
    """Host and credentials aside; in its order, so that each line finds what those before left."""
    for program in ("curl", "jq"):
        path_of(program)
    curl = Curl(changing, tmp_path, bundle_of(changing))
    lines = list(cheat_sheet().items())
    assert len(lines) == 14

    def following(comment: str) -> str:
        found, line = lines.pop(0)
        assert found == comment
        return line

    listed = curl.json(following("List all certificates"))
    assert [row["type"] for row in listed["certs"]] == ["mtls-client", "mtls-ca"]
    status = curl.json(following("Check auto-renewal timer"))
    assert status == {"active": True, "nextRun": None, "lastRun": None}
    renewed = curl.json(following("Force-renew a certificate"))
    assert renewed == {"error": "Certificate not found"}

    rotated = curl.json(following("Rotate mTLS certificate"))
    assert rotated["ok"] is True
    curl.run(following("Download client certificate"))  # still with the old one: once
    new = Bundle((tmp_path / "client-new.p12").read_bytes(), rotated["p12Password"])
    curl.present(new)

    created = curl.json(following("Generate an agent certificate with site access"))
    assert created.keys() == {"ok", "label", "p12Password", "serial", "expiresAt"}
    [agent] = [
        one
        for one in curl.json(following("List agent certificates"))["agents"]
        if one["label"] == "macbook-pro" and not one["revoked"]
    ]
    assert agent["serial"] == created["serial"]
    assert curl.json(following("Update agent capabilities")) == {
        "ok": True,
        "label": "macbook-pro",
        "capabilities": ["tunnels:read", "services:read"],
    }
    assert curl.json(following("Update agent site access")) == {
        "ok": True,
        "label": "macbook-pro",
        "allowedSites": ["blog", "docs"],
    }
    revoked = curl.json(following("Revoke an agent certificate"))
    assert revoked == {"ok": True, "label": "macbook-pro"}

    token = curl.json(following("Generate an enrollment token for hardware-bound agent enrollment"))
    assert re.fullmatch(r"[0-9a-f]{64}", token["token"])
    line = following("Enroll agent with token and CSR (no mTLS required)")
    csr = (EXAMPLE_CSR, escaped(csr_pem()))
    joined = curl.json(line, (("a1b2c3d4e5f6...", token["token"]), csr))
    assert joined.keys() == {"ok", "cert", "caCert", "label", "serial", "expiresAt"}
    assert joined["caCert"] == changing.ca_file.read_text()
    again = curl.json(line, (("a1b2c3d4e5f6...", token["token"]), csr))
    assert again == {"error": "Enrollment token has already been used"}
    assert curl.json(line) == {"error": "Invalid enrollment token"}

    key = new_key()
    line = following("Upgrade admin certificate to hardware-bound")
    assert curl.json(line) == {"error": "Invalid CSR: structure or signature verification failed"}
    upgraded = curl.json(line, ((EXAMPLE_CSR, escaped(csr_pem(key))),))
    (tmp_path / "hardware.pem").write_text(upgraded["cert"] + pem_of(key))
    words = "openssl pkcs12 -export -in hardware.pem -out hardware.p12 -passout pass:own"
    await output_of(*shlex.split(words), cwd=tmp_path)
    curl.present(Bundle((tmp_path / "hardware.p12").read_bytes(), "own"))
    mode = curl.json(following("Check admin auth mode"))
    assert mode == {"adminAuthMode": "hardware-bound"}
    assert not lines
    await changing.succeed("admin", "reset")


# --- The files, elsewhere -------------------------------------------------------------------------


async def downloaded(chief: Client, path: str, password: str, query: str = "") -> Bundle:
    """Return a bundle as it is served."""
    response = await chief.call("GET", path + query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-pkcs12"
    return Bundle(response.content, password)


async def new_p12_agent(chief: Client) -> tuple[str, str]:
    """Return label and password of a new agent with a PKCS#12 file."""
    label = new_label()
    response = await chief.call("POST", AGENTS, {"label": label})
    assert response.status_code == 200, response.text
    password: str = response.json()["p12Password"]
    assert re.fullmatch(r"[0-9a-f]{32}", password)
    return label, password


async def openssl_structure(bundle: Bundle, path: Path, *options: str) -> str:
    """Return what openssl says of a file that it opens."""
    words = ("openssl", "pkcs12", "-info", "-nodes", "-in", bundle.write(path))
    return await output_of(*words, "-passin", f"pass:{bundle.password}", *options)


async def nss_database(directory: Path) -> Path:
    """Make a key database like the one of a browser."""
    database = directory / ".pki" / "nssdb"
    database.mkdir(parents=True)
    await output_of("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
    return database


async def nss_imports(bundle: Bundle, database: Path, path: Path) -> str:
    """Import a file into NSS; return what is there afterwards."""
    words = ("pk12util", "-i", bundle.write(path), "-d", f"sql:{database}", "-K", "")
    await output_of(*words, "-W", bundle.password)
    return await output_of("certutil", "-K", "-d", f"sql:{database}")


async def gnutls_opens(bundle: Bundle, path: Path) -> str:
    """Return what GnuTLS says of a file that it opens."""
    words = ("certtool", "--p12-info", "--inder", "--infile", bundle.write(path))
    return await output_of(*words, "--password", bundle.password)


async def test_the_administrators_file_opens_everywhere(
    changing: Platform, chief: Client, tmp_path: Path
) -> None:
    bundle = await downloaded(chief, DOWNLOAD, bundle_of(changing).password)
    structure = await openssl_structure(bundle, tmp_path / "client.p12")
    assert "PBES2, PBKDF2, AES-256-CBC, Iteration" in structure
    assert "MAC: sha256" in structure
    assert "-----BEGIN PRIVATE KEY-----" in structure
    assert structure.count("-----BEGIN CERTIFICATE-----") == 3  # with both of the CA
    assert "Certwire admin" in await nss_imports(
        bundle, await nss_database(tmp_path), tmp_path / "client.p12"
    )
    assert "BEGIN" in await gnutls_opens(bundle, tmp_path / "client.p12")


async def test_an_agents_file_opens_everywhere(chief: Client, tmp_path: Path) -> None:
    label, password = await new_p12_agent(chief)
    for number, query in enumerate(("", "?format=legacy")):
        bundle = await downloaded(chief, f"{AGENTS}/{label}/download", password, query)
        path = tmp_path / f"{number}.p12"
        options = ("-legacy",) if query else ()
        structure = await openssl_structure(bundle, path, *options)
        assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in structure) is bool(query)
        assert ("MAC: sha1" in structure) is bool(query)
        assert f"agent:{label}" in structure
        await nss_imports(bundle, await nss_database(tmp_path / str(number)), path)
        assert "BEGIN" in await gnutls_opens(bundle, path)


async def test_the_legacy_file_asks_for_nothing_that_old_keychains_lack(
    chief: Client, tmp_path: Path
) -> None:
    """They know 3DES with SHA-1 (RFC 7292 appendix C), and neither PBES2 nor another MAC."""
    label, password = await new_p12_agent(chief)
    path = f"{AGENTS}/{label}/download"
    new = await downloaded(chief, path, password)
    old = await downloaded(chief, path, password, "?format=legacy")
    assert fingerprint_of(new.identity) == fingerprint_of(old.identity)
    found = {
        name: await openssl_structure(bundle, tmp_path / name, "-legacy")
        for name, bundle in (("new", new), ("old", old))
    }
    kept = {
        name: [
            line for line in text.splitlines() if re.match("MAC:|.*Keybag:|.*Encrypted data:", line)
        ]
        for name, text in found.items()
    }
    assert len(kept["old"]) == len(kept["new"]) >= 3, found
    assert all("PBES2" in line or "sha256" in line for line in kept["new"])
    assert all("3-KeyTripleDES" in line or "MAC: sha1" in line for line in kept["old"])


OLD_READER = """
def nothing():
    return None
code_signer_from_pfx_file("{file}", "{password}")
register_target("nothing", nothing, default = True)
resolve_targets()
"""


async def an_old_reader_opens(bundle: Bundle, directory: Path) -> bool:
    """Return whether PyOxidizer can sign with a file: it reads 3DES and RC2 with SHA-1 alone.

    An implementation of its own, for what is in Apple's keychains: identities to sign with.
    """
    file = bundle.write(directory / "identity.p12")
    script = OLD_READER.format(file=file, password=bundle.password)
    (directory / "pyoxidizer.bzl").write_text(script)
    code, out = await outcome_of("pyoxidizer", "list-targets", directory, HOME=str(directory))
    assert code == 0 or "PfxRead" in out, out
    return code == 0


async def test_the_legacy_file_opens_where_the_new_one_does_not(
    chief: Client, tmp_path: Path
) -> None:
    label, password = await new_p12_agent(chief)
    path = f"{AGENTS}/{label}/download"
    new = await downloaded(chief, path, password)
    old = await downloaded(chief, path, password, "?format=legacy")
    assert await an_old_reader_opens(old, tmp_path)
    assert not await an_old_reader_opens(new, tmp_path)
    assert not await an_old_reader_opens(replace(old, password=new_label()), tmp_path)


@contextmanager
def managed_policy(url: str) -> Iterator[None]:
    """Let Chromium present a certificate without asking, as its administrators set it."""
    directory = Path("/etc/chromium/policies/managed")
    file = directory / "certwire-test.json"
    choice = json.dumps({"pattern": url, "filter": {}})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"AutoSelectCertificateForUrls": [choice]}))
    except PermissionError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("only root may set Chromium's policies")
    try:
        yield
    finally:
        file.unlink()


async def chromium_shows(url: str, home: Path) -> str:
    """Return the page as Chromium has it."""
    with tempfile.TemporaryDirectory(prefix="certwire-chromium-") as profile:
        return await output_of(
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--dump-dom",
            url,
            HOME=str(home),
        )


@pytest.mark.timeout(240)
async def test_a_browser_reaches_the_gateway_with_the_administrators_file(
    changing: Platform, chief: Client, tmp_path: Path
) -> None:
    path_of("chromium")
    database = await nss_database(tmp_path)
    root = changing.ca_file.read_text().partition("-----END CERTIFICATE-----")
    (tmp_path / "root.crt").write_text("".join(root[:2]) + "\n")
    words = ("certutil", "-A", "-n", "root", "-t", "C,,", "-d", f"sql:{database}")
    await output_of(*words, "-i", tmp_path / "root.crt")
    url = f"{changing.url}/api/certs/admin/auth-mode"
    with managed_policy(changing.url):
        assert "mTLS certificate required" in await chromium_shows(url, tmp_path)
        bundle = await downloaded(chief, DOWNLOAD, bundle_of(changing).password)
        await nss_imports(bundle, database, tmp_path / "client.p12")
        assert '{"adminAuthMode":"p12"}' in await chromium_shows(url, tmp_path)


# --- Rotation, upgrade, reset ---------------------------------------------------------------------


async def test_after_a_rotation_the_old_certificate_is_refused_on_its_open_connection(
    changing: Platform, chief: Client
) -> None:
    answer = await chief.call("POST", ROTATE)
    rotated, connection = answer.json(), connection_of(answer)
    for method, path in (("GET", "/api/certs"), ("POST", ROTATE), ("GET", AGENTS)):
        refused = await chief.call(method, path)
        assert (refused.status_code, connection_of(refused)) == (403, connection)
    # The old one may fetch its successor, and nothing else; once.
    bundle = await downloaded(chief, DOWNLOAD, rotated["p12Password"])
    assert (await chief.call("GET", DOWNLOAD)).status_code == 403
    async with Client(changing, bundle.identity) as renewed:
        assert (await renewed.call("GET", "/api/certs")).status_code == 200
        for query in ("", "?format=legacy"):
            again = await downloaded(renewed, DOWNLOAD, rotated["p12Password"], query)
            assert fingerprint_of(again.identity) == fingerprint_of(bundle.identity)


async def test_the_grant_of_a_rotation_ends(changing: Platform, chief: Client) -> None:
    await chief.call("POST", ROTATE)
    async with changing.superuser() as connection:
        await connection.execute(
            "UPDATE registry.admin_certificate SET download_until = now() - interval '1 second'"
            " WHERE download_until IS NOT NULL"
        )
    assert (await chief.call("GET", DOWNLOAD)).status_code == 403


async def test_two_rotations_at_once_leave_one_administrator(
    changing: Platform, chief: Client
) -> None:
    answers = await asyncio.gather(*(chief.call("POST", ROTATE) for _ in range(5)))
    counted = Counter(answer.status_code for answer in answers)
    assert counted[200] == 1
    assert set(counted) <= {200, 403}
    count = "SELECT count(*) FROM registry.admin_certificate WHERE revoked_at IS NULL"
    assert await changing.value(count) == 1


async def test_a_hardware_bound_administrator_has_no_file(
    changing: Platform, chief: Client
) -> None:
    key = new_key()
    upgraded = await chief.call("POST", UPGRADE, {"csr": csr_pem(key)})
    assert upgraded.status_code == 200
    assert upgraded.json().keys() == {"ok", "cert", "caCert", "serial", "expiresAt"}
    assert (await chief.call("GET", AUTH_MODE)).status_code == 403  # the old one is nobody
    async with Client(changing, upgraded.json()["cert"] + pem_of(key)) as bound:
        assert (await bound.call("GET", AUTH_MODE)).json() == {"adminAuthMode": "hardware-bound"}
        assert said(await bound.call("POST", ROTATE)) == (410, GONE.format("rotation"))
        assert said(await bound.call("GET", DOWNLOAD)) == (410, GONE.format("download"))
        assert said(await bound.call("POST", UPGRADE, {"csr": csr_pem()})) == (
            409,
            "Admin is already using hardware-bound authentication",
        )
        await changing.succeed("admin", "reset")
        assert (await bound.call("GET", AUTH_MODE)).status_code == 403


EXPIRE = """
UPDATE registry.admin_certificate SET not_after = now() - interval '1 hour'
WHERE revoked_at IS NULL
"""


@pytest.mark.parametrize("state", ["fresh", "rotated", "hardware-bound", "expired", "lost"])
async def test_a_reset_makes_a_new_administrator_in_every_state(
    changing: Platform, chief: Client, state: str
) -> None:
    if state == "rotated":
        await chief.call("POST", ROTATE)
    elif state == "hardware-bound":
        await chief.call("POST", UPGRADE, {"csr": csr_pem()})
    elif state == "expired":
        async with changing.superuser() as connection:
            await connection.execute(EXPIRE)
        assert (await chief.call("GET", AUTH_MODE)).status_code == 403
    elif state == "lost":
        for file in changing.bootstrap.glob("admin.*"):
            file.unlink()
    output = changing.home / f"{state}.p12"
    printed = await changing.succeed("admin", "reset", "--output", str(output))
    password = re.search(r"password +(\w+)", printed)
    assert password
    async with Client(changing, Bundle(output.read_bytes(), password[1]).identity) as admin:
        assert (await admin.call("GET", AUTH_MODE)).json() == {"adminAuthMode": "p12"}
        await downloaded(admin, DOWNLOAD, password[1])
    assert (await chief.call("GET", AUTH_MODE)).status_code == 403


# --- Enrolment ------------------------------------------------------------------------------------


async def test_of_fifty_enrolments_at_once_one_gets_a_certificate(
    platform: Platform, admin: Client
) -> None:
    agent = await with_token(admin)
    bodies = [{"token": agent.token, "csr": csr_pem()} for _ in range(50)]
    answers = await asyncio.gather(*(admin.call("POST", ENROLL, body) for body in bodies))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 49}
    refusals = {said(answer) for answer in answers if answer.status_code == 401}
    assert refusals == {(401, "Enrollment token has already been used")}
    count = "SELECT count(*) FROM issuer.certificate WHERE subject = $1"
    assert await platform.value(count, f"CN=agent:{agent.label}") == 1


async def test_a_token_has_an_end(platform: Platform, admin: Client) -> None:
    agent = await with_token(admin)
    async with platform.superuser() as connection:
        await connection.execute(
            "UPDATE registry.enrollment_token SET expires_at = now() WHERE label = $1", agent.label
        )
    answer = await admin.call("POST", ENROLL, agent.enrolment())
    assert said(answer) == (401, "Enrollment token has expired")
    body = {"label": agent.label}
    assert (await admin.call("POST", f"{AGENTS}/enroll", body)).status_code == 200


async def test_an_invalid_csr_burns_no_token(admin: Client) -> None:
    agent = await with_token(admin)
    good = csr_pem(agent.key)
    middle = len(good) // 2
    tampered = good[:middle] + ("B" if good[middle] == "A" else "A") + good[middle + 1 :]
    for csr in (tampered, f"{good}{good}", f"# a comment\n{good}"):
        answer = await admin.call("POST", ENROLL, {"token": agent.token, "csr": csr})
        assert said(answer) == (400, "Invalid CSR: structure or signature verification failed")
    agent.takes(await admin.call("POST", ENROLL, agent.enrolment()))


async def test_a_lost_reply_is_fetched_again_by_its_idempotency_key(admin: Client) -> None:
    agent = await with_token(admin)
    body, key = agent.enrolment(), {"Idempotency-Key": agent.label}
    answers = [await admin.call("POST", ENROLL, body, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    for headers in (None, {"Idempotency-Key": "other"}):
        answer = await admin.call("POST", ENROLL, body, headers=headers)
        assert said(answer) == (401, "Enrollment token has already been used")
    other = {**body, "csr": csr_pem()}
    assert (await admin.call("POST", ENROLL, other, headers=key)).status_code == 409


async def test_a_label_is_one_agents_at_a_time(admin: Client) -> None:
    agent = await enrolled(admin)
    path, body = f"{AGENTS}/{agent.label}", {"label": agent.label}
    taken = (409, f'Agent certificate with label "{agent.label}" already exists')
    assert said(await admin.call("POST", AGENTS, body)) == taken
    assert said(await admin.call("POST", f"{AGENTS}/enroll", body)) == taken
    none = (404, f'Agent certificate "{agent.label}" not found')
    assert said(await admin.call("GET", f"{path}/download")) == none
    assert (await admin.call("DELETE", path)).json() == {"ok": True, "label": agent.label}
    for method, more, change in (
        ("DELETE", "", None),
        ("PATCH", "/capabilities", {"capabilities": ["tunnels:read"]}),
        ("PATCH", "/allowed-sites", {"allowedSites": []}),
    ):
        assert said(await admin.call(method, path + more, change)) == none
    assert (await admin.call("POST", AGENTS, body)).status_code == 200


async def test_a_pending_token_holds_its_label_until_it_is_cancelled(admin: Client) -> None:
    agent = await with_token(admin)
    path, body = f"{AGENTS}/enroll", {"label": agent.label}
    answer = await admin.call("POST", path, body)
    text = f'An active enrollment token for label "{agent.label}" already exists'
    assert said(answer) == (409, text)
    cancelled = await admin.call("DELETE", f"{path}/{agent.label}")
    assert cancelled.json() == {"ok": True, "label": agent.label}
    assert (await admin.call("DELETE", f"{path}/{agent.label}")).status_code == 404
    answer = await admin.call("POST", ENROLL, agent.enrolment())
    assert said(answer) == (401, "Invalid enrollment token")


# --- What agents may ------------------------------------------------------------------------------


async def test_a_change_acts_on_the_agents_next_request(platform: Platform, admin: Client) -> None:
    agent = await enrolled(admin, None, "sites:read", sites=("blog",))
    path, question = f"{AGENTS}/{agent.label}", f"{AGENTS}/authorize?capability=sites:read"
    connections = set()
    async with Client(platform, agent.identity) as itself:

        async def may(more: str = "") -> bool:
            response = await itself.call("GET", question + more)
            assert response.status_code in {204, 403}
            connections.add(connection_of(response))
            return response.status_code == 204

        assert [await may(), await may("&site=blog"), await may("&site=docs")] == [1, 1, 0]
        await admin.call("PATCH", f"{path}/allowed-sites", {"allowedSites": ["docs"]})
        assert [await may(), await may("&site=blog"), await may("&site=docs")] == [1, 0, 1]
        change = {"capabilities": ["tunnels:read", "system:read"]}
        await admin.call("PATCH", f"{path}/capabilities", change)
        assert [await may(), await may("&site=docs")] == [0, 0]
        me = (await itself.call("GET", f"{AGENTS}/me")).json()
        assert (me["label"], me["capabilities"], me["allowedSites"]) == (
            agent.label,
            ["tunnels:read", "system:read"],
            ["docs"],
        )
        assert me["enrollmentMethod"] == "hardware-bound"
        await admin.call("DELETE", path)
        refused = await itself.call("GET", f"{AGENTS}/me")
        assert refused.status_code == 403
        assert connections == {connection_of(refused)}  # open all the time


async def renewed(itself: Client, agent: Agent) -> Agent:
    """Return the agent with the certificate of a new key."""
    new = Agent(agent.label)
    new.takes(await itself.call("POST", f"{AGENTS}/renew", {"csr": csr_pem(new.key)}))
    return new


async def test_old_or_new_is_accepted_until_the_new_one_is_used(
    platform: Platform, admin: Client
) -> None:
    agent = await enrolled(admin, None, "system:read")
    me = f"{AGENTS}/me"
    async with Client(platform, agent.identity) as old:
        new = await renewed(old, agent)
        for _ in range(2):
            assert (await old.call("GET", me)).status_code == 200
        async with Client(platform, new.identity) as itself:
            seen = (await itself.call("GET", me)).json()
            assert seen["capabilities"] == ["tunnels:read", "system:read"]
            assert int(seen["serial"], 16) == serial_of(new)
            assert (await old.call("GET", me)).status_code == 403
    listed = await admin.call("GET", AGENTS, params={"limit": 500})
    rows = [row for row in listed.json()["agents"] if row["label"] == agent.label]
    assert [int(row["serial"], 16) for row in rows] == [serial_of(new)]
    unrevoked = (
        "SELECT fingerprint FROM issuer.certificate WHERE subject = $1 AND revoked_at IS NULL"
    )

    async def only_the_new_one() -> bool:
        found = await platform.values(unrevoked, f"CN=agent:{agent.label}")
        return found == [new.sha256]

    await eventually(only_the_new_one, "the issuer hears of it")


def serial_of(agent: Agent) -> int:
    return x509.load_pem_x509_certificate(agent.certificate_pem.encode()).serial_number


# --- Lists ----------------------------------------------------------------------------------------


async def test_lists_are_paged_and_keep_what_was_revoked(admin: Client) -> None:
    label = new_label()
    for _ in range(3):
        assert (await admin.call("POST", AGENTS, {"label": label})).status_code == 200
        assert (await admin.call("DELETE", f"{AGENTS}/{label}")).status_code == 200
    everything = (await admin.call("GET", AGENTS)).json()
    assert everything.keys() == {"agents"}
    paged, cursor = [], None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await admin.call("GET", AGENTS, params=query)).json()
        assert len(page["agents"]) <= 2
        paged += page["agents"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [row["serial"] for row in paged] == [row["serial"] for row in everything["agents"]]
    mine = [row for row in paged if row["label"] == label]
    assert [row["revoked"] for row in mine] == [True] * 3
    response = await admin.call("GET", AGENTS, params={"cursor": "nonsense"})
    assert response.json()["details"]["issues"][0]["path"] == ["cursor"]
