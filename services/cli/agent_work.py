"""What an agent does, task by task; when, says `agent_schedule`."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from services.cli.agent_files import (
    BOTH,
    CERTIFICATE,
    KEY,
    RENEWAL,
    AgentDirectory,
    Current,
    Identity,
)
from services.cli.agent_platform import Platform, PlatformError
from services.cli.agent_schedule import Facts, Now, Schedule, Task
from services.cli.errors import CliError
from services.embedded import die_with_parent
from shared.clock import utc_now
from shared.operator_command import OperatorCommand

UNREADABLE: Final = frozenset({400, 422})
"""What the platform says of a request that it will never take."""
PAUSE_SECONDS: Final = 5.0
"""Where not even the files can be read."""


class FailedError(Exception):
    """A task failed and is to be tried again."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after: Final = retry_after


@dataclass(frozen=True)
class Hook:
    """A command to run when certificate or secrets are new."""

    command: str = ""
    timeout_seconds: float = 60.0

    def run(self, directory: AgentDirectory) -> None:
        """Run it with the paths in its environment. Raises FailedError."""
        current = directory.path / "current"
        environment = {
            **os.environ,
            "CERTWIRE_AGENT_DIRECTORY": str(directory.path),
            "CERTWIRE_AGENT_KEY": str(current / KEY),
            "CERTWIRE_AGENT_CERTIFICATE": str(current / CERTIFICATE),
            "CERTWIRE_AGENT_SECRETS": str(directory.secrets),
        }
        # Its children end with it, and it with us: the next agent runs it again.
        options = die_with_parent(signal.SIGKILL)
        command = OperatorCommand(self.command, environment, capture=False, options=options)
        command.start()
        ended = command.wait(self.timeout_seconds)
        if not ended.ok:
            raise FailedError(f"the hook {ended.reason}")


class Worker:
    """An agent at work in its directory."""

    def __init__(
        self,
        directory: AgentDirectory,
        say: Callable[[str], None],
        hook: Hook,
        secrets_seconds: float = 0,
    ) -> None:
        self._directory = directory
        self._say = say
        self._hook = hook
        self._secrets_seconds = secrets_seconds
        self._schedule = Schedule()

    def run(self) -> None:
        """Work for as long as the process lives."""
        while True:
            time.sleep(self.turn())

    def turn(self) -> float:
        """Do what is due next; return in how many seconds there is more."""
        try:
            self._schedule, pause = self._step(self._schedule)
        except (OSError, ValueError) as error:
            self._say(f"the files cannot be read: {error}")
            pause = PAUSE_SECONDS
        return pause

    def run_once(self) -> bool:
        """Do what is due now; return whether all of it succeeded."""
        schedule, pause = Schedule(), 0.0
        while not pause:
            schedule, pause = self._step(schedule)
        return not any(map(schedule.failures, Task))

    def facts(self) -> Facts:
        """Read what the files say. Raises CliError, OSError and ValueError."""
        current = self._directory.current()
        if current is None:
            message = f"there is no certificate in {self._directory.path}"
            raise CliError(message)
        is_instance = self._directory.identity().instance_id is not None
        refreshes = is_instance and self._secrets_seconds > 0
        hook_due = bool(self._hook.command) and (
            self._directory.deployed() != self._directory.contents()
        )
        return Facts(
            not_before=current.certificate.not_valid_before_utc,
            not_after=current.certificate.not_valid_after_utc,
            spread=_spread(current.fingerprint),
            renewal_begun=self._directory.pending(RENEWAL) is not None,
            hook_due=hook_due,
            secrets_seconds=self._secrets_seconds if refreshes else None,
        )

    def _step(self, schedule: Schedule) -> tuple[Schedule, float]:
        """Do the next task; return for how many seconds there is none."""
        with self._directory.locked():
            facts = self.facts()
            task = schedule.next(facts, now())
            if isinstance(task, float):
                return schedule, task
            try:
                self._do(task)
            except (FailedError, OSError, ValueError) as error:
                retry_after = error.retry_after if isinstance(error, FailedError) else None
                later = schedule.failed(task, facts, now(), random.random(), retry_after)  # noqa: S311 - to spread load
                wait = later.attempts[task].not_before_seconds - now().seconds
                self._say(
                    f"could not {task.value}: {error}; again in {max(wait, 0):.0f} s{_left(facts)}"
                )
                return later, 0.0
            return schedule.succeeded(task, self.facts(), now(), random.random()), 0.0  # noqa: S311 - to spread load

    def _do(self, task: Task) -> None:
        """Do a task. Raises FailedError, OSError and ValueError."""
        match task:
            case Task.RENEW:
                current = renew(self._directory)
                self._say(described("renewed", current))
            case Task.RUN_HOOK:
                contents = self._directory.contents()
                self._hook.run(self._directory)
                self._directory.write_deployed(contents)
                self._say("the hook has run")
            case Task.REFRESH_SECRETS:
                if refresh_secrets(self._directory):
                    self._say("the secrets are new")
            case _:
                assert_never(task)


