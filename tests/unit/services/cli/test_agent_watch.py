"""Projects' certificates on the host that serves them, from a platform that fails on demand."""

import itertools
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import agent_watch, watch_files
from services.cli.agent_platform import PlatformError, api_key_of
from services.cli.agent_watch import Watcher, Watching
from shared.live_directory import reload_due
from tests.support.agent_platform import (
    API_KEY,
    CUT,
    DROP,
    LOSE,
    Deployed,
    FakePlatform,
    Fault,
    serving,
)
from tests.support.killed import killed_at, without_room
from tests.support.live import issued, keys, left_over, served, version
from tests.support.watching import look_in

SHOP, BLOG, NEW = "shop.example.com", "*.blog.example.com", "new.example.com"
DENIED: Fault = (403, {"success": False, "error": "Not allowed"}, {})


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[FakePlatform]:
    with serving(FakePlatform(), tmp_path) as platform:
        yield platform


class Host:
    """A host that watches, and what it says."""

    def __init__(self, platform: FakePlatform, path: Path) -> None:
        self.platform = platform
        self.path = path
        self.root = path / "public"
        self.directory = path / "agent"
        self.directory.mkdir()
        self.api_key_file = path / "api-key"
        self.api_key_file.write_text(f"{API_KEY}\n")
        self.api_key_file.chmod(0o600)
        self.ca = platform.write_ca(path)
        self.said: list[str] = []

    def watcher(self, *projects: str, command: str = "") -> Watcher:
        watching = Watching(
            self.platform.url, self.ca, self.api_key_file, projects, self.root, command
        )
        return Watcher(self.directory, watching, self.said.append)

    def look(self, *projects: str, command: str = "") -> bool:
        """Look once as a process of its own would; return whether that succeeded."""
        return self.watcher(*(projects or ("shop",)), command=command).run_once()

    def has(self, deployed: Deployed | None, domain: str = SHOP) -> bool:
        found = served(self.root, deployed.domain if deployed else domain)
        return found == (version(deployed.pair) if deployed else None)


@pytest.fixture
def host(platform: FakePlatform, tmp_path: Path) -> Host:
    return Host(platform, tmp_path)


def deploy(platform: FakePlatform, project: str = "shop", domain: str = SHOP) -> Deployed:
    deployed = platform.projects[project] = Deployed(domain, issued(domain))
    return deployed


# --- A look --------------------------------------------------------------------------------------


def test_certificates_are_brought_with_their_keys(platform: FakePlatform, host: Host) -> None:
    shop, blog = deploy(platform), deploy(platform, "blog", BLOG)
    platform.projects["empty"] = None
    assert host.look("shop", "blog", "empty")
    assert host.has(shop)
    assert host.has(blog)
    assert (host.root / "live" / "_wildcard.blog.example.com" / "privkey.pem").exists()
    assert sorted(host.said) == [
        f"blog: the certificate of {BLOG} is new",
        f"shop: the certificate of {SHOP} is new",
    ]


def test_what_is_there_already_is_not_fetched_again(platform: FakePlatform, host: Host) -> None:
    """The export of a key is recorded: it is asked for with a new certificate only."""
    deploy(platform)
    for _ in range(3):
        assert host.look()
    assert platform.asked.count("private-key") == 1
    assert host.said == [f"shop: the certificate of {SHOP} is new"]
    (host.root / "live" / SHOP / "privkey.pem").unlink()
    assert host.look()
    assert host.has(platform.projects["shop"])


def test_a_renewed_certificate_takes_the_place_of_the_old_one(
    platform: FakePlatform, host: Host
) -> None:
    deploy(platform)
    host.look()
    renewed = deploy(platform)
    assert host.look()
    assert host.has(renewed)


@pytest.mark.parametrize("how", ["certificate", "project", "staging"])
def test_what_is_removed_there_is_removed_here(
    platform: FakePlatform, host: Host, how: str
) -> None:
    blog = deploy(platform, "blog", BLOG)
    shop = deploy(platform)
    host.look("shop", "blog")
    if how == "certificate":
        platform.projects["shop"] = None
    elif how == "project":
        del platform.projects["shop"]
    else:
        platform.projects["shop"] = Deployed(SHOP, issued(SHOP), staging=True)
    assert host.look("shop", "blog")
    assert host.has(None)
    assert len(keys(host.root)) == 1
    assert host.has(blog)
    assert f"shop: the certificate of {SHOP} is gone, and its files" in host.said
    assert host.look("shop", "blog")
    platform.projects["shop"] = shop
    assert host.look("shop", "blog")
    assert host.has(shop)


