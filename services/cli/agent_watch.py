"""Brings projects' certificates to the host that serves them: `certwire agent run --watch`.

A look at one project:

1. The platform is asked which certificate the project has. Where it has none, and where there is
   no such project any more, its files are removed. One of a staging CA is none.
2. The chain is fetched. Where it is the one in use, that was all: the key, whose export is on the
   audit log, is fetched for a new certificate only.
3. The key is fetched. Where it is not the certificate's, a renewal came in between: again from 1.
4. Both are written, as one (`shared.live_directory`), and what the project had before is removed.

Then the reload command is run for all that has changed, until it succeeds. A project that cannot be
looked at keeps its files: a server with an old certificate is better off than one with none.
"""

import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

from cryptography import x509

from services.cli import watch_files
from services.cli.agent_platform import Platform, PlatformError
from services.cli.tail_output import printable
from services.cli.watch_events import Events
from services.cli.watch_files import Project, Watch
from services.cli.watch_schedule import Looks
from services.embedded import die_with_parent
from shared import live_directory
from shared.clock import rfc3339, utc_now
from shared.operator_command import OperatorCommand

TRIES: Final = 3
"""How often a renewal may come in between: what comes more often is none."""
NO_PROJECT: Final = "Project not found"
"""What the platform says, and nothing that stands in its place."""
LONGEST_WAIT_SECONDS: Final = 60.0
_RELOAD: Final = "the reload command"
_FAILURES: Final = (PlatformError, OSError, ValueError)


@dataclass(frozen=True)
class Watching:
    """What is watched, and where its files go."""

    url: str
    ca: Path
    api_key_file: Path
    projects: Sequence[str]
    live_dir: Path
    reload_command: str = ""


