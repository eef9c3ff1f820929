"""Where the operator's key is found."""

import json
import shutil
from pathlib import Path

import pytest

from services.cli.errors import CliError
from services.cli.operator_access import OperatorAccess, OperatorSettings
from services.provisioning.nats import ensure_seeds, users, write_operator_file

URL = "nats://127.0.0.1:4242"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ensure_seeds(tmp_path / "secrets", users())
    write_operator_file(tmp_path / "bootstrap", tmp_path / "secrets", URL)
    return tmp_path


def test_the_bootstrap_file_says_all(home: Path) -> None:
    access = OperatorAccess.find(OperatorSettings(home=home))
    assert access.url == URL
    assert access.seed_file == home / "bootstrap" / "nats-operator.nk"
    assert access.inbox_prefix == "_INBOX_operator"


def test_without_it_the_secret_files_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    shutil.rmtree(home / "bootstrap")
    access = OperatorAccess.find(OperatorSettings(home=home))
    assert access.url == "nats://127.0.0.1:1"
    assert access.seed_file == home / "secrets" / "nats-operator-readers.seed"


def test_a_copy_has_its_seed_beside_it(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(home / "bootstrap", elsewhere)
    file = elsewhere / "nats-operator.json"
    access = OperatorAccess.find(OperatorSettings(home=tmp_path / "none", operator_file=file))
    assert access.seed_file == elsewhere / "nats-operator.nk"


def test_a_person_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="neither"):
        OperatorAccess.find(OperatorSettings(home=tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"url": URL})])
def test_a_broken_file_is_said(tmp_path: Path, content: str) -> None:
    file = tmp_path / "operator.json"
    file.write_text(content)
    with pytest.raises(CliError, match="not an operator's file"):
        OperatorAccess.find(OperatorSettings(home=tmp_path, operator_file=file))


def test_a_subscriber_may_have_one_consumer_and_the_operator_any(tmp_path: Path) -> None:
    file = tmp_path / "edge.json"
    for name, consumer in (("edge-1", "edge-1"), ("operator", None)):
        content = {"url": URL, "nkey": "/run/edge.nk", "inbox_prefix": f"_INBOX_{name}"}
        file.write_text(json.dumps(content))
        access = OperatorAccess.read(file, Path("nats-ca.crt"))
        assert access.consumer == consumer
        assert access.ca_file == Path("nats-ca.crt")
        assert access.seed_file == tmp_path / "edge.nk"
