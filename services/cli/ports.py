"""Where the stack of `certwire up` listens: `$CERTWIRE_HOME/run/ports.json`."""

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

DATABASE_URL: Final = ("CERTWIRE_DATABASE_URL", "DATABASE_URL")
NATS_URL: Final = ("CERTWIRE_NATS_URL", "NATS_URL")


def ports_file(home: Path) -> Path:
    """Return the file in which `certwire up` says where its parts listen."""
    return home / "run" / "ports.json"


def read_ports(home: Path) -> dict[str, int]:
    """Return the ports by part; none where the stack never ran, or the file can't be read."""
    try:
        ports = json.loads(ports_file(home).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(ports, dict):
        return {}
    return {str(name): port for name, port in ports.items() if isinstance(port, int)}


def set_defaults(environment: MutableMapping[str, str]) -> None:
    """Point the settings at the stack in `CERTWIRE_HOME`, where they point nowhere else."""
    ports = read_ports(Path(environment.get("CERTWIRE_HOME", ".certwire")))
    if "postgres" in ports and not any(name in environment for name in DATABASE_URL):
        environment["DATABASE_URL"] = f"postgresql://127.0.0.1:{ports['postgres']}/certwire"
    if "nats" in ports and not any(name in environment for name in NATS_URL):
        environment["NATS_URL"] = f"nats://127.0.0.1:{ports['nats']}"
