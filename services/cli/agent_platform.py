"""The platform as an agent sees it: HTTPS with a verified server, JSON both ways."""

import http.client
import json
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from services.cli.errors import UsageError
from shared import VERSION

TIMEOUT_SECONDS: Final = 15.0
"""Of each step of a call; the platform itself answers within 10."""
ANSWER_LIMIT_BYTES: Final = 4 * 1024 * 1024
TEXT_LIMIT: Final = 300


class PlatformError(Exception):
    """A call without success. `status` is None where there was no answer."""

    def __init__(
        self, text: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.status: Final = status
        self.retry_after: Final = retry_after

    @property
    def is_final(self) -> bool:
        """Return whether asking again cannot help."""
        if self.status is None or self.retry_after is not None:
            return False
        timed_out, limited = http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS
        if self.status in {timed_out, limited}:
            return False
        return self.status < http.HTTPStatus.INTERNAL_SERVER_ERROR


class Platform:
    """Calls a platform; every call has a connection of its own, with the files as they are then.

    `credentials` is a file with key and certificate.
    """

    def __init__(self, url: str, ca: Path, credentials: Path | None = None) -> None:
        self._host, self._port, self._base = _address(url)
        self._ca = ca
        self._credentials = credentials

    def post(
        self, path: str, body: dict[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Return the answer of a success. Raises PlatformError."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"certwire-agent/{VERSION}",
            "Connection": "close",
        }
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        try:
            return self._post(self._base + path, json.dumps(body), headers)
        except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
            text = str(error) or type(error).__name__
            raise PlatformError(f"no answer from {self._host}:{self._port}: {text}") from error

    def _post(self, path: str, body: str, headers: dict[str, str]) -> dict[str, Any]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._context()
        )
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            content = response.read(ANSWER_LIMIT_BYTES)
        finally:
            connection.close()
        answer = _object(content)
        if response.status == http.HTTPStatus.OK:
            if answer is None:  # cut off, or of somebody in between
                raise http.client.HTTPException("a success that cannot be read")
            return answer
        raise PlatformError(
            f"{response.status} {_text(answer) or response.reason}",
            response.status,
            _seconds(response.headers.get("Retry-After")),
        )

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self._credentials is not None:
            context.load_cert_chain(self._credentials)
        return context


def _address(url: str) -> tuple[str, int, str]:
    """Return host, port and path. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port or http.client.HTTPS_PORT
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        message = f"not the address of a platform: {url} (https://host:port)"
        raise UsageError(message)
    return parts.hostname, port, parts.path.rstrip("/")


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _text(answer: dict[str, Any] | None) -> str:
    """Return what an error says in its dialect, fit for a line of a log."""
    said = (answer or {}).get("error") or (answer or {}).get("detail") or ""
    text = said if isinstance(said, str) else json.dumps(said)
    return "".join(c if c.isprintable() else " " for c in text)[:TEXT_LIMIT]


def _seconds(retry_after: str | None) -> float | None:
    """Return a `Retry-After` in seconds (RFC 9110 section 10.2.3), None for what is none."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
