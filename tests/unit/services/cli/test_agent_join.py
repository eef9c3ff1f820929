"""Tests of services.cli.agent_join: a token for a certificate, as often as it takes."""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli import agent_join
from services.cli.agent_files import RENEWAL, AgentDirectory
from services.cli.agent_join import Joining, ca_of, join, patiently, token_of
from services.cli.agent_platform import PlatformError
from services.cli.errors import CliError, UsageError
from tests.support.agent_platform import DROP, LOSE, TOKEN, FakePlatform, serving
from tests.support.joined import enrol
from tests.support.killed import killed_at

ENROL = "/api/enroll"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[FakePlatform]:
    with serving(FakePlatform(), tmp_path) as platform:
        yield platform


@pytest.fixture
def arguments(platform: FakePlatform, tmp_path: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    agent_join.configure(parser)
    words = ["--url", platform.url, "--ca", str(platform.write_ca(tmp_path)), "--token", TOKEN]
    return parser.parse_args([*words, "--directory", str(tmp_path / "agent"), "--timeout", "2"])


def certificate(arguments: argparse.Namespace) -> object:
    current = AgentDirectory(arguments.directory).current()
    return current.certificate if current else None


def test_the_directory_has_all_that_an_agent_needs(
    arguments: argparse.Namespace,
    platform: FakePlatform,
    capsys: pytest.CaptureFixture[str],
) -> None:
    enrol(arguments)
    directory = AgentDirectory(arguments.directory)
    assert certificate(arguments) == platform.current
    assert directory.identity().label == "macbook-pro"
    assert directory.identity().url == platform.url
    assert directory.ca.read_text() == platform.authority.ca_pem
    assert directory.deployed() == directory.contents()
    assert directory.pending(RENEWAL) is None
    assert f"serial {platform.current.serial_number:X}" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [LOSE, DROP, (503, {}, {}), (409, {}, {"Retry-After": "0"})])
def test_asks_again_with_the_same_request(
    arguments: argparse.Namespace,
    platform: FakePlatform,
    fault: Any,  # noqa: ANN401 - of any kind
) -> None:
    platform.faults = [fault]
    enrol(arguments)
    assert certificate(arguments) == platform.current
    assert len(platform.issued) == 1
    assert len(platform.keys) == 2
    assert len(set(platform.keys)) == 1


def test_the_command_may_be_called_again(
    arguments: argparse.Namespace, platform: FakePlatform
) -> None:
    arguments.timeout = 0
    platform.faults = [LOSE]
    with pytest.raises(CliError, match="no answer"):
        enrol(arguments)
    assert certificate(arguments) is None
    enrol(arguments)
    assert certificate(arguments) == platform.current
    assert len(platform.issued) == 1


def test_a_refusal_ends_it(arguments: argparse.Namespace, platform: FakePlatform) -> None:
    platform.faults = [(401, {"error": "Enrollment token has expired"}, {})]
    with pytest.raises(CliError, match="401 Enrollment token has expired"):
        enrol(arguments)
    assert len(platform.calls) == 1
    assert certificate(arguments) is None


def test_what_is_judged_wrong_is_not_kept(
    arguments: argparse.Namespace, platform: FakePlatform
) -> None:
    def judge(answer: dict[str, Any]) -> None:
        raise CliError(answer["label"])

    body = {"token": TOKEN}
    with pytest.raises(CliError, match="macbook-pro"):
        join(arguments, TOKEN, Joining(ENROL, lambda csr: {**body, "csr": csr}, judge))
    assert certificate(arguments) is None
    enrol(arguments)  # with the same request
    assert len(platform.issued) == 1


def test_a_new_enrolment_takes_the_place_of_the_old_one(
    arguments: argparse.Namespace, platform: FakePlatform
) -> None:
    enrol(arguments)
    directory = AgentDirectory(arguments.directory)
    directory.begin(RENEWAL)
    platform.answers.clear()
    arguments.url += "/"  # another request
    enrol(arguments)
    assert len(platform.issued) == 2
    assert certificate(arguments) == platform.current
    assert directory.pending(RENEWAL) is None


def test_a_command_that_is_killed_at_any_step_is_called_again(
    arguments: argparse.Namespace, platform: FakePlatform, tmp_path: Path
) -> None:
    for step in range(1, 100):
        arguments.directory = tmp_path / f"agent-{step}"
        platform.answers.clear()
        platform.issued.clear()
        killed = killed_at(step, arguments.directory, enrol, arguments)
        if certificate(arguments) is None or any(arguments.directory.glob("pending-*")):
            enrol(arguments)
        assert certificate(arguments) == platform.current, step
        assert len(platform.issued) == 1
        if not killed:
            break
    assert 20 < step < 99


def test_a_token_comes_from_an_argument_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("from-stdin\n"))
    for token, token_file, found in (
        ("given", None, "given"),
        (None, str(file), "from-file"),
        (None, "-", "from-stdin"),
    ):
        assert token_of(argparse.Namespace(token=token, token_file=token_file)) == found
    with pytest.raises(UsageError):
        token_of(argparse.Namespace(token=" ", token_file=None))


def test_a_file_without_ca_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    for name in ("ca.crt", "nothing"):
        with pytest.raises(UsageError, match="no file of CA certificates"):
            ca_of(argparse.Namespace(ca=tmp_path / name))


def test_patience_ends() -> None:
    asked = []

    def ask() -> dict[str, Any]:
        asked.append(1)
        raise PlatformError("away")

    with pytest.raises(CliError, match="away"):
        patiently(ask, 0.6)
    assert 1 <= len(asked) <= 3
