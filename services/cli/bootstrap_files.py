"""The secrets of the first start, as files in `$CERTWIRE_HOME/bootstrap` or as JSON."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from services.provisioning import nats
from services.provisioning.postgres import INSPECT
from shared.database import role_url
from shared.files import write_private
from shared.settings import Settings


@dataclass(frozen=True)
class OpenedBundle:
    """An administrator's bundle in PEM: the certificate with those between it and the root."""

    certificate_pem: str
    key_pem: str

    @classmethod
    def of(cls, data: bytes, password: str) -> "OpenedBundle":
        """Open a PKCS#12 bundle."""
        bundle = pkcs12.load_pkcs12(data, password.encode())
        assert bundle.key is not None  # noqa: S101 - the issuer made it
        assert bundle.cert is not None  # noqa: S101 - the issuer made it
        above = [
            member.certificate
            for member in bundle.additional_certs
            if member.certificate.subject != member.certificate.issuer
        ]
        chain = [bundle.cert.certificate, *above]
        key = bundle.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(
            certificate_pem="".join(c.public_bytes(Encoding.PEM).decode() for c in chain),
            key_pem=key.decode(),
        )


def write_admin(directory: Path, data: bytes, password: str) -> None:
    """Write the administrator's bundle, and the same in PEM."""
    opened = OpenedBundle.of(data, password)
    write_private(directory / "admin.p12", data)
    write_private(directory / "admin.p12.password", password + "\n")
    write_private(directory / "admin.crt", opened.certificate_pem)
    write_private(directory / "admin.key", opened.key_pem)


def write_superuser(directory: Path, username: str, password: str) -> None:
    """Write how to log in."""
    text = json.dumps({"username": username, "password": password})
    write_private(directory / "superuser.json", text + "\n")


def write_ca(directory: Path, ca_pem: str) -> None:
    """Write the CA certificates, root first."""
    write_private(directory / "ca.crt", ca_pem)


def write_connections(directory: Path, settings: Settings) -> None:
    """Write how to read the streams and the database; the ports may change at each start."""
    nats.write_operator_file(directory, settings.secrets, settings.nats_url)
    write_private(directory / "postgres-inspect.url", role_url(settings, INSPECT) + "\n")


def as_json(ca_pem: str, data: bytes, admin_password: str, username: str, password: str) -> str:
    """Return everything as one JSON object; the PKCS#12 bundle in base64."""
    opened = OpenedBundle.of(data, admin_password)
    return json.dumps(
        {
            "ca_crt": ca_pem,
            "admin_p12": base64.b64encode(data).decode(),
            "admin_p12_password": admin_password,
            "admin_crt": opened.certificate_pem,
            "admin_key": opened.key_pem,
            "superuser": {"username": username, "password": password},
        },
        indent=2,
    )
