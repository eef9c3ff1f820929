"""The README's first walk, exactly as it stands there, and what its reader is promised."""

import asyncio
import json
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

from tests.support.client import Client, running
from tests.support.following import following, has
from tests.support.platform import Platform
from tests.support.programs import output_of
from tests.support.public_platform import PublicPlatform

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- walk -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PUBLIC_BLOCK = re.compile(r"^<!-- walk: public -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLE = """
curl -X POST "https://{host}/internal/v1/instances/{id}/cert/renew" \\
  -H "Content-Type: application/json" \\
  -d '{{ "csr_pem": {csr_pem}, "wg_public_key": {wg_public_key} }}'
"""
"""The specification's example of a renewal."""


def walk() -> str:
    """Return the commands of the walk."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 5
    return "".join(blocks)


def public_walk() -> str:
    """Return the commands of the walk to a public certificate, which goes on after the other."""
    blocks = PUBLIC_BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 2
    return "".join(blocks)


async def bash(script: str, platform: Platform, **variables: str) -> str:
    """Run a script that has to succeed, as a person in the repository would; return its output."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        cwd=ROOT,
        env={**platform.line.environment, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        out, err = await process.communicate()
    assert process.returncode == 0, (out.decode(), err.decode())
    return out.decode()


async def test_the_walk_of_the_readme(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        tails = [
            await stack.enter_async_context(following(platform, *words, *form))
            for words in (("audit", "tail"), ("events", "tail"))
            for form in ((), ("--json",))
        ]
        for tail in tails:  # they show what was there, and wait for more
            await tail.until(bool)
        printed = await bash(walk(), platform)
        audit, audit_json, events, events_json = tails

        (instance_id,) = re.findall(r'^\{"id":"([0-9a-f-]{36})"', printed, re.MULTILINE)
        assert re.search(r"renewed\.crt: OK$", printed, re.MULTILINE)
        assert re.search(r"api\.crt: OK$", printed, re.MULTILINE)
        assert re.search(r'"status":"revoked".*"revocation_reason":"key_compromise"', printed)

        record = json.loads(await audit_json.until(has('"cert_renew"', instance_id)))
        assert record["actor"]["id"] == instance_id
        assert record["actor"]["name"] == "web-1"
        assert record["outcome"] == "success"
        fingerprint, serial = record["object"]["id"], record["object"]["name"]
        line = await audit.until(has(" cert_renew ", serial))
        assert re.search(rf"instance#\d+ +instance:web-1 +cert_renew +certificate:{serial} ", line)

        event = json.loads(await events_json.until(has("certificate.renewed", instance_id)))
        assert event["subject"] == event["data"]["fingerprint"] == fingerprint
        assert event["data"]["owner"] == instance_id
        assert event["requestid"] == record["request_id"]
        assert await events.until(has(" certificate.renewed ", f" {fingerprint} "))

    # What the walk itself printed at its end.
    assert re.search(rf"instance:web-1 +cert_renew +certificate:{serial}", printed)
    assert re.search(rf"certificate\.renewed +{fingerprint}", printed)
    assert re.search(r"^gateway +\S+ +ready", printed, re.MULTILINE)


async def test_the_walk_to_a_public_certificate(public: PublicPlatform, tmp_path: Path) -> None:
    domain = f"readme-{os.getpid()}.example.com"
    script = walk() + public_walk()
    printed = await bash(script, public.platform, DOMAIN=domain, TMPDIR=str(tmp_path))
    assert re.search(r'\{"success":true,"checks":\[.*"name":"http","ok":true', printed)
    assert f'"success":true,"certificate":{{"domain":"{domain}"' in printed
    assert f"DNS:{domain}" in printed
    assert re.search(r"issuer=.*Pebble", printed)
    assert re.search(rf'"status":"valid","domain":"{domain}"', printed)
    chain = downloaded(tmp_path)
    (tmp_path / "root.pem").write_text(public.authority.root())
    verify = ["openssl", "verify", "-CAfile", tmp_path / "root.pem", "-untrusted", chain, chain]
    assert "OK" in await output_of(*verify)
    of_key = await output_of("openssl", "pkey", "-in", chain.with_name("privkey.pem"), "-pubout")
    assert await output_of("openssl", "x509", "-in", chain, "-noout", "-pubkey") == of_key


async def test_the_readmes_renewal_is_the_specifications_example() -> None:
    (renewal,) = re.findall(
        r"^curl .*?/cert/renew.*?\| field cert_pem", walk(), re.DOTALL | re.MULTILINE
    )
    assert '-X POST "$URL/internal/v1/instances/$ID/cert/renew"' in renewal
    assert '-H "Content-Type: application/json"' in renewal
    assert '-d "$(body ' in renewal


async def test_the_specifications_example_renews(
    platform: Platform, admin: Client, tmp_path: Path
) -> None:
    """Word for word; curl finds the certificate in its configuration file."""
    workload = await running(admin)
    write(tmp_path / "identity.pem", workload.identity)
    write(
        tmp_path / ".curlrc",
        f'cacert = "{platform.ca_file}"\ncert = "{tmp_path / "identity.pem"}"\n',
    )
    values = {name: json.dumps(value) for name, value in workload.renewal_body().items()}
    script = EXAMPLE.format(host=f"localhost:{platform.https_port}", id=workload.id, **values)
    reply = json.loads(await bash(script, platform, CURL_HOME=str(tmp_path)))
    assert reply.keys() == {"cert_pem", "cert_serial", "expires_at"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reply["expires_at"])


async def test_the_line_that_the_start_prints_works_when_pasted(platform: Platform) -> None:
    (line,) = re.findall(r"^curl .*", platform.said, re.MULTILINE)
    script = f'cd "$CERTWIRE_HOME" && {line}'  # paths are as seen from where it was started
    assert json.loads(await bash(script, platform)).keys() == {"instances", "next_cursor"}


def downloaded(directory: Path) -> Path:
    """Return the chain that the walk has left in its working directory."""
    [chain] = directory.glob("*/fullchain.pem")
    return chain


def write(path: Path, text: str) -> None:
    path.write_text(text)
