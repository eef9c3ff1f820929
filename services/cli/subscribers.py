"""What `certwire subscriber add` and `remove` have in common: NATS is told."""

import json
import os
import signal
from pathlib import Path

from shared.settings import Settings


def tell_nats(settings: Settings) -> str:
    """Write the accounts anew; return what is left to do. Raises OSError.

    The server that `certwire up` runs takes them in at once.
    """
    from services.provisioning import nats

    directory = settings.home / "nats"
    nats.write_accounts(directory / "accounts.conf", settings.secrets)
    pid = _embedded(settings.home, directory / "nats.conf")
    if pid is None:
        return f"now have NATS read {directory / 'accounts.conf'}: nats-server --signal reload"
    os.kill(pid, signal.SIGHUP)
    return "NATS knows"


def _embedded(home: Path, configuration: Path) -> int | None:
    """Return the process that runs with a configuration, None where there is none."""
    try:
        pid = int(json.loads((home / "run" / "pids.json").read_text())["nats"])
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if str(configuration.absolute()) in words else None
