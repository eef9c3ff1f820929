"""`certwire up`: the whole platform on this machine, until Ctrl-C.

1. One `up` a home: a lock says so. What a killed one left behind is waited for.
2. Ports: as set, else as last time, else free ones.
3. Secret files and NATS's configuration (`certwire init --prepare`).
4. Postgres and NATS, unless DATABASE_URL and NATS_URL name others.
5. `certwire init`, and again whenever Postgres or NATS came back.
6. Every service, each its own process. Whatever ends is started again.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import shlex
import signal
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import Field

from contracts.subjects import Service
from services.cli.errors import OK, CliError
from services.cli.init import prepare, superuser_password
from services.cli.ports import DATABASE_URL, NATS_URL, ports_file, read_ports, set_defaults
from services.cli.supervisor import HopelessError, Part, Supervisor
from services.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    claim_port,
    free_port,
    port_is_free,
)
from services.provisioning import nats
from shared.settings import Settings

FORMER_RUN_SECONDS: Final = 10.0  # for the processes of a killed run to end
READY_SECONDS: Final = 0.5  # an answer that takes longer counts as none
PUBLIC_URL: Final = "CERTWIRE_PUBLIC_URL"  # of CRLs and OCSP: it stands in every certificate
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UpSettings(Settings):
    """Where the stack listens; None takes a free port and keeps to it."""

    https_port: int = Field(default=8443, ge=1, le=65535)
    http_port: int = Field(default=8080, ge=1, le=65535)
    nats_port: int | None = Field(default=None, ge=1, le=65535)
    postgres_port: int | None = Field(default=None, ge=1, le=65535)
    stop_with_parent: bool = False
    """Stop when the process that started us is gone, as `make up` wants it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Everything is kept in CERTWIRE_HOME (.certwire): data, keys, logs. Starting again goes\n"
        "on with it. DATABASE_URL and NATS_URL name servers of your own instead of those that\n"
        "this command starts.\n\n"
        "Example, a second stack beside the first:\n"
        "  CERTWIRE_HOME=second CERTWIRE_HTTPS_PORT=9443 CERTWIRE_HTTP_PORT=9080 certwire up"
    )


def run(_arguments: argparse.Namespace) -> int:
    """Run until told to stop."""
    return run_up(UpSettings())


def run_up(settings: UpSettings) -> int:
    """Run the stack of `settings.home` until Ctrl-C or SIGTERM; return the exit code."""
    os.umask(0o077)
    settings = settings.model_copy(update={"home": settings.home.absolute()})
    (settings.home / "run").mkdir(parents=True, exist_ok=True)
    should_stop = _stop_request(with_parent=settings.stop_with_parent)
    with _only_one(settings.home), _children_lock(settings.home) as inherited:
        return _run_locked(settings, inherited, should_stop)


def _run_locked(settings: UpSettings, inherited: int, should_stop: Callable[[], bool]) -> int:
    begun = time.monotonic()
    stack = Stack(settings, _choose_ports(settings))
    _say(f"Certwire starts in {_shown(settings.home)} ...")
    supervisor = Supervisor(
        stack.stages(),
        settings.home / "logs",
        _say,
        should_stop=should_stop,
        inherited=[inherited],
        pids_file=settings.home / "run" / "pids.json",
    )
    try:
        supervisor.start()
        if not should_stop():
            _say(f"Ready after {time.monotonic() - begun:.1f} s.\n\n{stack.summary()}")
        supervisor.keep_running()
    except HopelessError as error:
        raise CliError(str(error)) from error
    finally:
        _say("Stopping ...")
        supervisor.stop()
        _say("Stopped; the data stays.")
    return OK


# --- What runs ---------------------------------------------------------------------------------