class Watcher:
    """A host that watches; `directory` is the agent's. Raises CliError and OSError."""

    def __init__(
        self,
        directory: Path,
        watching: Watching,
        say: Callable[[str], None],
        events: Events | None = None,
    ) -> None:
        self._directory = directory
        self._watching = watching
        self._root: Final = watching.live_dir.absolute()
        self._say = say
        self._events = events
        self._platform = Platform(watching.url, watching.ca, api_key_file=watching.api_key_file)
        self._looks = {project: Looks() for project in watching.projects}
        self._reloads = Looks(has_news=False)
        self._tried: str | None = None
        """What was due when the reload command was run last."""
        self._problems: dict[str, str] = {}
        self._watch = self._known()

    def turn(self) -> float:
        """Do what is due; return in how many seconds there is more."""
        self._hear()
        for project, looks in list(self._looks.items()):
            if self._seconds_until(looks) <= 0:
                self._look(project)
        if self._reload_is_due():
            self._reload()
        waits = [self._seconds_until(looks) for looks in self._looks.values()]
        if self._reloads.failures:
            waits.append(self._seconds_until(self._reloads))
        return min(LONGEST_WAIT_SECONDS, *waits)

    def run_once(self) -> bool:
        """Look at every project now; return whether all of it succeeded."""
        self.turn()
        return not self._problems

    # --- When ------------------------------------------------------------------------------------

    def _hear(self) -> None:
        if self._events is None:
            return
        for text in self._events.said():
            self._say(f"events: {text}")
        for project in self._events.news():
            self._looks[project] = self._looks[project].heard()

    def _seconds_until(self, looks: Looks) -> float:
        events = self._events is not None and self._events.come
        return looks.seconds_until(time.monotonic(), events=events)

    def _look(self, project: str) -> None:
        looks, jitter = self._looks[project], random.random()  # noqa: S311 - to spread load
        try:
            self._bring_up_to_date(project)
        except _FAILURES as error:
            retry_after = error.retry_after if isinstance(error, PlatformError) else None
            self._looks[project] = looks.failed(time.monotonic(), jitter, retry_after)
            self._fails(project, str(error))
            seen = self._watch.projects.get(project, Project())
            with suppress(OSError):  # the files may be what fails
                self._keep(project, replace(seen, problem=str(error)))
        else:
            self._looks[project] = looks.succeeded(time.monotonic(), jitter)
            self._is_well(project)

    def _reload_is_due(self) -> bool:
        if not self._watching.reload_command:
            return False
        try:
            due = live_directory.reload_due(self._root)
        except OSError:
            return False  # the files are no better off, and that is said
        if due is None:
            self._reloads = Looks(has_news=False)
            return False
        return due != self._tried or self._seconds_until(self._reloads) <= 0

    def _reload(self) -> None:
        try:
            problem = self._run_reload_command()
        except OSError as error:
            problem = str(error)
        if problem is None:
            self._say(f"{_RELOAD} has run")
            self._is_well(_RELOAD)
            self._reloads = Looks(has_news=False)
        else:
            jitter = random.random()  # noqa: S311 - to spread load
            self._reloads = self._reloads.failed(time.monotonic(), jitter)
            self._fails(_RELOAD, problem)

    def _run_reload_command(self) -> str | None:
        """Return what goes wrong, and what it said itself, in one line. Raises OSError."""
        due = self._tried = live_directory.reload_due(self._root)
        # It ends with us: the next process runs it again.
        options = die_with_parent(signal.SIGKILL)
        command = OperatorCommand(self._watching.reload_command, options=options)
        command.start()
        ended = command.wait()
        if not ended.ok:
            said = printable(" ".join(ended.output.split()))
            return f"{ended.reason}: {said}" if said else ended.reason
        if due is not None:
            live_directory.reload_done(self._root, due)
        return None

    # --- A look ----------------------------------------------------------------------------------

    def _bring_up_to_date(self, project: str) -> None:
        """Have the files as the platform has them. Raises PlatformError, OSError, ValueError."""
        problem: ValueError | None = None
        for _ in range(TRIES):
            domain = self._domain(project)  # 1
            try:
                if domain is not None:
                    self._fetch(project, domain)
                self._forget(project, domain)
            except ValueError as error:
                problem = error  # a renewal came in between
            else:
                return
        assert problem is not None  # noqa: S101 - each try had one
        raise problem

    def _domain(self, project: str) -> str | None:
        """Return what a project's certificate is for, None where it has none that counts."""
        try:
            answer = self._platform.get(_path(project))
        except PlatformError as error:
            if error.status == HTTPStatus.NOT_FOUND and error.said == NO_PROJECT:
                return None
            raise
        if answer is None:
            return None
        domain = answer.get("domain") if isinstance(answer, dict) else None
        if not isinstance(answer, dict) or not isinstance(domain, str):
            raise PlatformError("an answer that cannot be read")
        return None if answer.get("staging") is True else domain

    def _fetch(self, project: str, domain: str) -> None:
        """Write a certificate that is new. Raises ValueError where the parts do not fit."""
        live_directory.directory_of(domain)
        chain_pem = self._platform.get_pem(f"{_path(project)}/download")  # 2
        if not _is_for(domain, chain_pem):
            message = f"the certificate is not for {domain}"
            raise ValueError(message)
        in_use = live_directory.current(self._root).get(domain)
        if in_use == live_directory.version_of(chain_pem):
            return
        key_pem = self._platform.get_pem(f"{_path(project)}/private-key")  # 3
        seen = self._watch.projects.get(project, Project())
        others = tuple(other for other in seen.domains if other != domain)
        self._keep(project, replace(seen, domains=(domain, *others)))
        if live_directory.write(self._root, domain, chain_pem, key_pem):  # 4
            self._say(f"{project}: the certificate of {domain} is new")

    def _forget(self, project: str, domain: str | None) -> None:
        """Remove what the project does not have any more."""
        seen = self._watch.projects.get(project, Project())
        others = {
            each
            for name, other in self._watch.projects.items()
            if name != project
            for each in other.domains[:1]
        }
        for gone in seen.domains:
            is_gone = gone != domain and gone not in others
            if is_gone and live_directory.remove(self._root, gone):
                self._say(f"{project}: the certificate of {gone} is gone, and its files")
        domains = (domain,) if domain is not None else ()
        self._keep(project, Project(domains, rfc3339(utc_now())))

    # --- What is kept and said -------------------------------------------------------------------

    def _known(self) -> Watch:
        """Return what is known from before of the projects that are watched."""
        fresh = Watch(self._watching.url, str(self._root))
        known = watch_files.read(self._directory)
        if known is None or known.live_dir != fresh.live_dir:
            return fresh
        kept = {name: seen for name, seen in known.projects.items() if name in self._looks}
        for name in known.projects.keys() - kept.keys():
            self._say(f"{name}: is watched no longer; its files stay, as they are")
        return replace(fresh, projects=kept)

    def _keep(self, project: str, seen: Project) -> None:
        self._watch = self._watch.having(project, seen)
        watch_files.write(self._directory, self._watch)

    def _fails(self, what: str, problem: str) -> None:
        """Say what goes wrong, once for each change."""
        if self._problems.get(what) != problem:
            self._say(f"{what}: {problem}")
        self._problems[what] = problem

    def _is_well(self, what: str) -> None:
        if self._problems.pop(what, None) is not None:
            self._say(f"{what}: all is well again")


def _path(project: str) -> str:
    return f"/api/v1/projects/{project}/certificate"


def _is_for(domain: str, chain_pem: str) -> bool:
    """Return whether the leaf is for a domain. Raises ValueError."""
    leaf = x509.load_pem_x509_certificate(chain_pem.encode())
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    found = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return domain in found or f"*.{domain.partition('.')[2]}" in found