def now() -> Now:
    """Return the time."""
    return Now(utc_now(), time.monotonic())


def renew(directory: AgentDirectory) -> Current:
    """Have a new key signed and make it the one in use. Raises FailedError, OSError, ValueError.

    The same key is sent until it is answered.
    """
    identity = directory.identity()
    pending = directory.begin(RENEWAL)
    if identity.instance_id is None:
        path, body = "/api/certs/agent/renew", {"csr": pending.csr_pem}
    else:
        path = f"/internal/v1/instances/{identity.instance_id}/cert/renew"
        body = {"csr_pem": pending.csr_pem, "wg_public_key": identity.wg_public_key or ""}
    try:
        answer = _platform(directory, identity).post(path, body, pending.idempotency_key)
    except PlatformError as error:
        if error.status in UNREADABLE:
            directory.forget(RENEWAL)
        raise FailedError(str(error), error.retry_after) from error
    current = directory.install(pending, certificate_of(answer))
    ca_pem = answer.get("caCert")
    if isinstance(ca_pem, str) and ca_pem != directory.ca.read_text():
        directory.write_identity(identity, ca_pem)
    return current


def refresh_secrets(directory: AgentDirectory) -> bool:
    """Fetch an instance's secrets; return whether they changed. Raises FailedError, OSError."""
    identity = directory.identity()
    path = f"/internal/v1/instances/{identity.instance_id}/secrets/refresh"
    body = {"vpn_ip": identity.vpn_ip, "wg_public_key": identity.wg_public_key}
    try:
        answer = _platform(directory, identity).post(path, body)
    except PlatformError as error:
        raise FailedError(str(error), error.retry_after) from error
    secrets = answer.get("agent_secrets")
    if not isinstance(secrets, dict):
        raise FailedError("the answer has no secrets")
    return directory.write_secrets(secrets)


def certificate_of(answer: dict[str, Any]) -> str:
    """Return the certificate in an answer of either dialect. Raises ValueError."""
    pem = answer.get("cert", answer.get("cert_pem"))
    if not isinstance(pem, str):
        raise ValueError("the answer has no certificate")  # noqa: TRY004 - it is data, not an argument
    return pem


def _platform(directory: AgentDirectory, identity: Identity) -> Platform:
    return Platform(identity.url, directory.ca, directory.path / "current" / BOTH)


def _spread(fingerprint: str) -> float:
    """Return a number from 0 to 1 that a certificate keeps through restarts."""
    digest = hashlib.sha256(fingerprint.encode()).digest()
    return int.from_bytes(digest[:4]) / 0xFFFFFFFF


def described(what: str, current: Current) -> str:
    """Return a line about a certificate."""
    ends = current.certificate.not_valid_after_utc
    return f"{what}: serial {current.serial_hex}, valid until {ends:%Y-%m-%d %H:%M:%S} UTC"


def _left(facts: Facts) -> str:
    """Return a warning where time is running out."""
    left = facts.not_after - utc_now()
    if left.total_seconds() <= 0:
        return "; the certificate has EXPIRED: enrol again"
    return f"; the certificate ends in {left}" if left < facts.life / 6 else ""
