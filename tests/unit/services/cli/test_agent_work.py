"""Tests of services.cli.agent_work: what an agent does, against a platform that fails on demand."""

import itertools
import json
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.cli import agent_work
from services.cli.agent_files import RENEWAL, AgentDirectory
from services.cli.agent_work import FailedError, Hook, Worker, refresh_secrets, renew
from services.cli.errors import CliError
from tests.support.agent_platform import CUT, DROP, LOSE, RENEW, FakePlatform, Fault, serving
from tests.support.joined import joined, renew_in
from tests.support.killed import killed_at, without_room

DEAD: Fault = (503, {"error": "Service unavailable"}, {})


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[FakePlatform]:
    with serving(FakePlatform(), tmp_path) as platform:
        yield platform


@pytest.fixture
def directory(platform: FakePlatform, tmp_path: Path) -> AgentDirectory:
    return joined(platform, tmp_path / "agent")


@pytest.fixture
def said() -> list[str]:
    return []


def worker(
    directory: AgentDirectory, said: list[str], hook: Hook | None = None, secrets: float = 900
) -> Worker:
    return Worker(directory, said.append, hook or Hook(), secrets)


def is_safe(directory: AgentDirectory, platform: FakePlatform) -> bool:
    """Return whether the agent can still get on: with what it has, the platform renews."""
    current = directory.current()
    pending = directory.pending(RENEWAL)
    assert current
    return platform.accepts(current.certificate, pending.public_key if pending else None)


def is_fresh(directory: AgentDirectory, platform: FakePlatform) -> bool:
    current = directory.current()
    assert current
    return current.certificate == platform.current


# --- Renewal ------------------------------------------------------------------------------------


def test_what_is_due_is_renewed_once(
    directory: AgentDirectory, platform: FakePlatform, said: list[str]
) -> None:
    assert worker(directory, said).run_once()
    assert is_fresh(directory, platform)
    assert len(platform.issued) == 2
    assert said[0].startswith(f"renewed: serial {platform.current.serial_number:X}, valid until")
    assert worker(directory, said).run_once()
    assert len(platform.calls) == 1
    assert platform.calls[0][0] == RENEW
    assert set(platform.calls[0][1]) == {"csr"}


def test_what_is_fresh_is_left_alone(
    platform: FakePlatform, tmp_path: Path, said: list[str]
) -> None:
    directory = joined(platform, tmp_path / "agent", due=False)
    assert worker(directory, said).run_once()
    assert not platform.calls


@pytest.mark.parametrize(
    "fault",
    [
        LOSE,
        CUT,
        DROP,
        (503, {}, {"Retry-After": "1"}),
        (500, {"error": "Internal server error"}, {}),
        (429, {"detail": "Rate limit exceeded"}, {}),
        (403, {"error": "Certificate is not accepted"}, {}),
        (409, {"detail": "Instance not running"}, {}),
        (200, {}, {}),
        (200, {"cert": "no certificate"}, {}),
        (200, {"cert": 7}, {}),
    ],
)
@pytest.mark.parametrize("instance", [False, True])
def test_a_renewal_that_fails_is_asked_for_again_with_the_same_request(
    platform: FakePlatform,
    tmp_path: Path,
    said: list[str],
    fault: Fault,
    instance: bool,  # noqa: FBT001 - a parameter
) -> None:
    directory = joined(platform, tmp_path / "agent", instance=instance)
    platform.faults = [fault, fault]
    for _ in range(2):
        assert not worker(directory, said, secrets=0).run_once()
        assert is_safe(directory, platform)
    assert worker(directory, said, secrets=0).run_once()
    assert is_fresh(directory, platform)
    assert len(platform.issued) == 2
    assert len(set(platform.keys)) == 1
    bodies = [json.dumps(body, sort_keys=True) for _, body in platform.calls]
    assert len(set(bodies)) == 1
    assert "could not renew the certificate" in said[0]


def test_a_certificate_of_another_key_is_not_taken(
    directory: AgentDirectory, platform: FakePlatform, said: list[str]
) -> None:
    other = platform._signed(RENEW)
    platform.faults = [(200, other, {})]
    assert not worker(directory, said).run_once()
    assert is_safe(directory, platform)
    assert worker(directory, said).run_once()
    assert is_fresh(directory, platform)


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_the_platform_cannot_read_is_made_anew(
    directory: AgentDirectory, platform: FakePlatform, said: list[str], status: int
) -> None:
    platform.faults = [(status, {"error": "Invalid CSR"}, {})]
    assert not worker(directory, said).run_once()
    assert worker(directory, said).run_once()
    assert len(set(platform.keys)) == 2
    assert is_fresh(directory, platform)


