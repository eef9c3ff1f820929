"""`certwire ca show`."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from services.cli.errors import OK, CliError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "name", nargs="?", default="", help="a part of the subject, or how the fingerprint begins"
    )
    parser.epilog = (
        "PEM on standard output: what the name fits, or all, the root first.\n\n"
        "Examples:\n  certwire ca show > ca.crt\n"
        "  certwire ca show root | openssl x509 -noout -text"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print certificates in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    certificates = asyncio.run(platform_certificates())
    found = [each for each in certificates if _fits(each, arguments.name.lower())]
    if not found:
        raise CliError(f"no CA fits {arguments.name!r}: see `certwire ca list`")
    for certificate in found:
        print(certificate.public_bytes(Encoding.PEM).decode(), end="")
    return OK


async def platform_certificates() -> "list[Certificate]":
    """Return the certificates of the platform's CAs, as the issuer knows them, the root first."""
    from cryptography import x509

    from contracts.issuer import GetPlatformCa
    from services.cli.bus import ask, cli_bus
    from shared.broker import own_call
    from shared.settings import Settings

    async with cli_bus(Settings()) as bus:
        reply = await ask(bus, GetPlatformCa(call=own_call()))
    return x509.load_pem_x509_certificates(reply.ca_pem.encode())


def fingerprint_of(certificate: "Certificate") -> str:
    """Return the SHA-256 of the whole certificate in lower-case hex."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from shared.x509 import fingerprint

    return fingerprint(certificate.public_bytes(Encoding.DER))


def _fits(certificate: "Certificate", name: str) -> bool:
    subject = certificate.subject.rfc4514_string().lower()
    return name in subject or fingerprint_of(certificate).startswith(name)
