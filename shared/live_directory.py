"""Certificates on disk in certbot's layout, each with its key, replaced as one.

```text
live/<name> -> ../archive/<name>/<version>
archive/<name>/<version>/{cert,chain,fullchain,privkey}.pem
.certwire-reload              files are others, and who reads them has not been told
```

A name is a domain; `_wildcard.<domain>` stands for `*.<domain>`. A version is a number that grows
and the hash of the chain. Who opens `live/<name>` once reads key and certificate of one set.

A new set, step by step; after a crash between any two of them the old set is there, or the new one:

1. It is written to a directory below the archive whose name does not count, and gets its own once
   all of it is on the disk.
2. `.certwire-reload` is written. It stays until a reload has succeeded.
3. `live/<name>` is switched, atomically. What else had this name, such as a directory that certbot
   left, is moved aside and never deleted.
4. Versions before the last one are removed.

Whoever writes holds a lock. Directories are opened one below the other, and no symlink is followed
on the way: nothing outside the root is written or removed.
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from contracts.acme import HOSTNAME
from shared.x509 import bundle

LIVE: Final = "live"
ARCHIVE: Final = "archive"
CERTIFICATE: Final = "cert.pem"
CHAIN: Final = "chain.pem"
FULL_CHAIN: Final = "fullchain.pem"
KEY: Final = "privkey.pem"
FILES: Final = (CERTIFICATE, CHAIN, FULL_CHAIN, KEY)
LOCK: Final = ".certwire-lock"
RELOAD: Final = ".certwire-reload"
TEMPORARY: Final = ".new-"
ASIDE: Final = ".replaced-"
WILDCARD: Final = "_wildcard."
VERSION: Final = re.compile(r"([0-9]{1,18})-([0-9a-f]{32})")
DOMAIN: Final = re.compile(rf"(?:\*\.)?{HOSTNAME}")
DOMAIN_CHARACTERS: Final = 253
"""RFC 1035 section 2.3.4, without the length of the first label and the root."""
NOT_WHOLE: Final = ""
"""In the place of a version, where files are missing or are not in use."""


def directory_of(domain: str) -> str:
    """Return the name of a domain's directory below `live`. Raises ValueError."""
    if len(domain) > DOMAIN_CHARACTERS or not DOMAIN.fullmatch(domain):
        message = f"{domain[:DOMAIN_CHARACTERS]!r} is no domain"
        raise ValueError(message)
    return WILDCARD + domain[2:] if domain.startswith("*.") else domain


def path_of(domain: str) -> Path:
    """Return where a domain's chain is, seen from the root. Raises ValueError."""
    return Path(LIVE, directory_of(domain), FULL_CHAIN)


def version_of(chain_pem: str) -> str:
    """Return what tells one chain from another: the first half of its SHA-256 in hex."""
    return hashlib.sha256(chain_pem.encode()).hexdigest()[:32]


def write(root: Path, domain: str, chain_pem: str, private_key_pem: str) -> bool:
    """Make a certificate the one in use; return whether it was another before.

    The chain begins with the leaf. Raises ValueError where the key is not the leaf's, and OSError,
    with which the old set is in use as before.
    """
    name = directory_of(domain)
    files = _files(chain_pem, private_key_pem)
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (
        _locked(root) as base,
        _made(LIVE, base) as live,
        _made(ARCHIVE, base) as archives,
        _made(name, archives) as archive,
    ):
        _tidy(live, name, archive)
        current = _current(live, name)
        if current is not None and _read(archive, current) == files:
            return False
        version = f"{_last_number(archive) + 1}-{version_of(chain_pem)}"
        try:
            _write_version(archive, version, files)  # 1
            _ask_for_reload(base)  # 2
            _switch(live, name, version)  # 3
        except BaseException:
            if _current(live, name) != version:
                _discard(version, archive)
            raise
        with contextlib.suppress(OSError):  # 4: what stays goes with the next
            _prune(archive, {version, current})
    return True


