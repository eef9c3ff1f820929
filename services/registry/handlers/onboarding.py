"""How far the platform is set up."""

from typing import Final

from contracts.agents import GetOnboarding, OnboardingStatus
from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.registry import CompleteOnboarding
from services.registry.domain.permissions import OPERATOR, authorise
from services.registry.identity import NOT_INITIALISED, admit, require_initialised
from services.registry.service import Registry
from services.registry.store import platform

PLATFORM: Final = AuditObject(type="platform", id="onboarding", name="onboarding")


async def get_onboarding(command: GetOnboarding, registry: Registry) -> OnboardingStatus:
    """Say whether the platform is set up, to a certificate of ours or to the gateway itself."""
    async with registry.runtime.database.connection() as connection:
        if command.credential is not None:
            await admit(registry, connection, command)
        status = await platform.onboarding(connection)
    if status is None:
        raise CertwireError(ErrorCode.NOT_INITIALISED, NOT_INITIALISED)
    return OnboardingStatus(status=status)


async def complete_onboarding(command: CompleteOnboarding, registry: Registry) -> Done:
    """End the FRESH state; nothing happens where it has ended."""
    authorise(OPERATOR, command)
    async with registry.runtime.unit_of_work(command) as work:
        await require_initialised(work.connection)
        if await platform.complete_onboarding(work.connection):
            work.record(OPERATOR, "onboarding_complete", PLATFORM)
        return await work.answer(Done())