class Stack:
    """The parts of one home, on their ports."""

    def __init__(self, settings: UpSettings, ports: Mapping[str, int]) -> None:
        self._settings = settings
        self._ports = ports
        prepare(settings)
        self._postgres = _embedded_postgres(settings, ports)
        self._nats = _embedded_nats(settings, ports)
        self._environment = self._child_environment()

    def stages(self) -> list[list[Part]]:
        """Return what runs, in the order of starting."""
        servers = [
            part
            for part in (
                self._postgres and _postgres_part(self._postgres),
                self._nats and _nats_part(self._nats, self._settings.home / "nats" / "store"),
            )
            if part
        ]
        init = Part(
            "init",
            lambda: [_program(), "init", "--files", "--complete-onboarding"],
            environment=self._environment,
            once=True,
            again_after=frozenset(part.name for part in servers),
        )
        return [servers, [init], [self._service_part(service) for service in _services()]]

    def summary(self) -> str:
        """Return what a person wants to know now."""
        home, https, http = self._settings.home, self._ports["https"], self._ports["http"]
        lines = [
            f"  https://localhost:{https}   the API, for certificates and tokens",
            f"  http://localhost:{http}    CA certificates, CRLs, OCSP, /readyz",
        ]
        lines += ["", f"  logs             {_shown(home / 'logs')}"]
        bootstrap = home / "bootstrap"
        if bootstrap.is_dir():
            lines += [
                f"  CA certificates  {_shown(bootstrap / 'ca.crt')}",
                f"  administrator    {_shown(bootstrap / 'admin.p12')}, its password beside it",
                f"  superuser        {_shown(bootstrap / 'superuser.json')}",
                "",
                _first_curl(bootstrap, f"https://localhost:{https}/internal/v1/instances"),
            ]
        return "\n".join([*lines, "", "Ctrl-C stops everything."])

    def _service_part(self, service: Service) -> Part:
        port = self._ports["http"] if service is Service.GATEWAY else self._ports[f"ops-{service}"]
        return Part(
            str(service),
            lambda: [_program(), "run", str(service)],
            environment={
                **self._environment,
                "CERTWIRE_OPS_PORT": str(self._ports[f"ops-{service}"]),
            },
            is_ready=lambda _pid: _answers_ready(port),
        )

    def _child_environment(self) -> dict[str, str]:
        settings, ports = self._settings, self._ports
        environment = {
            "CERTWIRE_HOME": str(settings.home),
            "CERTWIRE_SECRETS_DIR": str(settings.secrets.absolute()),
            "CERTWIRE_HTTPS_PORT": str(ports["https"]),
            "CERTWIRE_HTTP_PORT": str(ports["http"]),
            PUBLIC_URL: os.environ.get(PUBLIC_URL, f"http://127.0.0.1:{ports['http']}"),
        }
        if self._postgres:
            environment |= dict.fromkeys(DATABASE_URL, self._postgres.url)
        if self._nats:
            environment |= dict.fromkeys(NATS_URL, self._nats.url)
        return environment


def _first_curl(bootstrap: Path, url: str) -> str:
    """Return a line that works when it is pasted."""
    files = {"--cacert": "ca.crt", "--cert": "admin.crt", "--key": "admin.key"}
    options = [f"{name} {shlex.quote(_shown(bootstrap / file))}" for name, file in files.items()]
    return " ".join(["curl", *options, url])


def _embedded_postgres(settings: UpSettings, ports: Mapping[str, int]) -> EmbeddedPostgres | None:
    if "postgres" not in ports:
        return None
    return EmbeddedPostgres(settings.home, ports["postgres"], superuser_password(settings))


def _embedded_nats(settings: UpSettings, ports: Mapping[str, int]) -> EmbeddedNats | None:
    if "nats" not in ports:
        return None
    directory = settings.home / "nats"
    server = nats.Server(port=ports["nats"], store=directory / "store")
    configuration = nats.write_configuration(directory, settings.secrets, server)
    return EmbeddedNats(configuration, ports["nats"])


def _postgres_part(postgres: EmbeddedPostgres) -> Part:
    def command() -> list[str]:
        postgres.prepare()
        return postgres.command()

    return Part(
        "postgres",
        command,
        options=lambda: postgres.popen,
        is_ready=postgres.is_ready,
        stop_signal=signal.SIGINT,  # the fast shutdown
    )


def _nats_part(server: EmbeddedNats, store: Path) -> Part:
    return Part(
        "nats",
        server.command,
        options=lambda: server.popen,
        is_ready=lambda _pid: server.is_ready(),
        is_sound=(store / "jetstream").is_dir,  # a running server does not notice that it is gone
        grace_seconds=1.0,
    )


