"""The audit service: what it does by itself. It takes no commands yet."""

from contracts.subjects import Service
from services.audit.collector import Collector
from services.audit.settings import AuditSettings
from shared.runtime import Application, Runtime


async def build(settings: AuditSettings) -> Application:
    """Return the audit service, ready to run."""
    runtime = await Runtime.open(Service.AUDIT, settings)
    collector = Collector(runtime, settings)
    return Application(
        runtime, handlers={}, background=(collector.run,), warnings=collector.warnings
    )
