"""PEM as people hand it to us (RFC 7468): blocks, and whatever programs print around them."""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InternalError,  # a raw key of the wrong length
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # where warnings are errors
)
"""What the library raises for DER that holds no key or certificate."""

_MARKER: Final = re.compile(r"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")


class UnfitError(ValueError):
    """Why a certificate, its chain or its key can't be used, in plain words."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two markers."""

    label: str
    body: str = field(repr=False)

    def der(self) -> bytes:
        """Return what it holds. Raises ValueError for what is no base64."""
        return binascii.a2b_base64("".join(self.body.split()), strict_mode=True)


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a text. Raises ValueError where one is not closed."""
    begin: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        word, label = marker.groups()
        if (word == "BEGIN") != (begin is None):
            raise ValueError("a marker is missing")
        if begin is None:
            begin = marker
        elif begin[2] != label:
            raise ValueError("two markers differ")
        else:
            yield Block(label, text[begin.end() : marker.start()])
            begin = None
    if begin is not None:
        raise ValueError("a marker is missing")
