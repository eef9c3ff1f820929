"""Secrets of a running instance."""

import ipaddress
import json
from math import ceil

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import AgentSecrets, RefreshSecrets
from contracts.principal import Principal
from services.instance.domain import wireguard
from services.instance.domain.renewal import (
    InstanceFacts,
    identify,
    principal,
    require_running,
)
from services.instance.handlers.administration import secrets_row
from services.instance.service import Instances
from services.instance.store import instances as store
from services.instance.store import renewals
from shared import outbox


async def refresh_secrets(command: RefreshSecrets, instances: Instances) -> AgentSecrets:
    """Return the current secrets, decrypted for this one reply.

    Checks in the order of a renewal, with the VPN address after the WireGuard key. It changes
    nothing, so an Idempotency-Key has nothing to keep here.
    """
    if command.credential is None:
        raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
    async with instances.runtime.database.transaction() as connection:
        presented = await renewals.present(
            connection, command.instance_id, command.credential.sha256,
            wireguard.decode(command.wg_public_key),
        )  # fmt: skip
        facts = identify(presented)
        actor = principal(facts)
        _require_address(command, facts, actor, instances)
        require_running(facts)
        sealed = await store.take_refresh(
            connection, command.instance_id, instances.settings.instance_secrets_refreshes_per_hour
        )
        if sealed is None:
            wait = await store.refresh_wait_seconds(connection, command.instance_id)
            raise CertwireError(
                ErrorCode.RATE_LIMITED,
                "Rate limit exceeded",
                retry_after_seconds=max(1, ceil(wait)),
                actor=actor,
            )
        row = outbox.outbox_row(
            instances.runtime.service,
            command.call.request_id,
            actor,
            "instance_refresh_secrets",
            AuditObject(type="instance", id=facts.id, name=facts.name),
        )
        await outbox.append(connection, [row])
    instances.runtime.backlog.nudge()
    opened = instances.sealer.open(sealed, secrets_row(command.instance_id))
    return AgentSecrets(agent_secrets=json.loads(opened))


def _require_address(
    command: RefreshSecrets, facts: InstanceFacts, actor: Principal, instances: Instances
) -> None:
    """Compare the registered address with the stated one and, where set, with the peer's."""
    matches = command.vpn_ip == facts.vpn_ip
    if instances.settings.instance_verify_source_ip:
        matches = matches and _same(command.call.source_address, facts.vpn_ip)
    if not matches:
        raise CertwireError(
            ErrorCode.IDENTITY_MISMATCH, "identity verification failed", actor=actor
        )


def _same(peer: str | None, registered: str) -> bool:
    try:
        return ipaddress.ip_address(peer or "") == ipaddress.ip_address(registered)
    except ValueError:
        return False
