"""What a person is told when a command fails."""

from typing import Final

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class CliError(Exception):
    """A failure that one line explains, such as a wrong setting."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        self.exit_code: Final = exit_code