def test_a_project_with_another_domain_leaves_nothing_of_the_old_one(
    platform: FakePlatform, host: Host
) -> None:
    deploy(platform)
    host.look()
    other = deploy(platform, domain=NEW)
    assert host.look()
    assert host.has(other)
    assert host.has(None)
    assert len(keys(host.root)) == 1


def test_a_domain_that_moves_between_projects_keeps_its_files(
    platform: FakePlatform, host: Host
) -> None:
    deploy(platform)
    platform.projects["blog"] = None
    host.look("shop", "blog")
    del platform.projects["shop"]
    moved = deploy(platform, "blog", SHOP)
    for _ in range(2):
        assert host.look("blog", "shop")
        assert host.has(moved)


def test_a_project_that_is_watched_no_longer_keeps_its_files(
    platform: FakePlatform, host: Host
) -> None:
    deploy(platform)
    blog = deploy(platform, "blog", BLOG)
    host.look("shop", "blog")
    platform.projects["blog"] = None
    assert host.look("shop")
    assert host.has(blog)
    assert "blog: is watched no longer; its files stay, as they are" in host.said
    before = len(host.said)
    assert host.look("shop")
    assert len(host.said) == before


def test_another_directory_is_filled_anew(platform: FakePlatform, host: Host) -> None:
    shop = deploy(platform)
    host.look()
    host.root = host.path / "elsewhere"
    assert host.look()
    assert host.has(shop)
    assert served(host.path / "public", SHOP) == version(shop.pair)


# --- A renewal in between ------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["download", "private-key"])
def test_a_renewal_in_between_is_noticed(platform: FakePlatform, host: Host, moment: str) -> None:
    deploy(platform)
    platform.when_asked[moment] = lambda: None
    new: list[Deployed] = []
    platform.when_asked[moment] = lambda: new.append(deploy(platform))
    assert host.look()
    assert host.has(new[0])


def test_another_domain_in_between_is_noticed(platform: FakePlatform, host: Host) -> None:
    deploy(platform)
    new: list[Deployed] = []
    platform.when_asked["download"] = lambda: new.append(deploy(platform, domain=NEW))
    assert host.look()
    assert host.has(new[0])
    assert host.has(None)


def test_what_never_fits_is_not_written(platform: FakePlatform, host: Host) -> None:
    shop = deploy(platform)
    host.look()
    wrong = issued(SHOP)
    platform.projects["shop"] = Deployed(SHOP, type(wrong)(wrong.chain_pem, shop.pair.key_pem, ""))
    assert not host.look()
    assert host.said[-1] == "shop: the private key is not the certificate's"
    assert platform.asked.count("private-key") == 1 + agent_watch.TRIES
    platform.projects["shop"] = Deployed(SHOP, issued("other.example.com"))
    assert not host.look()
    assert host.said[-1] == f"shop: the certificate is not for {SHOP}"
    assert host.has(shop)


@pytest.mark.parametrize(
    ("domain", "names"),
    [("a.example.com", ["*.example.com"]), ("*.example.com", ["example.com", "*.example.com"])],
)
def test_a_wildcard_is_for_names_below_it(domain: str, names: list[str]) -> None:
    assert agent_watch._is_for(domain, issued(*names).chain_pem)


def test_a_wildcard_is_for_nothing_else() -> None:
    chain = issued("*.example.com").chain_pem
    for domain in ("a.b.example.com", "a.example.org", "*.b.example.com"):
        assert not agent_watch._is_for(domain, chain)
    assert not agent_watch._is_for("*.example.com", issued("a.example.com").chain_pem)


# --- A platform that fails ------------------------------------------------------------------------


FAULTS: tuple[Fault, ...] = (
    LOSE,
    CUT,
    DROP,
    DENIED,
    (401, {"success": False, "error": "Invalid credentials"}, {}),
    (404, {"detail": "Not Found"}, {}),
    (404, {"success": False, "error": "Not Found"}, {}),
    (404, "<html>no such page</html>", {}),
    (429, {"success": False, "error": "Too many requests"}, {"Retry-After": "7"}),
    (503, {}, {}),
    (200, "<html>log in first</html>", {}),
    (200, [], {}),
    (200, {}, {}),
    (200, "", {}),
    (200, {"domain": None}, {}),
    (200, {"domain": 7}, {}),
    (200, {"domain": ["shop.example.com"]}, {}),
    (200, {"domain": "../../etc"}, {}),
    (200, {"domain": "x" * 10_000}, {}),
)


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_whatever_it_says_the_files_stay(platform: FakePlatform, host: Host, nth: int) -> None:
    shop = deploy(platform)
    assert host.look()
    new = deploy(platform)
    for fault in FAULTS:
        platform.faults = [None] * nth + [fault] * (9 - nth)
        assert not host.look(), fault
        assert host.has(shop), fault
        assert len(host.said[-1]) < 500
        assert host.said[-1].isprintable()
    platform.faults = []
    assert host.look()
    assert host.has(new)


