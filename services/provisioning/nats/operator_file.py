"""What an operator needs to read the streams: for `certwire audit tail` and other tools."""

import json
from pathlib import Path
from typing import Final

from contracts.subjects import inbox
from services.provisioning.nats.keys import seed_file
from services.provisioning.nats.permissions import OPERATOR, Account, User
from shared.files import write_private

OPERATOR_FILE: Final = "nats-operator.json"
OPERATOR_SEED_FILE: Final = "nats-operator.nk"


def write_operator_file(bootstrap: Path, secrets: Path, url: str) -> Path:
    """Write where NATS is and who the operator is; the seed lies beside it."""
    bootstrap.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = seed_file(secrets, User(OPERATOR, Account.READERS)).read_text()
    seed_path = bootstrap.absolute() / OPERATOR_SEED_FILE
    write_private(seed_path, seed)
    content = {"url": url, "nkey": str(seed_path), "inbox_prefix": inbox(OPERATOR)}
    write_private(bootstrap / OPERATOR_FILE, json.dumps(content, indent=2) + "\n")
    return bootstrap / OPERATOR_FILE
