"""Tests of services.cli.watch_files: what a host remembers of the projects that it watches."""

import json
import stat
from pathlib import Path

import pytest

from services.cli import watch_files
from services.cli.errors import CliError
from services.cli.watch_files import Project, Watch

SHOP = Project(("shop.example.com", "old.example.com"), "2026-03-14T03:00:00Z", "no answer")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert watch_files.read(tmp_path) is None
    watch = Watch("https://localhost:1", "/etc/certwire").having("shop", SHOP)
    watch = watch.having("blog", Project())
    watch_files.write(tmp_path, watch)
    assert watch_files.read(tmp_path) == watch
    assert stat.S_IMODE((tmp_path / "watch.json").stat().st_mode) == 0o600
    again = watch.having("shop", Project())
    watch_files.write(tmp_path, again)
    assert watch_files.read(tmp_path) == again


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"url": "", "live_dir": "", "projects": []}',
        '{"url": "", "live_dir": "", "projects": {"shop": {}}}',
        '{"url": "", "live_dir": "", "projects": {"shop": {"domains": 1}}}',
        '{"url": "", "live_dir": "", "projects": {"shop": {"domains": [], "colour": "red"}}}',
        '{"live_dir": "", "projects": {}}',
        json.dumps({"url": "", "live_dir": "", "projects": {}, "colour": "red"}),
    ],
)
def test_what_nobody_wrote_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "watch.json").write_text(content)
    with pytest.raises(CliError, match=r"watch\.json cannot be read"):
        watch_files.read(tmp_path)
