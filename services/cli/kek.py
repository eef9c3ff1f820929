"""The secret file `kek`, and what the services say of the values under its keys."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.cli.errors import CliError
from shared.files import write_private
from shared.settings import SealingSettings

if TYPE_CHECKING:
    from contracts.kek import SealedValues
    from contracts.subjects import Service
    from shared.broker import Bus


@contextmanager
def kek_file() -> Iterator["KekFile"]:
    """Lend the file; nobody else changes its keys meanwhile. Raises `CliError`."""
    settings = SealingSettings()
    if settings.kek is not None:
        raise CliError("CERTWIRE_KEK holds the keys: change it by hand, with the new key in front")
    descriptor = os.open(settings.secrets, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield KekFile(settings)
    except BlockingIOError:
        raise CliError("another `certwire kek` is at work") from None
    finally:
        os.close(descriptor)


class KekFile:
    """Keys in base64, one a line, the current one first."""

    def __init__(self, settings: SealingSettings) -> None:
        self.settings = settings

    @property
    def lines(self) -> list[str]:
        """Return the keys as they stand in the file."""
        return self.settings.key_encryption_keys().split()

    @property
    def ids(self) -> list[str]:
        """Return the ids of the keys."""
        from shared.secrets import key_ids

        return key_ids("\n".join(self.lines))

    def write(self, lines: list[str]) -> None:
        """Write other keys, all at once. Raises `CliError` where the file is somebody else's."""
        try:
            write_private(self.settings.secrets / "kek", "".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise CliError(
                f"{self.settings.secrets / 'kek'} cannot be written ({error.strerror}): change the"
                " secret where it comes from, see deploy/README.md"
            ) from error


async def sealed_values(bus: "Bus") -> dict["Service", "SealedValues"]:
    """Return what each service says of its values. Raises `CliError` unless all answer."""
    from contracts.errors import CertwireError
    from contracts.kek import KEK_COMMANDS
    from services.cli.bus import ask
    from shared.broker import own_call

    found = {}
    for service, commands in KEK_COMMANDS.items():
        try:
            found[service] = await ask(bus, commands.get(call=own_call()))
        except CertwireError as error:
            raise CliError(f"the {service} does not answer: nothing is done without it") from error
    return found