def test_a_success_that_was_cut_off_is_none(platform: FakePlatform, host: Host) -> None:
    """Half a chain may end at the end of a certificate."""
    shop = deploy(platform)
    leaf = shop.pair.chain_pem[: shop.pair.chain_pem.index("-----END CERTIFICATE-----\n") + 26]
    shop.pair = type(shop.pair)(leaf * 2, shop.pair.key_pem, "")
    platform.faults = [None, CUT]
    assert not host.look()
    assert "cut off" in host.said[-1]
    assert host.has(None)


def test_a_platform_of_another_ca_is_none(platform: FakePlatform, host: Host) -> None:
    deploy(platform)
    host.ca = FakePlatform().write_ca(host.path / "agent")
    assert not host.look()
    assert "certificate verify failed" in host.said[-1]
    assert not platform.asked


def test_trouble_is_said_once_and_its_end_too(
    platform: FakePlatform, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.watch_schedule.FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("services.cli.watch_schedule.LONGEST_RETRY_SECONDS", 0.01)
    deploy(platform)
    watcher = host.watcher("shop")
    platform.faults = [DENIED] * 5
    while platform.faults:
        watcher.turn()
        time.sleep(0.02)
    watcher.turn()
    assert host.said == [
        "shop: 403 Not allowed",
        f"shop: the certificate of {SHOP} is new",
        "shop: all is well again",
    ]


def test_one_project_that_fails_keeps_no_other_waiting(platform: FakePlatform, host: Host) -> None:
    platform.projects["broken"] = Deployed("../etc", issued(SHOP))
    shop = deploy(platform)
    assert not host.look("broken", "shop")
    assert host.has(shop)


def test_the_platform_may_ask_for_patience(platform: FakePlatform, host: Host) -> None:
    platform.faults = [(503, {}, {"Retry-After": "40"})]
    watcher = host.watcher("shop")
    assert 38 < watcher.turn() <= 40


def test_it_comes_back_in_time(platform: FakePlatform, host: Host) -> None:
    deploy(platform)
    watcher = host.watcher("shop")
    assert watcher.turn() == agent_watch.LONGEST_WAIT_SECONDS
    asked = len(platform.asked)
    assert watcher.turn() == agent_watch.LONGEST_WAIT_SECONDS
    assert len(platform.asked) == asked


# --- The API key ---------------------------------------------------------------------------------


def test_the_key_is_read_again_for_each_call(platform: FakePlatform, host: Host) -> None:
    shop = deploy(platform)
    host.api_key_file.write_text("cwk_of-yesterday")
    watcher = host.watcher("shop")
    assert not watcher.run_once()
    assert host.said == ["shop: 401 Invalid credentials"]
    host.api_key_file.write_text(API_KEY)
    assert host.look()
    assert host.has(shop)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (API_KEY, 0o640, "may be read by others: chmod 600"),
        (API_KEY, 0o604, "may be read by others: chmod 600"),
        ("", 0o600, "there is no API key"),
        (" \n", 0o600, "there is no API key"),
        ("a b", 0o600, "there is no API key"),
        ("a\r\nX-Other: b", 0o600, "there is no API key"),
        ("\u00fc" * 10, 0o600, "there is no API key"),
        ("x" * 513, 0o600, "there is no API key"),
        (None, 0o600, "cannot be read: No such file"),
    ],
)
def test_a_key_that_is_none_is_neither_sent_nor_said(
    platform: FakePlatform, host: Host, content: str | None, mode: int, reason: str
) -> None:
    host.api_key_file.unlink()
    if content is not None:
        host.api_key_file.write_text(content)
        host.api_key_file.chmod(mode)
    assert not host.look()
    assert reason in host.said[0]
    assert not platform.asked
    if content and content.strip():
        assert content.strip()[:20] not in host.said[0]
        assert content.strip()[:20] not in (host.directory / "watch.json").read_text()
    with pytest.raises(PlatformError, match=reason):
        api_key_of(host.api_key_file)


def test_a_file_that_is_no_text_is_no_key(host: Host) -> None:
    host.api_key_file.write_bytes(b"\xff\xfe\x00")
    assert not host.look()
    assert "it is no text" in host.said[0]


