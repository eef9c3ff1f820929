"""`certwire ca crl`."""

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from services.cli.errors import OK, CliError

if TYPE_CHECKING:
    from services.issuer.settings import IssuerSettings


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Signs with the root's key, so it runs on the server where $CERTWIRE_HOME/root/root.key\n"
        "lies. It is needed once a year, `certwire status` says when, and after a certificate of\n"
        "the root was revoked. The CRLs of all other CAs are made by themselves.\n\n"
        "Example:\n  certwire ca crl"
    )


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - it has none
    """Sign the root's CRL and the certificate of its OCSP responder."""
    from services.issuer.bootstrap import RootKeyError, sign_root_crl

    settings = _settings()
    try:
        root, crl = asyncio.run(sign_root_crl(settings))
    except RootKeyError as error:
        raise CliError(str(error)) from error
    print(f"root       {root.subject}")
    print(f"CRL        number {crl.number}, {crl.entries} revoked")
    print(f"valid      {crl.this_update:%Y-%m-%d} to {crl.next_update:%Y-%m-%d}")
    print(f"served at  {settings.public_url.rstrip('/')}/crl/{root.slug}")
    return OK


def _settings() -> "IssuerSettings":
    """Return the issuer's settings, with the public URL that `certwire up` has given it."""
    from services.cli.ports import read_ports
    from services.cli.up import PUBLIC_URL
    from services.issuer.settings import IssuerSettings

    settings = IssuerSettings()
    port = read_ports(settings.home).get("http")
    if port is None or PUBLIC_URL in os.environ:
        return settings
    return settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
