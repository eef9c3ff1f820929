"""Where the command line looks for the stack of `certwire up`."""

import json
from pathlib import Path

import pytest

from services.cli.ports import ports_file, read_ports, set_defaults


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ports_file(tmp_path).parent.mkdir()
    ports_file(tmp_path).write_text(json.dumps({"postgres": 5, "nats": 4, "https": 8443}))
    return tmp_path


def test_the_ports_of_the_stack_are_taken(home: Path) -> None:
    environment = {"CERTWIRE_HOME": str(home)}
    set_defaults(environment)
    assert environment["DATABASE_URL"] == "postgresql://127.0.0.1:5/certwire"
    assert environment["NATS_URL"] == "nats://127.0.0.1:4"


@pytest.mark.parametrize("name", ["DATABASE_URL", "CERTWIRE_DATABASE_URL"])
def test_the_environment_comes_first(home: Path, name: str) -> None:
    environment = {"CERTWIRE_HOME": str(home), name: "postgresql://elsewhere/certwire"}
    set_defaults(environment)
    assert environment[name] == "postgresql://elsewhere/certwire"
    assert len({"DATABASE_URL", "CERTWIRE_DATABASE_URL"} & environment.keys()) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"postgres": "x"}'])
def test_a_file_that_cannot_be_read_says_nothing(home: Path, content: str) -> None:
    ports_file(home).write_text(content)
    assert read_ports(home) == {}
    environment = {"CERTWIRE_HOME": str(home)}
    set_defaults(environment)
    assert environment == {"CERTWIRE_HOME": str(home)}
