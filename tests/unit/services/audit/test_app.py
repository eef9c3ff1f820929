"""The audit service as a whole: it gets ready by itself and says how it is."""

from services.audit.app import build
from services.audit.settings import AuditSettings
from tests.support.running import running
from tests.support.servers import Place


async def test_it_is_ready_once_it_runs(bus_place: Place) -> None:
    async with running(await build(bus_place.settings(AuditSettings))) as application:
        status = await application.status()
        assert (status.service, status.ready, status.missing) == ("audit", True, ())
