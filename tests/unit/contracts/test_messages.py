"""What every message keeps to, and what every command declares."""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import Field, ValidationError

import contracts
from contracts.messages import Call, Command, IdempotencyKey, Message, SerialHex, Sha256Hex
from contracts.outbox import GetOutboxHead
from contracts.status import GetStatus
from contracts.subjects import CLI, Service


class Secretive(Message):
    fingerprint: Sha256Hex = "0" * 64
    serial: SerialHex = "1"
    token: str = Field(default="", max_length=5, repr=False)
    blob: bytes = b""


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


SERVICE_OF = {
    "agents": Service.REGISTRY,
    "api_keys": Service.REGISTRY,
    "audit_log": Service.AUDIT,
    "pki": Service.ISSUER,
    "users": Service.REGISTRY,
}
"""Of modules that are named for their subject."""
EVERYWHERE = (GetOutboxHead, GetStatus)
"""Each is one command with a subject for each service."""


def found() -> list[type[Command[Any]]]:
    """Return the commands of the contracts that stand on a subject."""
    for module in pkgutil.iter_modules(contracts.__path__, "contracts."):
        importlib.import_module(module.name)
    return [
        command
        for command in dict.fromkeys(subclasses(Command))
        if command.__module__.startswith("contracts.")
        and not command.__subclasses__()
        and "[" not in command.__name__
        and command not in EVERYWHERE
    ]


COMMANDS = sorted(found(), key=lambda command: command.__name__)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


def test_no_two_commands_share_a_subject() -> None:
    subjects = Counter(command.SUBJECT for command in COMMANDS)
    assert [subject for subject, count in subjects.items() if count > 1] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_declares_everything(command: type[Command[Any]]) -> None:
    module = command.__module__.removeprefix("contracts.")
    parts = command.SUBJECT.split(".")
    service = parts[1] if module == "kek" else SERVICE_OF.get(module, module)  # several have keys
    assert parts[:2] == ["certwire", service]
    assert len(parts) == 4
    assert issubclass(command.REPLY, Message)
    assert command.CALLERS
    assert {*Service, CLI} >= command.CALLERS
    assert Service(service) not in command.CALLERS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_reply_is_what_the_type_says(command: type[Command[Any]]) -> None:
    declared = [
        argument
        for base in command.__mro__
        if issubclass(base, Command)
        for argument in base.__pydantic_generic_metadata__["args"]
    ]
    assert declared[0] is command.REPLY


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_what_a_command_calls_a_secret_is_not_in_its_repr(command: type[Command[Any]]) -> None:
    for name, field in {**command.model_fields, **command.REPLY.model_fields}.items():
        if name in {"token", "password", "agent_secrets", "access_token", "refresh_token"}:
            assert field.repr is False or get_args(field.annotation), name


def test_a_message_is_closed_and_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Secretive.model_validate({"surprise": 1})
    message = Secretive()
    with pytest.raises(ValidationError):
        message.token = "other"  # type: ignore[misc]  # what is tried


def test_bytes_cross_the_bus_as_base64() -> None:
    message = Secretive(blob=bytes(range(256)))
    assert Secretive.model_validate_json(message.model_dump_json()) == message


def test_an_error_does_not_print_what_was_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        Secretive.model_validate_json('{"token": "hunter2-hunter2"}')
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "0" * 63, "A" * 64, "0" * 64 + "\n", "0" * 65])
def test_a_fingerprint_is_64_lower_case_digits(value: str) -> None:
    with pytest.raises(ValidationError):
        Secretive(fingerprint=value)


@pytest.mark.parametrize("value", ["", "1" * 41, "AB", "0x1", "1\n"])
def test_a_serial_number_is_lower_case_hex(value: str) -> None:
    with pytest.raises(ValidationError):
        Secretive(serial=value)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_has_1_to_255_characters(key: str) -> None:
    with pytest.raises(ValidationError):
        IdempotencyKey(scope="0" * 64, key=key, request="0" * 64)


def test_a_call_survives_the_bus_unchanged() -> None:
    key = IdempotencyKey(scope="a" * 64, key="k", request="b" * 64)
    call = Call(request_id="r", deadline=1763769600.123456, idempotency=key)
    assert Call.model_validate_json(call.model_dump_json()) == call
