"""A certificate and its key on disk: one set at every moment, whatever happens when."""

import contextlib
import errno
import itertools
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from shared import live_directory
from shared.live_directory import NOT_WHOLE, directory_of, reload_done, reload_due
from tests.support.killed import killed_at, without_room
from tests.support.live import Pair, issued, keys, left_over, put, served, version

DOMAIN = "api.example.com"
OLD, NEW = issued(DOMAIN), issued(DOMAIN)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "public"


def write(root: Path, pair: Pair, domain: str = DOMAIN) -> bool:
    return put(root, pair, domain)


def versions(root: Path, name: str = DOMAIN) -> list[str]:
    return sorted(path.name for path in (root / "archive" / name).iterdir())


def test_files_are_where_certbot_has_them(root: Path) -> None:
    assert write(root, OLD)
    live = root / "live" / DOMAIN
    leaf, issuer = x509.load_pem_x509_certificates((live / "fullchain.pem").read_bytes())
    assert x509.load_pem_x509_certificate((live / "cert.pem").read_bytes()) == leaf
    assert x509.load_pem_x509_certificates((live / "chain.pem").read_bytes()) == [issuer]
    assert (live / "privkey.pem").read_text() == OLD.key_pem
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in live.iterdir()}
    assert modes == {
        "cert.pem": 0o644,
        "chain.pem": 0o644,
        "fullchain.pem": 0o644,
        "privkey.pem": 0o600,
    }
    assert live.is_symlink()
    assert not live.readlink().is_absolute()  # the tree may be moved, or mounted elsewhere


def test_a_wildcard_has_a_name_of_its_own(root: Path) -> None:
    wildcard = issued("*.example.com")
    assert write(root, wildcard, "*.example.com")
    assert (root / "live" / "_wildcard.example.com" / "privkey.pem").is_file()
    write(root, OLD, "example.com")
    assert live_directory.current(root) == {
        "*.example.com": version(wildcard),
        "example.com": version(OLD),
    }


def test_what_is_there_already_is_left_alone(root: Path) -> None:
    assert write(root, OLD)
    target = (root / "live" / DOMAIN).readlink()
    assert not write(root, OLD)
    assert (root / "live" / DOMAIN).readlink() == target
    assert write(root, NEW)
    assert write(root, OLD)  # a certificate from before is another again
    assert served(root, DOMAIN) == version(OLD)


def test_the_set_before_stays_for_who_is_just_reading_it(root: Path) -> None:
    pairs = [issued(DOMAIN) for _ in range(4)]
    for pair in pairs:
        write(root, pair)
    assert versions(root) == [f"3-{version(pairs[2])}", f"4-{version(pairs[3])}"]
    assert served(root, DOMAIN) == version(pairs[3])


def test_files_that_went_missing_are_written_again(root: Path) -> None:
    write(root, OLD)
    for file in live_directory.FILES:
        (root / "live" / DOMAIN / file).unlink()
        assert live_directory.current(root) == {DOMAIN: NOT_WHOLE}
        assert write(root, OLD)
        assert live_directory.current(root) == {DOMAIN: version(OLD)}
        assert served(root, DOMAIN) == version(OLD)


def test_a_chain_that_is_another_is_written(root: Path) -> None:
    """An upload may bring the same leaf with an intermediate that was missing before."""
    leaf = OLD.chain_pem[: OLD.chain_pem.index("-----END CERTIFICATE-----\n") + 26]
    alone = Pair(leaf, OLD.key_pem, OLD.fingerprint)
    assert write(root, alone)
    assert (root / "live" / DOMAIN / "chain.pem").read_text() == ""
    assert live_directory.current(root) == {DOMAIN: version(alone)}
    assert write(root, OLD)
    assert live_directory.current(root) == {DOMAIN: version(OLD)}


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "domain",
    [
        "",
        ".",
        "..",
        "../etc",
        "/etc/passwd",
        "a/b.example.com",
        "example.com/..",
        "example.com\0",
        "example.com\n",
        ".example.com",
        "example.com.",
        "a..example.com",
        "EXAMPLE.com",
        "localhost",
        "*",
        "*.*.example.com",
        "a.*.example.com",
        "_wildcard.example.com",
        ".new-example.com",
        "-a.example.com",
        "a" * 64 + ".example.com",
        ".".join(["a" * 50] * 6),
    ],
)
def test_what_is_no_domain_is_not_written(root: Path, domain: str) -> None:
    with pytest.raises(ValueError, match="is no domain"):
        write(root, OLD, domain)
    with pytest.raises(ValueError, match="is no domain"):
        live_directory.remove(root, domain)
    assert not root.exists()


