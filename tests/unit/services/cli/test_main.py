"""The command line itself: help, exit codes, and one line for a person's mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli import main as command_line
from services.cli.errors import FAILURE, INTERRUPTED, OK, USAGE, UsageError
from services.cli.main import COMMANDS, Command, main


def exit_code(*words: str) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


def add_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, name: str = "probe"
) -> None:
    """Give the command line one more command whose `run` has this body."""
    text = f"def configure(parser):\n    pass\ndef run(arguments):\n    {body}\n"
    (tmp_path / f"cli_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, f"cli_{name}", raising=False)
    commands = (*COMMANDS, Command((name,), "test", f"cli_{name}"))
    monkeypatch.setattr(command_line, "COMMANDS", commands)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_command_has_a_help_text_with_an_example(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*command.words, "--help") == OK
    assert "xample" in capsys.readouterr().out


def test_the_help_lists_all_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == OK
    out = capsys.readouterr().out
    assert all(command.words[0] in out for command in COMMANDS)
    assert "0 done, 1 failed, 2 wrong usage" in out


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from services.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'nats', 'asyncpg', 'cryptography', 'faststream'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == OK
    assert capsys.readouterr().out.startswith("certwire ")


@pytest.mark.parametrize(
    "words", [(), ("nonsense",), ("admin",), ("run", "nonsense"), ("status", "--nonsense")]
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words) == USAGE
    assert "usage: certwire" in capsys.readouterr().err


def test_a_wrong_setting_is_2_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CERTWIRE_OPS_PORT", "many")
    assert exit_code("status") == USAGE
    captured = capsys.readouterr()
    assert captured.err.startswith("certwire: setting ops_port: ")
    assert captured.err.count("\n") == 1


def test_settings_that_do_not_go_together_are_told_in_their_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CERTWIRE_ACME_EAB_KID", "a")
    assert exit_code("run", "acme") == USAGE
    message = capsys.readouterr().err
    assert message.startswith("certwire: settings: ")
    assert "Value error" not in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise OSError('the disk\\n is full')", "the disk is full"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import services.nowhere", "services.nowhere is not part of this installation"),
        (
            "from contracts import errors as e; raise e.CertwireError(e.ErrorCode.NOT_INITIALISED)",
            "not initialised",
        ),
    ],
)
def test_a_failure_is_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    body: str,
    message: str,
) -> None:
    add_command(monkeypatch, tmp_path, body)
    assert exit_code("probe") == FAILURE
    assert capsys.readouterr().err == f"certwire: {message}\n"
    assert exit_code("probe", "--debug") == FAILURE
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_ours_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    body = f"from {UsageError.__module__} import UsageError; raise UsageError('no')"
    add_command(monkeypatch, tmp_path, body)
    assert exit_code("probe") == USAGE
    assert capsys.readouterr().err == "certwire: no\n"


def test_ctrl_c_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    add_command(monkeypatch, tmp_path, "raise KeyboardInterrupt")
    assert exit_code("probe") == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_a_reader_that_stops_reading_is_no_reason_for_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "cli_probe.py").write_text(
        "def configure(parser): pass\n"
        "def run(arguments):\n    for _ in range(100_000): print('x' * 80)\n    return 0\n"
    )
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from services.cli import main\n"
        "main.COMMANDS = (main.Command(('probe',), 'test', 'cli_probe'),)\n"
        "sys.exit(main.main(['probe']))"
    )
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "$1" | head -1', "sh", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
