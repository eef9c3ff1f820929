"""`certwire agent bootstrap`."""

import argparse
from typing import Any
from uuid import UUID

from services.cli import agent_join
from services.cli.errors import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.configure(parser)
    parser.add_argument("--instance", required=True, type=UUID, metavar="ID", help="the instance")
    parser.add_argument(
        "--wg-public-key", required=True, metavar="KEY", help="its WireGuard key (`wg pubkey`)"
    )
    parser.add_argument("--vpn-ip", required=True, metavar="IP", help="its address in the VPN")
    parser.epilog = (
        "The key is made here and never leaves this machine. Safe to repeat with the same token:\n"
        "an answer that was lost is fetched again.\n\n"
        "Example:\n"
        "  certwire agent bootstrap --url https://pki.example.com:8443 --ca ca.crt \\\n"
        "    --instance 497f6eca-6276-4993-bfeb-53cbbbba6f08 --token-file token \\\n"
        '    --wg-public-key "$(wg show wg0 public-key)" --vpn-ip 10.8.0.2 \\\n'
        "    --directory /var/lib/certwire-agent\n"
        "  certwire agent run --directory /var/lib/certwire-agent"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exchange a bootstrap token for an instance's first certificate."""
    token = agent_join.token_of(arguments)

    def body(csr_pem: str) -> dict[str, Any]:
        return {"token": token, "csr_pem": csr_pem, "wg_public_key": arguments.wg_public_key}

    joining = agent_join.Joining(
        f"/internal/v1/instances/{arguments.instance}/cert/bootstrap", body
    )
    agent_join.join(
        arguments,
        token,
        joining,
        instance_id=str(arguments.instance),
        wg_public_key=arguments.wg_public_key,
        vpn_ip=arguments.vpn_ip,
    )
    return OK
