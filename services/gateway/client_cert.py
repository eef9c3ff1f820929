"""The header `Client-Cert`, in which a proxy presents the certificate of its client."""

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

BYTE_SEQUENCE: Final = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
"""RFC 8941 section 3.3.5."""
PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/\n]+={0,2})\n-----END CERTIFICATE-----\n?"
)


def parse(value: bytes) -> bytes:
    """Return the DER. Raises ValueError.

    As RFC 9440 section 2.1 has it, or as nginx writes it: `$ssl_client_escaped_cert`, PEM with
    percent-encoding.
    """
    found = BYTE_SEQUENCE.fullmatch(value) or PEM.fullmatch(unquote_to_bytes(value))
    if found is None:
        raise ValueError("not a certificate")
    try:
        return base64.b64decode(found[1].replace(b"\n", b""), validate=True)
    except binascii.Error as error:
        raise ValueError("not a certificate") from error
