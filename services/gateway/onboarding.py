"""Whether the platform is set up: until then the management API answers 503."""

from contracts.agents import GetOnboarding, Onboarding
from contracts.messages import Call
from shared.broker import Bus


class OnboardingState:
    """Asks the registry until it says COMPLETED, which never goes back."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._completed = False

    async def status(self, call: Call) -> Onboarding:
        """Return the state. Raises CertwireError."""
        if self._completed:
            return Onboarding.COMPLETED
        found = await self._bus.request(GetOnboarding(call=call))
        self._completed = found.status is Onboarding.COMPLETED
        return found.status