def remove(root: Path, domain: str) -> bool:
    """Remove a domain's certificates and keys; return whether one was in use. Raises OSError."""
    name = directory_of(domain)
    with contextlib.ExitStack() as stack:
        try:
            base = stack.enter_context(_locked(root))
            live = stack.enter_context(_opened(LIVE, base))
        except FileNotFoundError:
            return False
        was_in_use = _current(live, name) is not None
        if was_in_use:
            _ask_for_reload(base)
            os.unlink(name, dir_fd=live)
            os.fsync(live)
        with contextlib.suppress(FileNotFoundError):
            _forget(base, live, name)
    return was_in_use


def current(root: Path) -> Mapping[str, str]:
    """Return which domain has which version in use, as `version_of` names it.

    `NOT_WHOLE` stands where files are missing, and where there are files that are not in use.
    Raises OSError.
    """
    found: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        try:
            base = stack.enter_context(_opened(root))
            live = stack.enter_context(_opened(LIVE, base))
            archives = stack.enter_context(_opened(ARCHIVE, base))
        except FileNotFoundError:
            return found
        for name in _entries(archives):
            domain = _domain_of(name)
            if domain is not None and (version := _state(live, archives, name)) is not None:
                found[domain] = version
        for name in _entries(live):
            domain = _domain_of(name)
            if domain is not None and domain not in found and _current(live, name) is not None:
                found[domain] = NOT_WHOLE
    return found


def reload_due(root: Path) -> str | None:
    """Return a name for what has changed since the last reload that succeeded, or None."""
    try:
        return (root / RELOAD).read_text()
    except FileNotFoundError:
        return None


def reload_done(root: Path, due: str) -> None:
    """Note that a reload has succeeded that began after `due` was read. Raises OSError."""
    with _locked(root) as base:
        if reload_due(root) == due:
            os.unlink(RELOAD, dir_fd=base)
            os.fsync(base)


# --- Contents -----------------------------------------------------------------------------------


def _files(chain_pem: str, private_key_pem: str) -> dict[str, bytes]:
    """Return what the files hold. Raises ValueError, which says nothing of the key."""
    certificates = x509.load_pem_x509_certificates(chain_pem.encode())
    try:
        key = load_pem_private_key(private_key_pem.encode(), None)
        leaf, owner = certificates[0].public_key(), key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("the private key cannot be read") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if leaf.public_bytes(*form) != owner.public_bytes(*form):
        raise ValueError("the private key is not the certificate's")
    pems = [certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates]
    return {
        CERTIFICATE: pems[0].encode(),
        CHAIN: bundle(pems[1:]).encode(),
        FULL_CHAIN: bundle(pems).encode(),
        KEY: bundle([private_key_pem]).encode(),
    }


def _read(archive: int, version: str) -> dict[str, bytes] | None:
    """Return what a version holds, None where it cannot be read."""
    found = {}
    try:
        with _opened(version, archive) as directory:
            for file in FILES:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
                with os.fdopen(descriptor, "rb") as opened:
                    found[file] = opened.read()
    except OSError:
        return None
    return found


def _state(live: int, archives: int, name: str) -> str | None:
    """Return the version that is in use, None where nothing here is ours."""
    version = _current(live, name)
    try:
        with _opened(name, archives) as archive:
            if version is None:
                return NOT_WHOLE if any(map(_is_ours, _entries(archive))) else None
            with _opened(version, archive) as directory:
                whole = all(_is_file(file, directory) for file in FILES)
    except OSError:
        return None if version is None else NOT_WHOLE
    return version.partition("-")[2] if whole else NOT_WHOLE


def _domain_of(name: str) -> str | None:
    """Return the domain that a directory is named for, None for what `directory_of` never made."""
    domain = f"*.{name.removeprefix(WILDCARD)}" if name.startswith(WILDCARD) else name
    try:
        directory_of(domain)
    except ValueError:
        return None
    return domain


def _is_ours(entry: str) -> bool:
    return VERSION.fullmatch(entry) is not None or entry.startswith(TEMPORARY)


def _is_file(name: str, directory: int) -> bool:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and (status.st_size > 0 or name == CHAIN)


# --- Steps --------------------------------------------------------------------------------------


