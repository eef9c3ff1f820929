"""`certwire ca list`."""

import json

from cryptography import x509

from shared.x509 import serial_hex
from tests.support.stack import Stack


async def test_the_platforms_cas_are_listed(stack: Stack) -> None:
    certificates = x509.load_pem_x509_certificates(
        (stack.home / "bootstrap" / "ca.crt").read_bytes()
    )
    async with stack.services():
        listed = await stack.line.run("ca", "list", "--json")
        table = await stack.line.run("ca", "list")
    assert listed.code == table.code == 0, listed.err + table.err
    rows = json.loads(listed.out)
    assert [row["serial_hex"] for row in rows] == [
        serial_hex(certificate.serial_number) for certificate in certificates
    ]
    assert all(row["subject"] in table.out for row in rows)
    assert all(row["not_after"][:10] in table.out for row in rows)