def _services() -> list[Service]:
    """Return the services of this installation, the gateway last."""
    packages = Path(__file__).parent.parent
    found = [service for service in Service if (packages / service / "app.py").is_file()]
    return sorted(found, key=lambda service: service is Service.GATEWAY)


def _program() -> str:
    """Return the path of `certwire`, which shows in the list of processes."""
    return str(Path(sysconfig.get_path("scripts")) / "certwire")


def _answers_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- Ports -------------------------------------------------------------------------------------


def _choose_ports(settings: UpSettings) -> dict[str, int]:
    """Return the port of each part and remember it. Raises CliError where one is taken."""
    former = read_ports(settings.home)
    ports = {
        "https": _wanted("CERTWIRE_HTTPS_PORT", settings.https_port),
        "http": _wanted("CERTWIRE_HTTP_PORT", settings.http_port),
    }
    if _is_left_to_us(settings.home, DATABASE_URL):
        wanted = _wanted("CERTWIRE_POSTGRES_PORT", settings.postgres_port)
        ports["postgres"] = wanted or _same(former, "postgres")
    if _is_left_to_us(settings.home, NATS_URL):
        wanted = _wanted("CERTWIRE_NATS_PORT", settings.nats_port)
        ports["nats"] = wanted or _same(former, "nats")
    for service in _services():
        ports[f"ops-{service}"] = _same(former, f"ops-{service}")
    if settings.ops_port:
        gateway = f"ops-{Service.GATEWAY}"
        ports[gateway] = _wanted("CERTWIRE_OPS_PORT", settings.ops_port)
    ports_file(settings.home).write_text(json.dumps(ports, indent=2) + "\n")
    return ports


def _wanted(variable: str, port: int | None) -> int:
    """Return the port that was asked for, 0 for none. Raises CliError where it is taken."""
    if port and not (port_is_free(port) and port_is_free(port, "0.0.0.0")):  # noqa: S104 - only a question
        message = f"port {port} is in use: set {variable} to another one"
        raise CliError(message)
    return port or 0


def _same(former: Mapping[str, int], name: str) -> int:
    """Return the port of last time where it is still free, else a free one."""
    port = former.get(name)
    return port if port and claim_port(port) else free_port()


def _is_left_to_us(home: Path, variables: tuple[str, ...]) -> bool:
    """Return whether the environment names no server, or our own of the last start."""
    ours = {"CERTWIRE_HOME": str(home)}
    set_defaults(ours)
    return all(os.environ.get(name) in {None, ours.get(name)} for name in variables)


# --- One at a time -----------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the home. Raises CliError where another `up` does."""
    path = home / "run" / "up.lock"
    with path.open("a+") as lock:
        if not _lock(lock.fileno()):
            lock.seek(0)
            message = f"Certwire already runs in {_shown(home)} (process {lock.read().strip()})"
            raise CliError(message)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def _children_lock(home: Path) -> Iterator[int]:
    """Hold a lock that every child inherits: it is free when the last one has ended.

    So no server of a killed `up` still writes to what the next one opens.
    """
    path = home / "run" / "children.lock"
    with path.open("a+") as lock:
        deadline = time.monotonic() + FORMER_RUN_SECONDS
        while not _lock(lock.fileno()):
            if time.monotonic() > deadline:
                message = f"processes of an earlier run in {_shown(home)} do not end"
                raise CliError(message)
            time.sleep(0.05)
        yield lock.fileno()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- The terminal ------------------------------------------------------------------------------


def _stop_request(*, with_parent: bool) -> Callable[[], bool]:
    """Return a question: was a stop asked for? Signals ask, as often as they like."""
    asked: list[int] = []
    for number in STOP_SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup
        signal.signal(number, lambda number, _frame: asked.append(number))
    parent = os.getppid()
    return lambda: bool(asked) or (with_parent and os.getppid() != parent)


def _shown(path: Path) -> str:
    """Return a path as a person here would write it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _say(text: str) -> None:
    """Print for a person; a terminal that is gone is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
