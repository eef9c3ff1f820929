"""docker-compose.yml without containers: its commands, settings and files, run as processes.

Volumes are directories, a container's root is one in which they are links at the places where the
file mounts them, and every host is loopback. What an engine alone can show stays unproven: its
networks, users and capabilities.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    die_with_parent,
    free_port,
    nats_binary,
    postgres_binaries,
)
from tests.support.command_line import POINTERS, PROGRAM, Done
from tests.support.platform import NO_CA
from tests.support.servers import DISPOSABLE
from tests.support.yaml import read_documents

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
ONE_SHOT_SECONDS = 90
READY_SECONDS = 60
STOP_SECONDS = 5
OPERATIONS_PORT = "9100"


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file with its variables replaced."""

    def replace(match: re.Match[str]) -> str:
        return (variables or {}).get(match["name"], match["default"] or "")

    [document] = read_documents(VARIABLE.sub(replace, FILE.read_text()))
    compose: dict[str, Any] = document
    return compose


def image_environment() -> dict[str, str]:
    """Return the settings that stand in the image."""
    return dict(re.findall(r"(CERTWIRE_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))


def mounts(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield source and target of each volume and each file."""
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        yield source, target


@dataclass
class WithoutContainers:
    """The stack in one directory."""

    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        https, http = self.port("https"), self.port("http")
        variables = {"CERTWIRE_HTTPS_PORT": str(https), "CERTWIRE_HTTP_PORT": str(http)}
        self.services = read_compose(variables)["services"]

    def port(self, name: str) -> int:
        """Return the port on loopback that stands for one of a container."""
        return self.ports.setdefault(name, free_port())

    def volume(self, name: str) -> Path:
        """Return the directory of a volume."""
        path = self.directory / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    # --- What compose does ---------------------------------------------------------------------

    def up(self, *names: str) -> None:
        """Start services, what they depend on first."""
        for name in names:
            if name not in self.started:
                self.up(*self.services[name].get("depends_on", []))
                self._start(name)
                self.started.add(name)

    def up_all(self) -> None:
        """Start everything; return once every service is healthy by its own check."""
        self.up(*(name for name, service in self.services.items() if "profiles" not in service))
        for name in self.processes:
            if self.services[name].get("image") == "certwire":
                self._wait_healthy(name)

    def run(self, name: str, *words: str, seconds: float = ONE_SHOT_SECONDS) -> Done:
        """Run a command in a container of its own, as `docker compose run` does."""
        command = self._translated(name, list(words) or self.services[name]["command"])
        done = subprocess.run(
            [str(PROGRAM), *command],
            env=self.environment(name),
            cwd=self._inside(name, image_environment()["CERTWIRE_HOME"]),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def stop(self) -> dict[str, int]:
        """Stop all, the servers last; return the exit codes."""
        codes = {}
        for name, process in reversed(self.processes.items()):
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                codes[name] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes.clear()
        self.started.clear()
        return codes

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a container, which is all that it has for settings."""
        settings = image_environment() | {
            key: str(value)
            for key, value in self.services[name].get("environment", {}).items()
            if value is not None  # passed on from the caller, who has set none
        }
        translated = dict(zip(settings, self._translated(name, settings.values()), strict=True))
        if "CERTWIRE_HTTPS_HOST" in settings:
            translated["CERTWIRE_HTTPS_PORT"] = str(self.port("https"))
            translated["CERTWIRE_HTTP_PORT"] = str(self.port("http"))
        if "CERTWIRE_ACME_DIRECTORY_URL" in self.services[name].get("environment", {}):
            translated |= NO_CA
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in POINTERS and not key.startswith("CERTWIRE_")
        }
        return inherited | translated

    # --- What stands for containers ------------------------------------------------------------

    def _start(self, name: str) -> None:
        service = self.services[name]
        if name == "ownership":  # directories are ours from the start
            return
        if name == "postgres":
            self._start_postgres(service)
        elif name == "nats":
            self._start_nats(service)
        elif service["restart"] == "no":
            done = self.run(name)
            assert done.code == 0, f"{name}: {done.err}"
            assert not done.out, f"{name} prints what an engine would keep in its log"
        else:
            command = [str(PROGRAM), *self._translated(name, service["command"])]
            self._spawn(name, command, self.environment(name))

    def _start_postgres(self, service: Mapping[str, Any]) -> None:
        assert service["command"][0] == "postgres"
        settings = dict(word.split("=") for word in service["command"][1:] if word != "-c")
        password = self._inside("postgres", service["environment"]["POSTGRES_PASSWORD_FILE"])
        self.postgres = EmbeddedPostgres(
            self.directory, self.port("postgres"), password.read_text().strip(),
            {**DISPOSABLE, **settings},
        )  # fmt: skip
        self.postgres.prepare()
        self._spawn("postgres", self.postgres.command(), None, **self.postgres.popen)
        self.postgres.wait_ready(self.processes["postgres"])

    def _start_nats(self, service: Mapping[str, Any]) -> None:
        program, *options = self._translated("nats", service["command"])
        assert program == "nats-server"
        # A copy of the file, with the container's places and port moved as everything else is.
        [configuration] = (Path(word) for word in options if word.endswith(".conf"))
        text = configuration.read_text().replace('"/', f'"{self._root("nats")}/')
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the container's, not ours
        configuration.unlink()
        configuration.write_text(text.replace("port: 4222", f"port: {self.port('nats')}"))
        environment = self.environment("nats") | service["environment"]
        self._spawn("nats", [str(nats_binary()), *options], environment)
        server = EmbeddedNats(configuration, self.port("nats"))
        server.wait_ready(self.processes["nats"])

    def _spawn(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str] | None,
        **options: Any,  # noqa: ANN401 - of Popen
    ) -> None:
        options = options or {**die_with_parent(signal.SIGKILL), "cwd": self._root(name)}
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, **options
            )

    def _wait_healthy(self, name: str) -> None:
        kind, program, *words = self.services[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        check = [sys.executable, *self._translated(name, words)]
        deadline = time.monotonic() + READY_SECONDS
        while subprocess.run(check, capture_output=True, check=False).returncode != 0:
            log = (self.directory / f"{name}.log").read_text()
            assert self.processes[name].poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.3)

    def _root(self, name: str) -> Path:
        """Return the root directory of a container, its volumes in their places."""
        root = self.directory / "roots" / name
        for source, target in mounts(self.services[name]):
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not (place.is_symlink() or place.exists()):
                is_file = source.startswith(".")
                place.symlink_to(ROOT / source if is_file else self.volume(source))
        (root / "var/lib/certwire").mkdir(parents=True, exist_ok=True)  # in the image
        return root

    def _inside(self, name: str, path: str) -> Path:
        return self._root(name) / path.lstrip("/")

    def _translated(self, name: str, words: "Sequence[str] | Any") -> list[str]:  # noqa: ANN401 - a view of a dict, too
        return [self._translate(name, str(word)) for word in words]

    def _translate(self, name: str, word: str) -> str:
        if word.startswith("/"):
            return str(self._inside(name, word))
        places = {
            "//postgres:5432": f"//127.0.0.1:{self.port('postgres')}",
            "//nats:4222": f"//localhost:{self.port('nats')}",
            OPERATIONS_PORT: str(self.port(f"operations of {name}")),
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - the container's, not ours
        }
        for container, here in places.items():
            word = word.replace(container, here)
        return word

    def sql(self, program: str, *words: str, input: bytes = b"") -> bytes:  # noqa: A002 - as subprocess calls it
        """Run one of Postgres's own programs as its administrator; return what it prints."""
        server = ["--host=127.0.0.1", f"--port={self.port('postgres')}", "--username=postgres"]
        done = subprocess.run(
            [str(postgres_binaries() / program), *server, *words],
            env={**os.environ, "PGPASSWORD": self.postgres.superuser_password},
            input=input,
            capture_output=True,
            timeout=ONE_SHOT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@contextmanager
def without_containers() -> Iterator[WithoutContainers]:
    """Lend an empty stack; nothing of it is left afterwards. Call from the main thread."""
    stack = WithoutContainers(Path(tempfile.mkdtemp(prefix="certwire-test-")))
    try:
        yield stack
    finally:
        stack.stop()
        shutil.rmtree((stack.directory / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(stack.directory, ignore_errors=True)