def test_a_new_ca_is_trusted_once_the_platform_names_it(
    directory: AgentDirectory, platform: FakePlatform
) -> None:
    answer = platform.authority.ca_pem + "\n"
    before = platform._signed
    platform._signed = lambda path: {**before(path), "caCert": answer}  # type: ignore[method-assign]  # one platform of many
    renew(directory)
    assert directory.ca.read_text() == answer


def test_time_that_runs_out_is_told(
    platform: FakePlatform, tmp_path: Path, said: list[str]
) -> None:
    platform.lifetime, platform.age = timedelta(hours=18), timedelta(hours=6)
    directory = joined(platform, tmp_path / "agent")
    platform.faults = [DROP]
    worker(directory, said).run_once()
    assert "the certificate ends in 0:59:5" in said[0]


def test_an_expired_certificate_is_told(
    platform: FakePlatform, tmp_path: Path, said: list[str]
) -> None:
    platform.lifetime = timedelta(hours=17, seconds=-1)
    directory = joined(platform, tmp_path / "agent")
    assert not worker(directory, said).run_once()
    assert "EXPIRED" in said[0]


def test_without_a_certificate_there_is_nothing_to_do(tmp_path: Path, said: list[str]) -> None:
    directory = AgentDirectory(tmp_path)
    directory.make()
    with pytest.raises(CliError, match="no certificate"):
        worker(directory, said).run_once()


# --- Killed, and without room -------------------------------------------------------------------


@pytest.mark.parametrize("instance", [False, True])
def test_an_agent_that_is_killed_at_any_step_gets_on(
    platform: FakePlatform,
    tmp_path: Path,
    instance: bool,  # noqa: FBT001 - a parameter
) -> None:
    """At each step of its work on files, one after the other, until it comes to the end."""
    directory = joined(platform, tmp_path / "agent", instance=instance)
    for step in itertools.count(1):
        begun = len(platform.issued)
        killed = killed_at(step, directory.path, renew_in, directory.path)
        assert is_safe(directory, platform), step
        if not killed:
            break
        renew_in(directory.path)
        assert is_fresh(directory, platform), step
        # A key whose renewal had not been answered was used again.
        assert len(platform.issued) <= begun + 2
    assert step > 20  # it was killed that often


@pytest.mark.parametrize("full", ["before", "after"])
def test_a_full_disk_costs_nothing(
    directory: AgentDirectory, platform: FakePlatform, full: str
) -> None:
    """Before the request is written nothing is asked; after it, the answer is fetched again."""
    if full == "after":
        with directory.locked():
            directory.begin(RENEWAL)
    for _ in range(3):
        without_room(renew_in, directory.path)
        assert is_safe(directory, platform)
        assert len(platform.issued) == (2 if full == "after" else 1)
    leftovers = {path.name for path in directory.path.rglob(".*")}
    assert not leftovers
    renew_in(directory.path)
    assert is_fresh(directory, platform)
    assert len(platform.issued) == 2


