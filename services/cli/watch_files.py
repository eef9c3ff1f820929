"""What a host has of the projects that it watches: `watch.json` in the agent's directory.

A domain stands in it from before its files are written until they are removed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from services.cli.errors import CliError
from shared.files import write_private

WATCH: Final = "watch.json"


@dataclass(frozen=True)
class Project:
    """A project as it was seen last. The first of the domains is its own; others are to go.

    Times are UTC, as RFC 3339 has them.
    """

    domains: tuple[str, ...] = ()
    looked_at: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Watch:
    """Which platform, where the files are, and the projects."""

    url: str
    live_dir: str
    projects: Mapping[str, Project] = field(default_factory=lambda: MappingProxyType({}))

    def having(self, project: str, seen: Project) -> "Watch":
        """Return the same with another view of a project."""
        return replace(self, projects=MappingProxyType({**self.projects, project: seen}))


def read(directory: Path) -> Watch | None:
    """Return what was written, None where nothing was. Raises CliError and OSError."""
    path = directory / WATCH
    try:
        content = json.loads(path.read_text())
        projects = {name: _project(seen) for name, seen in content.pop("projects").items()}
        return Watch(**content, projects=MappingProxyType(projects))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path} cannot be read: {error}"
        raise CliError(message) from error


def write(directory: Path, watch: Watch) -> None:
    """Keep it. Raises OSError."""
    projects = {name: asdict(seen) for name, seen in watch.projects.items()}
    content = {"url": watch.url, "live_dir": watch.live_dir, "projects": projects}
    write_private(directory / WATCH, json.dumps(content, indent=2) + "\n")


def _project(seen: dict[str, Any]) -> Project:
    return Project(**{**seen, "domains": tuple(seen["domains"])})