def _current(live: int, name: str) -> str | None:
    """Return the version that a name leads to, None where it is not of our making."""
    try:
        target = os.readlink(name, dir_fd=live)
    except OSError:  # there is none, or it is no symlink
        return None
    version = target.removeprefix(f"../{ARCHIVE}/{name}/")
    return version if version != target and VERSION.fullmatch(version) else None


def _write_version(archive: int, version: str, files: Mapping[str, bytes]) -> None:
    temporary = f"{TEMPORARY}{version}"
    os.mkdir(temporary, 0o755, dir_fd=archive)
    try:
        with _opened(temporary, archive) as directory:
            for file, content in files.items():
                _write_file(file, content, directory, 0o600 if file == KEY else 0o644)
            os.fsync(directory)
        os.rename(temporary, version, src_dir_fd=archive, dst_dir_fd=archive)
    except BaseException:  # a full disk gets its room back
        _discard(temporary, archive)
        raise
    os.fsync(archive)


def _ask_for_reload(base: int) -> None:
    temporary = f"{TEMPORARY}reload"
    _discard(temporary, base)
    try:
        _write_file(temporary, secrets.token_hex(16).encode(), base, 0o600)
        os.rename(temporary, RELOAD, src_dir_fd=base, dst_dir_fd=base)
    except BaseException:
        _discard(temporary, base)
        raise
    os.fsync(base)


def _switch(live: int, name: str, version: str) -> None:
    temporary = f"{TEMPORARY}{name}"
    os.symlink(f"../{ARCHIVE}/{name}/{version}", temporary, dir_fd=live)
    _move_aside(live, name)
    os.rename(temporary, name, src_dir_fd=live, dst_dir_fd=live)
    os.fsync(live)


def _move_aside(live: int, name: str) -> None:
    if not _exists(name, live) or _current(live, name) is not None:
        return
    names = (f"{name}{ASIDE}{number}" for number in itertools.count(1))
    free = next(name for name in names if not _exists(name, live))
    os.rename(name, free, src_dir_fd=live, dst_dir_fd=live)


def _prune(archive: int, kept: set[str | None]) -> None:
    for version in _entries(archive):
        if VERSION.fullmatch(version) and version not in kept:
            _discard(version, archive)


def _forget(base: int, live: int, name: str) -> None:
    """Remove what the archive has of a name, but nothing of others' making."""
    with _opened(ARCHIVE, base) as archives:
        with _opened(name, archives) as archive:
            _tidy(live, name, archive)
            _prune(archive, set())
        with contextlib.suppress(OSError):  # there is something else in it
            os.rmdir(name, dir_fd=archives)
            os.fsync(archives)


def _tidy(live: int, name: str, archive: int) -> None:
    """Remove what a crash left."""
    _discard(f"{TEMPORARY}{name}", live)
    for entry in _entries(archive):
        if entry.startswith(TEMPORARY):
            _discard(entry, archive)


def _last_number(archive: int) -> int:
    matches = map(VERSION.fullmatch, _entries(archive))
    return max((int(match[1]) for match in matches if match), default=0)


# --- Files below a directory that is open -------------------------------------------------------


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[int]:
    """Lend the root's descriptor as the only one who works on it; wait for who does so."""
    with _opened(root) as base:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(LOCK, flags, 0o600, dir_fd=base)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield base
        finally:
            os.close(lock)


@contextlib.contextmanager
def _opened(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """Lend a directory's descriptor; below a parent, a symlink is not followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if parent is None else os.O_NOFOLLOW)
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _made(name: str, parent: int) -> Iterator[int]:
    """Lend a directory's descriptor; one that is missing is made."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    os.fsync(parent)  # where it was there, too: who made it may have been cut off before this
    with _opened(name, parent) as descriptor:
        yield descriptor


def _write_file(name: str, content: bytes, directory: int, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(name, flags, mode, dir_fd=directory), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _entries(directory: int) -> list[str]:
    return os.listdir(directory)


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _discard(name: str, directory: int) -> None:
    """Remove a file, a symlink, or a directory with all in it; nothing where there is none."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)
