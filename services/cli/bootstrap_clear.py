"""`certwire bootstrap clear`."""

import argparse
import shutil
from pathlib import Path

from services.cli.errors import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Copy what you still need first: the administrator's certificate and the superuser's\n"
        "password are kept nowhere else. `certwire admin reset` makes another certificate.\n\n"
        "Example:\n  certwire bootstrap clear"
    )


def run(_arguments: argparse.Namespace) -> int:
    """Remove the directory."""
    from shared.settings import Settings

    directory = directory_of(Settings().home)
    if directory.is_dir():
        shutil.rmtree(directory)
        print(f"{directory} is removed")
    else:
        print(f"{directory} is not there")
    return OK


def directory_of(home: Path) -> Path:
    """Return where the secrets of the first start are."""
    return home / "bootstrap"
