"""Keep-alive JSON over TLS for everything outside the timed part."""

import http.client
import json
import ssl
from typing import Any, Self
from urllib.parse import urlencode

from tests.bench.servers import ServerError

REQUEST_TIMEOUT_SECONDS = 30


class JsonClient:
    """One connection; an answer outside 2xx is a ServerError."""

    def __init__(
        self, port: int, context: ssl.SSLContext, headers: dict[str, str] | None = None
    ) -> None:
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=REQUEST_TIMEOUT_SECONDS
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def log_in(self, login: dict[str, str]) -> str:
        """Exchange a password for a token of Certwire's."""
        form = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
        self.connection.request("POST", "/api/v1/auth/token", urlencode(login), form)
        with self.connection.getresponse() as response:
            text = response.read()
        if response.status != http.HTTPStatus.OK:
            raise ServerError(f"the login: {response.status} {text[:300]!r}")
        return str(json.loads(text)["access_token"])

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        content = None if body is None else json.dumps(body)
        self.connection.request(method, path, content, self.headers)
        with self.connection.getresponse() as response:
            text = response.read()
        if not 200 <= response.status < 300:
            raise ServerError(f"{method} {path}: {response.status} {text[:300]!r}")
        return json.loads(text) if text else None
