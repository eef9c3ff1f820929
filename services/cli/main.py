"""The command `certwire`.

Each command is a module of its own with `configure(parser)` and `run(arguments)`, which returns the
exit code. A module is imported when its command is called, and imports what is heavy inside `run`:
`certwire --help` has to be quick.
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from services.cli.errors import FAILURE, INTERRUPTED, USAGE, CliError

_Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


@dataclass(frozen=True)
class Command:
    """A command by its words, and the module that knows the rest."""

    words: tuple[str, ...]
    help: str
    module: str


GROUPS: Final = {
    "agent": "this machine's own certificate",
    "admin": "the administrator's certificate",
    "audit": "the audit log",
    "bootstrap": "the secrets of the first start",
    "ca": "certificate authorities",
    "events": "the event stream",
    "kek": "the key that all secrets in the database are sealed under",
    "onboarding": "the state of the installation",
    "subscriber": "who else reads the event stream",
}
COMMANDS: Final = (
    Command(("up",), "start everything on this machine", "services.cli.up"),
    Command(("init",), "make the platform ready to start, once", "services.cli.init"),
    Command(("migrate",), "bring the database schemas up to date", "services.cli.migrate"),
    Command(("run",), "run one service", "services.cli.run"),
    Command(("status",), "say how each part is", "services.cli.status"),
    Command(("ca", "list"), "list the platform's own certificates", "services.cli.ca_list"),
    Command(("ca", "show"), "print the platform's own certificates", "services.cli.ca_show"),
    Command(("ca", "crl"), "sign the root's next CRL", "services.cli.ca_crl"),
    Command(
        ("admin", "reset"), "make a new administrator's certificate", "services.cli.admin_reset"
    ),
    Command(
        ("onboarding", "complete"), "open the management API", "services.cli.onboarding_complete"
    ),
    Command(
        ("bootstrap", "clear"), "remove the secrets of the start", "services.cli.bootstrap_clear"
    ),
    Command(("agent", "enroll"), "get an agent's certificate", "services.cli.agent_enroll"),
    Command(
        ("agent", "bootstrap"), "get an instance's certificate", "services.cli.agent_bootstrap"
    ),
    Command(("agent", "run"), "keep the certificate fresh", "services.cli.agent_run"),
    Command(("agent", "renew"), "renew the certificate now", "services.cli.agent_renew"),
    Command(("agent", "status"), "say which certificate there is", "services.cli.agent_status"),
    Command(("audit", "tail"), "follow the audit log", "services.cli.audit_tail"),
    Command(("kek", "status"), "say what is under which key", "services.cli.kek_status"),
    Command(("kek", "rotate"), "put everything under a new key", "services.cli.kek_rotate"),
    Command(("kek", "retire"), "remove the old key", "services.cli.kek_retire"),
    Command(("events", "tail"), "follow the events", "services.cli.events_tail"),
    Command(("subscriber", "add"), "admit a subscriber", "services.cli.subscriber_add"),
    Command(("subscriber", "remove"), "forget a subscriber", "services.cli.subscriber_remove"),
)


class Version(argparse.Action):
    """`--version`, which looks the version up only when asked for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from shared import VERSION

        print(f"certwire {VERSION}")
        parser.exit()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that `words` name; return the exit code: 0 done, 1 failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in arguments
    try:
        parsed = _parser(arguments).parse_args(arguments)
        return int(importlib.import_module(parsed.module).run(parsed))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; nothing is left to flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except CliError as error:
        return _failed(str(error), error.exit_code, debug=debug)
    except Exception as error:  # noqa: BLE001 - a person gets one line, with --debug all of it
        return _failed(*_explain(error), debug=debug)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, in which only the command that `words` name has its arguments."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="print the traceback of a failure")
    parser = argparse.ArgumentParser(
        prog="certwire",
        description="A certificate platform of small services over NATS.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage.",
        parents=[common],
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, _Parsers] = {}
    named = tuple(word for word in words if not word.startswith("-"))
    for command in COMMANDS:
        parsers = commands
        if len(command.words) > 1:
            name = command.words[0]
            if name not in groups:
                groups[name] = _add_group(commands, name)
            parsers = groups[name]
        sub = parsers.add_parser(
            command.words[-1],
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        sub.set_defaults(module=command.module)
        if named[: len(command.words)] == command.words:
            _use_ports_of_the_embedded_stack()
            importlib.import_module(command.module).configure(sub)
    return parser


def _add_group(commands: "_Parsers", name: str) -> "_Parsers":
    text = GROUPS[name]
    group = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    return group.add_subparsers(metavar="COMMAND", required=True)


def _use_ports_of_the_embedded_stack() -> None:
    """Point the settings at the stack of `certwire up`, unless the environment says where to."""
    from services.cli.ports import set_defaults

    set_defaults(os.environ)


def _explain(error: Exception) -> tuple[str, int]:
    """Return one line for a person and the exit code."""
    from pydantic import ValidationError

    from contracts.errors import CertwireError

    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        said = problem["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, problem["loc"]))  # none where several do not go together
        return f"setting {name}: {said}" if name else f"settings: {said}", USAGE
    if isinstance(error, CertwireError):
        return error.detail or str(error.code).replace("_", " "), FAILURE
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("services."):
        return f"{error.name} is not part of this installation", FAILURE
    text = " ".join(str(error).split())
    expected = isinstance(error, OSError) or type(error).__module__ != "builtins"
    return (text if expected and text else f"{type(error).__name__}: {text}"), FAILURE


def _failed(message: str, exit_code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"certwire: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
