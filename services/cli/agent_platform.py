"""The platform as an agent sees it: HTTPS with a verified server."""

import http.client
import json
import os
import re
import ssl
import stat
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
API_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class PlatformError(Exception):
    """A call without success. `status` is None where there was no answer.

    `said` is the `error` of an answer in the dialect's shape.
    """

    def __init__(
        self,
        text: str,
        status: int | None = None,
        retry_after: float | None = None,
        said: object = None,
    ) -> None:
        super().__init__(text)
        self.status: Final = status
        self.retry_after: Final = retry_after
        self.said: Final = said

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

    `credentials` is a file with key and certificate, `api_key_file` one with an API key.
    """

    def __init__(
        self,
        url: str,
        ca: Path,
        credentials: Path | None = None,
        api_key_file: Path | None = None,
    ) -> None:
        self._host, self._port, self._base = _address(url)
        self._ca = ca
        self._credentials = credentials
        self._api_key_file = api_key_file

    def post(
        self, path: str, body: dict[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Return the answer of a success. Raises PlatformError."""
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        answer = _object(self._call("POST", path, headers, json.dumps(body)))
        if answer is None:  # cut off, or of somebody in between
            raise self._no_answer("a success that cannot be read")
        return answer

    def get(self, path: str) -> object:
        """Return a JSON value, which may be `null`. Raises PlatformError."""
        content = self._call("GET", path, {})
        try:
            answer: object = json.loads(content)
        except ValueError as error:
            raise self._no_answer("a success that cannot be read") from error
        return answer

    def get_pem(self, path: str) -> str:
        """Return a file in PEM. Raises PlatformError."""
        content = self._call("GET", path, {})
        if not (content.isascii() and content.startswith(b"-----BEGIN ")):
            raise self._no_answer("a success that cannot be read")
        return content.decode()

    def _call(self, method: str, path: str, headers: dict[str, str], body: str = "") -> bytes:
        headers |= {"User-Agent": f"certwire-agent/{VERSION}", "Connection": "close"}
        if self._api_key_file is not None:
            headers["X-API-Key"] = api_key_of(self._api_key_file)
        try:
            status, content, answered = self._exchange(method, self._base + path, headers, body)
        except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
            raise self._no_answer(str(error) or type(error).__name__) from error
        if status == http.HTTPStatus.OK:
            return content
        answer = _object(content)
        raise PlatformError(
            f"{status} {_text(answer) or answered.reason}",
            status,
            _seconds(answered.headers.get("Retry-After")),
            (answer or {}).get("error"),
        )

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: str
    ) -> tuple[int, bytes, http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._context()
        )
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            content = response.read(ANSWER_LIMIT_BYTES)
            if response.length:  # `read` with a limit says nothing of a missing rest
                raise http.client.HTTPException("an answer that cannot be read: it was cut off")
        finally:
            connection.close()
        return response.status, content, response

    def _no_answer(self, reason: str) -> PlatformError:
        return PlatformError(f"no answer from {self._host}:{self._port}: {reason}")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self._credentials is not None:
            context.load_cert_chain(self._credentials)
        return context


def api_key_of(file: Path) -> str:
    """Return the API key in a file that nobody else may read. Raises PlatformError.

    It is looked at here, for what takes headers says those that are none.
    """
    try:
        with file.open() as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(2 * TEXT_LIMIT).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PlatformError(f"the API key in {file} cannot be read: {reason}") from None
    if mode & OTHERS:
        raise PlatformError(f"the API key in {file} may be read by others: chmod 600 {file}")
    if not API_KEY.fullmatch(text):
        raise PlatformError(f"there is no API key in {file}")
    return text


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
