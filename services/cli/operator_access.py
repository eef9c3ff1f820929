"""How the operator reads the streams: `bootstrap/nats-operator.json`, or the secret files.

Subscribers have a file of the same form.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from contracts.subjects import inbox
from services.cli.bootstrap_clear import directory_of
from services.cli.errors import CliError
from services.provisioning.nats.permissions import OPERATOR
from shared.settings import Settings


class OperatorSettings(Settings):
    """What only the tails need."""

    operator_file: Path | None = None
    """A `nats-operator.json` elsewhere, such as a copy of the server's on an operator's machine."""


@dataclass(frozen=True)
class OperatorAccess:
    """Where NATS is, and who the operator is there."""

    url: str
    seed_file: Path
    inbox_prefix: str
    ca_file: Path | None = None

    @property
    def consumer(self) -> str | None:
        """Return the only consumer that a subscriber may have; the operator has any."""
        name = self.inbox_prefix.removeprefix(inbox(""))
        return None if name == OPERATOR else name

    @classmethod
    def find(cls, settings: OperatorSettings) -> "OperatorAccess":
        """Return the first that is there. Raises `CliError`."""
        bootstrap = directory_of(settings.home) / "nats-operator.json"
        file = settings.operator_file or bootstrap
        if file.is_file() or settings.operator_file is not None:
            return cls.read(file, settings.nats_ca_file)
        seed_file = settings.secrets / "nats-operator-readers.seed"
        if not seed_file.is_file():
            raise CliError(
                f"there is neither {bootstrap} nor {seed_file}: run `certwire init`, or set"
                " CERTWIRE_HOME or CERTWIRE_OPERATOR_FILE"
            )
        return cls(settings.nats_url, seed_file, inbox(OPERATOR), settings.nats_ca_file)

    @classmethod
    def read(cls, file: Path, ca_file: Path | None) -> "OperatorAccess":
        """Return what a file says. Raises `CliError` and OSError."""
        try:
            content = json.loads(file.read_text())
            # A copied file's seed lies beside the copy.
            seed_file = Path(content["nkey"])
            if not seed_file.is_file():
                seed_file = file.parent / seed_file.name
            return cls(str(content["url"]), seed_file, str(content["inbox_prefix"]), ca_file)
        except (ValueError, TypeError, KeyError) as error:
            raise CliError(f"{file} is not an operator's file") from error
