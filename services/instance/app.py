"""The instance service: which command is answered by what."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from nats.aio.msg import Msg

from contracts.instance import (
    BootstrapCertificate,
    CreateBootstrapToken,
    CreateInstance,
    GetInstance,
    ListInstanceCertificates,
    ListInstances,
    PutSecrets,
    RefreshSecrets,
    RenewCertificate,
    ResolveInstance,
    RevokeInstanceCertificate,
    SetInstanceStatus,
)
from contracts.kek import KEK_COMMANDS
from contracts.messages import Command, Message
from contracts.subjects import INBOUND_INSTANCE_STATUS, Service
from services.instance import sweeper
from services.instance.handlers import administration, certificates, credentials, inbound, secrets
from services.instance.service import Instances
from services.instance.settings import InstanceSettings
from services.instance.store.sealed import SEALED
from shared import rewrapping
from shared.broker import undecoded
from shared.runtime import Application, Runtime, bind

HANDLERS: Final[dict[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]]] = {
    RenewCertificate: certificates.renew_certificate,
    BootstrapCertificate: certificates.bootstrap_certificate,
    RefreshSecrets: secrets.refresh_secrets,
    CreateInstance: administration.create_instance,
    ListInstances: administration.list_instances,
    GetInstance: administration.get_instance,
    SetInstanceStatus: administration.set_instance_status,
    PutSecrets: administration.put_secrets,
    CreateBootstrapToken: administration.create_bootstrap_token,
    ListInstanceCertificates: administration.list_instance_certificates,
    ResolveInstance: credentials.resolve_instance,
    RevokeInstanceCertificate: administration.revoke_instance_certificate,
    **rewrapping.handlers(KEK_COMMANDS[Service.INSTANCE], SEALED),
}


async def build(settings: InstanceSettings) -> Application:
    """Return the service, ready to run."""
    runtime = await Runtime.open(Service.INSTANCE, settings)
    instances = Instances(runtime, settings)

    async def receive_status(message: Msg) -> None:
        await inbound.receive_status(message, instances)

    runtime.bus_broker.subscriber(
        INBOUND_INSTANCE_STATUS, Service.INSTANCE, no_reply=True, decoder=undecoded, max_workers=8
    )(receive_status)
    return Application(
        runtime,
        bind(HANDLERS, instances),
        direct=frozenset({RenewCertificate}),
        background=(partial(sweeper.sweep, instances), partial(sweeper.forget, instances)),
    )
