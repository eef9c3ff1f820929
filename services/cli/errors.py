"""What a person is told when a command fails."""

from typing import ClassVar, Final

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class CliError(Exception):
    """A failure that one line explains, such as a server that is away."""

    exit_code: ClassVar[int] = FAILURE


class UsageError(CliError):
    """A mistake in what was typed."""

    exit_code: ClassVar[int] = USAGE
