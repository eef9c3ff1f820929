"""Serves acme2certifier over HTTPS; it runs in that program's environment, not in ours.

Usage: python acme2certifier_server.py DIRECTORY PORT, with `acme_srv.cfg`, `chain.pem` and
`key.pem` in the directory. What clients sign is written to `asked.jsonl` there.
"""

import base64
import importlib
import io
import json
import socketserver
import ssl
import sys
import threading
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

SECONDS = 10
"""For a client's handshake and request."""


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """Each connection in its own thread: one that says nothing holds up nobody."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Waits no longer than it has to."""

    timeout = SECONDS


class Recorded:
    """The application, one request at a time, with a record of what was signed."""

    def __init__(self, application: Any, record: Path) -> None:  # noqa: ANN401 - it has no types
        self._application = application
        self._record = record
        self._one = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:  # noqa: ANN401 - WSGI
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._one:
            if body:
                entry = {"path": environ["PATH_INFO"], "payload": payload(body)}
                with self._record.open("a") as record:
                    record.write(json.dumps(entry) + "\n")
            return list(self._application(environ, start_response))


def payload(body: bytes) -> object:
    """Return what a JWS says, None where it is empty."""
    encoded = json.loads(body)["payload"]
    text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return json.loads(text) if text else None


def main() -> None:
    """Serve until killed."""
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    application = importlib.import_module("acme2certifier.share.acme2certifier_wsgi").application
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    recorded = Recorded(application, directory / "asked.jsonl")
    server = make_server("127.0.0.1", port, recorded, Server, Handler)
    server.base_environ["HTTPS"] = "on"  # the scheme in the addresses that it gives
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
