"""Certificates and keys as files, in several dialects."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import Response

MEDIA_TYPE: Final = "application/x-pem-file"
FILE: Final[dict[int | str, dict[str, Any]]] = {
    int(HTTPStatus.OK): {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}
"""How a route that answers with one is documented."""


class PemFile(Response):
    """A file in PEM, to be saved under its name."""

    media_type = MEDIA_TYPE

    def __init__(self, name: str, content: str) -> None:
        disposition = f"attachment; filename={name}"
        super().__init__(content, headers={"Content-Disposition": disposition})
        self.headers["content-type"] = MEDIA_TYPE  # without the charset: PEM is ASCII