@given(st.text())
def test_no_text_leads_out_of_the_directory(domain: str) -> None:
    try:
        name = directory_of(domain)
    except ValueError:
        return
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert live_directory._domain_of(name) == domain


def test_key_and_certificate_have_to_belong_together(root: Path) -> None:
    write(root, OLD)
    for key, reason in (
        (OLD.key_pem, "is not the certificate's"),
        ("no key", "cannot be read"),
        ("", "cannot be read"),
        (_encrypted(NEW), "cannot be read"),
        (_rsa(), "is not the certificate's"),
    ):
        with pytest.raises(ValueError, match=reason):
            write(root, Pair(NEW.chain_pem, key, NEW.fingerprint))
    for chain in ("", "no certificate", NEW.key_pem, NEW.chain_pem[:500]):
        with pytest.raises(ValueError, match=r"."):
            write(root, Pair(chain, NEW.key_pem, NEW.fingerprint))
    assert served(root, DOMAIN) == version(OLD)
    assert len(keys(root)) == 1


def _encrypted(pair: Pair) -> str:
    key = load_pem_private_key(pair.key_pem.encode(), None)
    encryption = BestAvailableEncryption(b"secret")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def _rsa() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_an_error_says_nothing_of_the_key(root: Path) -> None:
    broken = OLD.key_pem.replace("A", "B")
    with pytest.raises(ValueError, match=r".") as raised:
        write(root, Pair(OLD.chain_pem, broken, OLD.fingerprint))
    assert broken.splitlines()[1] not in repr(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


# --- Others' files --------------------------------------------------------------------------------


def test_what_certbot_left_is_moved_aside(root: Path) -> None:
    left = root / "live" / DOMAIN
    left.mkdir(parents=True)
    (left / "privkey.pem").write_text("certbot's")
    (root / "archive" / DOMAIN).mkdir(parents=True)
    (root / "archive" / DOMAIN / "privkey1.pem").write_text("certbot's")
    assert live_directory.current(root) == {}
    assert write(root, OLD)
    assert served(root, DOMAIN) == version(OLD)
    aside = root / "live" / f"{DOMAIN}.replaced-1"
    assert (aside / "privkey.pem").read_text() == "certbot's"
    # Once more: what was moved first stays, and nobody else's key is removed with ours.
    (root / "live" / DOMAIN).unlink()
    left.mkdir()
    assert write(root, NEW)
    assert (root / "live" / f"{DOMAIN}.replaced-2").is_dir()
    assert (aside / "privkey.pem").is_file()
    assert live_directory.remove(root, DOMAIN)
    assert (root / "archive" / DOMAIN / "privkey1.pem").is_file()
    assert (aside / "privkey.pem").is_file()
    assert live_directory.current(root) == {}


def test_what_is_not_ours_is_not_removed(root: Path) -> None:
    (root / "live" / DOMAIN).mkdir(parents=True)
    (root / "archive" / DOMAIN).mkdir(parents=True)
    (root / "archive" / DOMAIN / "cert1.pem").touch()
    elsewhere = root / "live" / "other.example.com"
    elsewhere.symlink_to("../somewhere")
    assert not live_directory.remove(root, DOMAIN)
    assert not live_directory.remove(root, "other.example.com")
    assert (root / "live" / DOMAIN).is_dir()
    assert elsewhere.is_symlink()
    assert (root / "archive" / DOMAIN / "cert1.pem").exists()


@pytest.mark.parametrize("place", ["live", "archive", f"archive/{DOMAIN}"])
def test_no_symlink_leads_out(root: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        write(root, OLD)
    assert [path.name for path in outside.iterdir()] == ["kept"]


def test_a_link_of_our_form_that_leads_out_is_replaced(root: Path, tmp_path: Path) -> None:
    """A version is a directory of the archive, whatever stands in its place."""
    outside = tmp_path / "outside"
    outside.mkdir()
    write(root, OLD)
    (current,) = (root / "archive" / DOMAIN).iterdir()
    shutil.move(current, outside / "moved")
    current.symlink_to(outside / "moved")
    assert live_directory.current(root) == {DOMAIN: NOT_WHOLE}
    assert write(root, OLD)
    assert served(root, DOMAIN) == version(OLD)
    write(root, NEW)
    assert sorted(path.name for path in (outside / "moved").iterdir()) == list(live_directory.FILES)
    live_directory.remove(root, DOMAIN)
    assert sorted(path.name for path in (outside / "moved").iterdir()) == list(live_directory.FILES)


def test_files_planted_as_symlinks_are_neither_read_nor_written_through(
    root: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    write(root, OLD)
    (current,) = (root / "archive" / DOMAIN).iterdir()
    (current / "privkey.pem").unlink()
    (current / "privkey.pem").symlink_to(victim)
    (root / "archive" / DOMAIN / f".new-2-{version(OLD)}").symlink_to(tmp_path)
    (root / "live" / f".new-{DOMAIN}").symlink_to(victim)
    (root / ".new-reload").symlink_to(victim)
    assert live_directory.current(root) == {DOMAIN: NOT_WHOLE}
    assert write(root, OLD)
    assert served(root, DOMAIN) == version(OLD)
    assert victim.read_text() == "precious"
    assert tmp_path.is_dir()


# --- Removal --------------------------------------------------------------------------------------


def test_a_removed_domain_leaves_no_key(root: Path) -> None:
    write(root, OLD)
    write(root, NEW)
    write(root, OLD, "other.example.com")
    assert live_directory.remove(root, DOMAIN)
    assert not live_directory.remove(root, DOMAIN)
    assert served(root, DOMAIN) is None
    assert live_directory.current(root) == {"other.example.com": version(OLD)}
    assert len(keys(root)) == 1
    assert not (root / "archive" / DOMAIN).exists()


def test_where_nothing_was_ever_written_nothing_is_removed(root: Path) -> None:
    assert not live_directory.remove(root, DOMAIN)
    assert live_directory.current(root) == {}
    assert not root.exists()
    root.mkdir()
    assert not live_directory.remove(root, DOMAIN)
    assert live_directory.current(root) == {}


# --- Readers, crashes, a full disk ----------------------------------------------------------------


def test_readers_see_one_set_at_every_moment(root: Path) -> None:
    write(root, OLD)
    stop, seen, problems = threading.Event(), set(), []

    def read() -> None:
        try:
            while not stop.is_set():
                with contextlib.suppress(FileNotFoundError):  # two newer sets came meanwhile
                    seen.add(served(root, DOMAIN))
        except BaseException as problem:  # noqa: BLE001 - it is the test's
            problems.append(problem)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(60):
            write(root, (NEW, OLD)[number % 2])
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not problems
    assert seen == {version(OLD), version(NEW)}  # never none, never a mixture


def test_two_writers_do_not_disturb_each_other(root: Path) -> None:
    pairs = [issued(DOMAIN) for _ in range(4)]

    def work(pair: Pair) -> None:
        for _ in range(10):
            write(root, pair)

    writers = [threading.Thread(target=work, args=(pair,)) for pair in pairs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert served(root, DOMAIN) in {version(pair) for pair in pairs}
    assert len(versions(root)) == 2
    assert not left_over(root)


@pytest.mark.parametrize("before", ["nothing", "a set", "certbot's"])
def test_a_writer_that_is_killed_at_any_step_leaves_a_whole_set(
    tmp_path: Path, before: str
) -> None:
    """At each step of its work on files, one after the other, until it comes to the end."""
    old = {"nothing": None, "a set": version(OLD), "certbot's": None}[before]
    for step in itertools.count(1):
        root = tmp_path / str(step)
        if before == "a set":
            write(root, OLD)
            due = reload_due(root)
            assert due is not None
            reload_done(root, due)
        elif before == "certbot's":
            (root / "live" / DOMAIN).mkdir(parents=True)
        killed = killed_at(step, root, put, root, NEW, DOMAIN)
        if before != "certbot's" or (root / "live" / DOMAIN).is_symlink():
            assert served(root, DOMAIN) in {old, version(NEW)}, step
        if served_is_new := live_directory.current(root).get(DOMAIN) == version(NEW):
            assert reload_due(root) is not None, step
        if not killed:
            assert served_is_new
            break
        # Whoever comes next makes the same of it, and removes what was left.
        assert write(root, NEW) is not served_is_new, step
        assert served(root, DOMAIN) == version(NEW)
        assert not left_over(root), step
        write(root, OLD)
        assert len(versions(root)) == 2, step
        live_directory.remove(root, DOMAIN)
        assert not keys(root), step
    assert step > 12  # it was killed that often


def test_a_removal_that_is_cut_off_is_found_again(tmp_path: Path) -> None:
    for step in itertools.count(1):
        root = tmp_path / str(step)
        write(root, OLD)
        write(root, NEW)
        killed = killed_at(step, root, live_directory.remove, root, DOMAIN)
        assert served(root, DOMAIN) in {None, version(NEW)}, step
        if keys(root):
            assert DOMAIN in live_directory.current(root), step
        live_directory.remove(root, DOMAIN)
        assert not keys(root), step
        assert live_directory.current(root) == {}
        if not killed:
            break
    assert step > 8


def test_a_first_set_that_was_cut_off_is_found_though_it_is_not_in_use(root: Path) -> None:
    """Else the key would stay when the certificate is removed meanwhile."""
    for step in itertools.count(1):
        killed = killed_at(step, root, put, root, NEW, DOMAIN)
        if keys(root):
            assert live_directory.current(root)[DOMAIN] in {NOT_WHOLE, version(NEW)}
        live_directory.remove(root, DOMAIN)
        assert not keys(root), step
        if not killed:
            break


@pytest.mark.parametrize("before", ["a set", "certbot's"])
def test_a_full_disk_leaves_the_old_set(root: Path, before: str) -> None:
    if before == "a set":
        write(root, OLD)
    else:
        (root / "live" / DOMAIN).mkdir(parents=True)
    for _ in range(3):
        without_room(put, root, NEW, DOMAIN)
    if before == "a set":
        assert served(root, DOMAIN) == version(OLD)
        assert len(keys(root)) == 1
    else:
        assert (root / "live" / DOMAIN).is_dir()
        assert not (root / "live" / DOMAIN).is_symlink()
        assert not keys(root)
    assert not left_over(root)
    assert write(root, NEW)
    assert served(root, DOMAIN) == version(NEW)


@pytest.mark.parametrize("step", ["symlink", "rename"])
def test_a_disk_that_fails_at_the_switch_leaves_the_old_set(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write(root, OLD)
    real = getattr(os, step)

    def fail(source: str, target: str, **directories: Any) -> None:  # noqa: ANN401 - of os
        if target.endswith(DOMAIN):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target, **directories)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            write(root, NEW)
    assert served(root, DOMAIN) == version(OLD)
    assert len(keys(root)) == 1
    assert write(root, NEW)
    assert not left_over(root)


# --- Telling whoever reads the files --------------------------------------------------------------


def test_a_reload_is_due_until_one_has_succeeded_that_began_after_the_change(root: Path) -> None:
    assert reload_due(root) is None
    write(root, OLD)
    first = reload_due(root)
    assert first is not None
    write(root, NEW)  # while a reload goes on
    reload_done(root, first)
    second = reload_due(root)
    assert second is not None
    assert second != first
    reload_done(root, second)
    assert reload_due(root) is None
    assert not write(root, NEW)
    assert reload_due(root) is None
    live_directory.remove(root, DOMAIN)
    assert reload_due(root) is not None
