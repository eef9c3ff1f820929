"""The audit service: what it answers, and what it does by itself."""

from collections.abc import Awaitable, Callable
from typing import Any

from contracts.audit_log import ListAuditRecords
from contracts.messages import Command, Message
from contracts.subjects import Service
from services.audit import handlers
from services.audit.barrier import Barrier
from services.audit.collector import Collector
from services.audit.service import Audit
from services.audit.settings import AuditSettings
from shared.runtime import Application, Runtime, bind

HANDLERS: dict[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]] = {
    ListAuditRecords: handlers.list_audit_records,
}


async def build(settings: AuditSettings) -> Application:
    """Return the audit service, ready to run."""
    runtime = await Runtime.open(Service.AUDIT, settings)
    collector = Collector(runtime, settings)
    return Application(
        runtime,
        bind(HANDLERS, Audit(runtime, Barrier(runtime))),
        background=(collector.run,),
        warnings=collector.warnings,
    )
