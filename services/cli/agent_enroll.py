"""`certwire agent enroll`."""

import argparse
from typing import Any

from services.cli import agent_join
from services.cli.errors import OK, CliError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.configure(parser)
    parser.add_argument("--label", help="the label that the token has to be for")
    parser.epilog = (
        "The key is made here and never leaves this machine. Safe to repeat with the same token:\n"
        "an answer that was lost is fetched again.\n\n"
        "Example:\n"
        "  certwire agent enroll --url https://pki.example.com:8443 --ca ca.crt \\\n"
        "    --token-file token --directory /var/lib/certwire-agent\n"
        "  certwire agent run --directory /var/lib/certwire-agent"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exchange an enrolment token for a certificate."""
    token = agent_join.token_of(arguments)

    def judge(answer: dict[str, Any]) -> None:
        if arguments.label not in {None, answer.get("label")}:
            message = f"the token is for {answer.get('label')!r}, not for {arguments.label!r}"
            raise CliError(message)

    def body(csr_pem: str) -> dict[str, Any]:
        return {"token": token, "csr": csr_pem}

    agent_join.join(arguments, token, agent_join.Joining("/api/enroll", body, judge))
    return OK
