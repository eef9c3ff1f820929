"""The nkeys of NATS users: one seed a file, and only public keys in the server's configuration."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import nkeys  # type: ignore[import-untyped]  # it has no annotations

from services.provisioning.nats.permissions import Account, User, subscriber_name
from shared.files import write_private

SEED_BYTES: Final = 32


def seed_file(secrets: Path, user: User) -> Path:
    """Return where the seed of a user is kept, as services expect it."""
    return secrets / f"nats-{user.name}-{user.account}.seed"


def new_seed() -> str:
    """Return the seed of a new user."""
    return str(nkeys.encode_seed(os.urandom(SEED_BYTES), nkeys.PREFIX_BYTE_USER).decode())


def public_key(seed: str) -> str:
    """Return the public key that belongs to a seed. Raises `nkeys.NkeysError`."""
    return str(nkeys.from_seed(seed.encode()).public_key.decode())


def ensure_seeds(secrets: Path, users: Iterable[User]) -> None:
    """Make the seeds that are missing; those that exist stay."""
    secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in users:
        path = seed_file(secrets, user)
        if not path.exists():
            write_private(path, new_seed() + "\n")


def add_subscriber(secrets: Path, name: str) -> str:
    """Admit an outside system and return its seed, which is kept nowhere here.

    The server knows the user once its configuration is written and loaded again. Raises
    FileExistsError for a name that is taken, ValueError for one that can't be.
    """
    path = _subscriber_file(secrets, name)
    if path.exists():
        raise FileExistsError(f"there is a subscriber {name!r} already")
    seed = new_seed()
    write_private(path, public_key(seed) + "\n")
    return seed


def remove_subscriber(secrets: Path, name: str) -> None:
    """Forget an outside system. Raises FileNotFoundError."""
    _subscriber_file(secrets, name).unlink()


def subscribers(secrets: Path) -> dict[str, str]:
    """Return the outside systems with their public keys."""
    found = sorted(secrets.glob(f"nats-*-{Account.READERS}.public"))
    prefix, suffix = "nats-", f"-{Account.READERS}.public"
    return {
        path.name.removeprefix(prefix).removesuffix(suffix): path.read_text().strip()
        for path in found
    }


def public_keys(secrets: Path, users: Iterable[User]) -> dict[User, str]:
    """Return the public key of every user. Raises FileNotFoundError for one without a seed."""
    admitted = subscribers(secrets)
    return {
        user: admitted[user.name]
        if user.account is Account.READERS and user.name in admitted
        else public_key(seed_file(secrets, user).read_text().strip())
        for user in users
    }


def _subscriber_file(secrets: Path, name: str) -> Path:
    return secrets / f"nats-{subscriber_name(name)}-{Account.READERS}.public"
