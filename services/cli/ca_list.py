"""`certwire ca list`."""

import argparse
import asyncio
import json

from services.cli.errors import OK
from services.cli.table import print_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "Example:\n  certwire ca list"


def run(arguments: argparse.Namespace) -> int:
    """List the platform's CAs."""
    from services.cli.ca_show import fingerprint_of, platform_certificates
    from shared.clock import rfc3339
    from shared.x509 import serial_hex

    rows = [
        {
            "subject": certificate.subject.rfc4514_string(),
            "issuer": certificate.issuer.rfc4514_string(),
            "serial_hex": serial_hex(certificate.serial_number),
            "not_after": rfc3339(certificate.not_valid_after_utc),
            "fingerprint": fingerprint_of(certificate),
        }
        for certificate in asyncio.run(platform_certificates())
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(
            ("SUBJECT", "EXPIRES", "FINGERPRINT (SHA-256)"),
            [(row["subject"], row["not_after"][:10], row["fingerprint"]) for row in rows],
        )
    return OK
