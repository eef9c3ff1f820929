"""`certwire status`."""

import json

from tests.support.stack import Stack


async def test_status_names_what_is_not_there(stack: Stack) -> None:
    async with stack.services():
        done = await stack.line.run("status", "--json")
        table = await stack.line.run("status")
    assert done.code == table.code == 1
    report = json.loads(done.out)
    assert report["ready"] is False
    parts = {part["service"]: part for part in report["parts"]}
    ready = {name for name, part in parts.items() if part["ready"]}
    assert ready == {"postgres", "nats", "issuer", "registry"}
    assert parts["gateway"]["missing"] == ["it does not run"]
    assert parts["registry"]["outbox_waiting"] is not None
    assert parts["nats"]["version"].count(".") == 2
    assert any("certwire onboarding complete" in warning for warning in report["warnings"])
    assert any("certwire bootstrap clear" in warning for warning in report["warnings"])
    assert table.out.splitlines()[0].split() == ["PART", "VERSION", "STATE", "WAITING", "MISSING"]
