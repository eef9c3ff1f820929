"""The platform on servers of its own, by settings alone: what docker-compose.yml does.

Postgres and NATS (with TLS) are started as outside servers, from the files in `deploy`; everything
else runs with the commands and the environment of the compose file. Then come the first walk of the
README, and backup and restore as deploy/README.md has them.
"""

import json
import re
import shutil
import subprocess

import pytest

from tests.support.compose import ROOT, WithoutContainers, without_containers

WALK = re.compile(r"<!-- walk -->\n```sh\n(.*?)```", re.DOTALL)


@pytest.mark.timeout(300)
def test_the_compose_file_runs_the_platform_and_a_backup_restores_it() -> None:
    with without_containers() as stack, without_containers() as elsewhere:
        stack.up_all()
        walk(stack, "web-1", "10.0.0.7")
        operate(stack)
        dump = stack.sql("pg_dumpall")
        codes = stack.stop()
        assert set(codes.values()) == {0}, codes

        restore(elsewhere, stack, dump)
        elsewhere.up_all()
        printed = walk(elsewhere, "web-2", "10.0.0.8")
        # Both streams are whole again, from the outboxes.
        assert "web-1" in printed
        assert "web-2" in printed
        assert warnings(elsewhere) == []


def walk(stack: WithoutContainers, name: str, vpn_ip: str) -> str:
    """Take the first walk of the README with an instance of this name; return what it prints."""
    script = "\n".join(WALK.findall((ROOT / "README.md").read_text()))
    assert "cert/renew" in script
    script = script.replace('"web-1"', f'"{name}"').replace('"10.0.0.7"', f'"{vpn_ip}"')
    environment = {
        **stack.environment("operator"),
        "CERTWIRE_HTTPS_PORT": str(stack.port("https")),
        "TMPDIR": str(stack.directory),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "renewed.crt: OK" in done.stdout
    return done.stdout


def operate(stack: WithoutContainers) -> None:
    """Do what deploy/README.md does with a running platform."""
    done = stack.run("operator", "onboarding", "complete")
    assert done.code == 0, done.err
    assert warnings(stack) == []
    for step in ("prepare", "init"):  # as every later `up` does
        done = stack.run(step)
        assert (done.code, done.out) == (0, ""), done.err
    done = stack.run("operator", "admin", "reset")
    assert done.code == 0, done.err
    assert (stack.volume("home") / "admin.p12").is_file()


def warnings(stack: WithoutContainers) -> list[str]:
    """Return what `certwire status` warns of, where everything is ready."""
    done = stack.run("operator", "status", "--json")
    assert done.code == 0, done.out
    report = json.loads(done.out)
    assert {part["service"] for part in report["parts"]} >= {"postgres", "nats", "gateway"}
    return [text for text in report["warnings"] if "bootstrap clear" not in text]


def restore(stack: WithoutContainers, former: WithoutContainers, dump: bytes) -> None:
    """Bring keys and data to a new place; what the administrator was given is still good there."""
    for directory in ("secrets", "root", "bootstrap"):
        shutil.copytree(former.volume("home") / directory, stack.volume("home") / directory)
    stack.up("postgres")
    dump = dump.replace(b"CREATE ROLE postgres;\n", b"")
    stack.sql("psql", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres", input=dump)