def test_files_that_cannot_be_read_are_waited_for(
    directory: AgentDirectory,
    platform: FakePlatform,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = directory.path / "current" / "client.crt"
    kept = certificate.read_text()
    certificate.write_text("")
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            raise KeyboardInterrupt
        certificate.write_text(kept)

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        worker(directory, said).run()
    assert "the files cannot be read" in said[0]
    assert pauses[0] == agent_work.PAUSE_SECONDS
    assert is_fresh(directory, platform)


# --- The hook -----------------------------------------------------------------------------------


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "a hook"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


def test_the_hook_runs_after_a_renewal_once(
    directory: AgentDirectory, tmp_path: Path, said: list[str]
) -> None:
    count = tmp_path / "count"
    hook = Hook(
        script(tmp_path, f'cat "$CERTWIRE_AGENT_CERTIFICATE" >> {count}; echo $1 $2') + " 'a b'"
    )
    for _ in range(3):
        assert worker(directory, said, hook).run_once()
    current = directory.current()
    assert current
    assert count.read_text() == (current.path / "client.crt").read_text()
    assert said[1:] == ["the hook has run"]


def test_a_hook_that_fails_is_run_again_by_the_next_process_too(
    directory: AgentDirectory, platform: FakePlatform, tmp_path: Path, said: list[str]
) -> None:
    marker = tmp_path / "fixed"
    hook = Hook(script(tmp_path, f"test -e {marker}"))
    for _ in range(2):
        assert not worker(directory, said, hook).run_once()
    assert "could not run the hook: the hook failed with exit code 1" in said[-1]
    assert is_fresh(directory, platform)
    marker.touch()
    assert worker(directory, said, hook).run_once()
    assert len(platform.issued) == 2


def test_a_hook_that_hangs_is_ended_with_its_children(
    directory: AgentDirectory, tmp_path: Path, said: list[str]
) -> None:
    pid = tmp_path / "pid"
    hook = Hook(script(tmp_path, f"sleep 60 & echo $! > {pid}; wait"), timeout_seconds=0.5)
    begun = time.monotonic()
    assert not worker(directory, said, hook).run_once()
    assert time.monotonic() - begun < 10
    assert "the hook took over 0.5 s" in said[-1]
    assert has_ended(int(pid.read_text()))


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("command", ["/nowhere/hook", "'", "/"])
def test_a_hook_that_is_no_command(
    directory: AgentDirectory, said: list[str], command: str
) -> None:
    assert not worker(directory, said, Hook(command)).run_once()
    assert "the hook cannot be run" in said[-1]


STOPPED = """
import signal, sys
from pathlib import Path
from services.cli.agent_files import RENEWAL, AgentDirectory
from services.cli.agent_work import Hook
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Hook(sys.argv[1]).run(AgentDirectory(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_ends_with_the_agent(
    directory: AgentDirectory, tmp_path: Path, number: signal.Signals
) -> None:
    pid = tmp_path / "pid"
    hook = script(tmp_path, f"echo $$ > {pid}; kill -{number:d} $PPID; sleep 60")
    words = [sys.executable, "-c", STOPPED, hook, str(directory.path)]
    done = subprocess.run(words, cwd=Path(agent_work.__file__).parents[2], check=False)
    assert done.returncode == (0 if number == signal.SIGTERM else -number)
    assert has_ended(int(pid.read_text()))


# --- Secrets -------------------------------------------------------------------------------------


@pytest.fixture
def instance(platform: FakePlatform, tmp_path: Path) -> AgentDirectory:
    return joined(platform, tmp_path / "instance", instance=True, due=False)


def test_an_instances_secrets_are_fetched(
    instance: AgentDirectory, platform: FakePlatform, said: list[str]
) -> None:
    assert worker(instance, said).run_once()
    assert json.loads(instance.secrets.read_text()) == {"api_key": "one"}
    assert stat.S_IMODE(instance.secrets.stat().st_mode) == 0o600
    ((path, body),) = platform.calls
    assert path.endswith("/secrets/refresh")
    assert body == {"vpn_ip": "10.8.0.2", "wg_public_key": "key"}
    assert said == ["the secrets are new"]
    assert worker(instance, said).run_once()
    assert said == ["the secrets are new"]


def test_new_secrets_run_the_hook(
    instance: AgentDirectory, platform: FakePlatform, tmp_path: Path, said: list[str]
) -> None:
    copy = tmp_path / "copy"
    hook = Hook(script(tmp_path, f'cp "$CERTWIRE_AGENT_SECRETS" {copy}'))
    for value in ("one", "two"):
        platform.secrets = {"api_key": value}
        assert worker(instance, said, hook).run_once()
        assert json.loads(copy.read_text()) == {"api_key": value}


@pytest.mark.parametrize("fault", [DEAD, LOSE, (200, {"agent_secrets": "none"}, {})])
def test_secrets_that_cannot_be_fetched_stay_as_they_are(
    instance: AgentDirectory, platform: FakePlatform, said: list[str], fault: Fault
) -> None:
    refresh_secrets(instance)
    platform.faults = [fault]
    platform.secrets = {}
    with pytest.raises(FailedError):
        refresh_secrets(instance)
    assert json.loads(instance.secrets.read_text()) == {"api_key": "one"}
    platform.faults = [fault]
    assert not worker(instance, said).run_once()


def test_without_an_interval_no_secrets_are_fetched(
    instance: AgentDirectory, platform: FakePlatform, said: list[str]
) -> None:
    assert worker(instance, said, secrets=0).run_once()
    assert not platform.calls
