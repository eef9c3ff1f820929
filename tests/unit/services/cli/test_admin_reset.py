"""`certwire admin reset`."""

import asyncio
import stat

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support.stack import Stack

CURRENT = "SELECT fingerprint FROM registry.admin_certificate WHERE state = 'current'"
TOLD = """
SELECT count(*) FROM issuer.certificate WHERE fingerprint = $1 AND revoked_at IS NOT NULL
"""


async def test_a_reset_writes_the_file_and_prints_the_password(stack: Stack) -> None:
    [old] = await stack.tables.values(CURRENT)
    output = stack.home / "new.p12"
    async with stack.services():
        done = await stack.line.run("admin", "reset", "--output", str(output))
        async with asyncio.timeout(10):
            while await stack.tables.values(TOLD, old) != [1]:
                await asyncio.sleep(0.1)
    assert done.code == 0, done.err
    printed = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    bundle = pkcs12.load_pkcs12(output.read_bytes(), printed["password"].encode())
    assert bundle.cert is not None
    assert f"{bundle.cert.certificate.serial_number:X}" == printed["serial"]
    [new] = await stack.tables.values(CURRENT)
    assert new != old
    beside = stack.home / "bootstrap"
    assert (beside / "admin.p12").read_bytes() == output.read_bytes()
    assert (beside / "admin.p12.password").read_text().strip() == printed["password"]


@pytest.mark.parametrize("output", [".", "nowhere/new.p12"])
async def test_a_reset_that_could_not_be_written_is_not_begun(stack: Stack, output: str) -> None:
    async with stack.services():
        done = await stack.line.run("admin", "reset", "--output", output)
    assert done.code == 2
    assert done.err == f"certwire: {output} can't be written\n"
    assert len(await stack.tables.values("SELECT 1 FROM registry.claim")) == 1