def test_nothing_secret_is_said_or_kept(platform: FakePlatform, host: Host) -> None:
    shop = deploy(platform)
    host.look()
    platform.faults = [DENIED]
    host.look()
    kept = (host.directory / "watch.json").read_text()
    for text in (*host.said, kept, repr(host.watcher("shop"))):
        assert API_KEY not in text
        assert shop.pair.key_pem.splitlines()[1] not in text


# --- The reload command --------------------------------------------------------------------------


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "the command"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


def test_the_command_runs_once_for_all_that_changed(
    platform: FakePlatform, host: Host, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    command = script(tmp_path, f"ls {host.root}/live >> {count}")
    deploy(platform)
    deploy(platform, "blog", BLOG)
    for _ in range(3):
        assert host.look("shop", "blog", command=command)
    assert count.read_text().split() == ["_wildcard.blog.example.com", SHOP]
    assert host.said[-1] == "the reload command has run"
    platform.projects["blog"] = None
    assert host.look("shop", "blog", command=command)
    assert count.read_text().split()[2:] == [SHOP]
    assert reload_due(host.root) is None


def test_a_command_that_fails_is_run_again_by_the_next_process_too(
    platform: FakePlatform, host: Host, tmp_path: Path
) -> None:
    marker = tmp_path / "fixed"
    command = script(tmp_path, f"test -e {marker} || {{ printf 'a\\nb\\033[0m'; exit 1; }}")
    deploy(platform)
    for _ in range(2):
        assert not host.look(command=command)
    assert host.said[-1] == r"the reload command: failed with exit code 1: a b\x1b[0m"
    marker.touch()
    assert host.look(command=command)
    assert host.said[-1] == "the reload command has run"


def test_a_command_that_fails_is_run_again_after_a_while_and_after_a_change(
    platform: FakePlatform, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    command = script(tmp_path, f"echo x >> {count}; exit 1")

    def runs() -> int:
        return len(count.read_text().splitlines())

    deploy(platform)
    watcher = host.watcher("shop", command=command)
    assert 0 < watcher.turn() <= 5
    watcher.turn()
    assert runs() == 1
    deploy(platform)
    watcher._looks["shop"] = watcher._looks["shop"].heard()
    time.sleep(1.1)
    watcher.turn()
    assert runs() == 2
    later = time.monotonic() + 400
    monkeypatch.setattr(time, "monotonic", lambda: later)
    watcher.turn()
    assert runs() == 3


# --- Killed, and without room --------------------------------------------------------------------


def test_a_host_that_is_killed_at_any_step_gets_on(platform: FakePlatform, host: Host) -> None:
    """At each step of its work on files, while the certificate is another, and the domain too."""
    old = deploy(platform)
    assert host.look()
    for step in itertools.count(1):
        new = deploy(platform, domain=NEW if old.domain == SHOP else SHOP)
        killed = killed_at(step, host.path, look_in, platform.url, host.path)
        found = [served(host.root, each.domain) for each in (old, new)]
        assert found[0] in {version(old.pair), None}, step
        assert found[1] in {version(new.pair), None}, step
        assert any(found), step  # one of the two at every moment
        assert host.look()
        assert host.has(new), step
        assert served(host.root, old.domain) is None, step
        assert len(keys(host.root)) == 1, step
        assert not left_over(host.root), step
        if not killed:
            break
        old = new
    assert step > 25  # it was killed that often


def test_a_full_disk_costs_nothing(platform: FakePlatform, host: Host) -> None:
    old = deploy(platform)
    assert host.look()
    new = deploy(platform)
    for _ in range(3):
        without_room(look_in, platform.url, host.path)
        assert host.has(old)
        assert len(keys(host.root)) == 1
    assert not left_over(host.root)
    assert host.look()
    assert host.has(new)


def test_a_host_remembers_what_it_looked_at(platform: FakePlatform, host: Host) -> None:
    deploy(platform)
    platform.projects["empty"] = None
    host.look("shop", "empty")
    watch = watch_files.read(host.directory)
    assert watch
    assert watch.url == platform.url
    assert watch.projects["shop"].domains == (SHOP,)
    assert watch.projects["empty"].domains == ()
    assert watch.projects["shop"].looked_at
    platform.faults = [DENIED]
    host.look("shop", "empty")
    kept = json.loads((host.directory / "watch.json").read_text())
    assert kept["projects"]["shop"]["problem"] == "403 Not allowed"
    assert kept["projects"]["shop"]["domains"] == [SHOP]
    assert kept["projects"]["shop"]["looked_at"] == watch.projects["shop"].looked_at
