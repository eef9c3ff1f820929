"""The registry: which command goes to which handler."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from contracts.messages import Command, Message
from contracts.registry import CompleteOnboarding, LogIn, ResetAdmin, ResolveCredentials
from contracts.subjects import Service
from services.registry import handlers, sweeper
from services.registry.service import Registry, Request
from services.registry.settings import RegistrySettings
from services.registry.store import platform
from services.registry.store.sessions import Limits
from shared.runtime import Application, Runtime, bind
from shared.secrets import Sealer

WARNING_DAYS: Final = 60
"""`certwire status` warns this long before anything of the platform ends."""
HANDLERS: Final[Mapping[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]]] = {
    ResolveCredentials: handlers.resolve_credentials,
    LogIn: handlers.log_in,
    ResetAdmin: handlers.reset_admin,
    CompleteOnboarding: handlers.complete_onboarding,
}


async def open_registry(settings: RegistrySettings, request: Request | None = None) -> Registry:
    """Return the registry; it sends commands over the bus unless told otherwise."""
    runtime = await Runtime.open(Service.REGISTRY, settings)
    return Registry(
        runtime=runtime,
        request=request or runtime.bus.request,
        sealer=Sealer.from_text(settings.key_encryption_keys()),
        limits=Limits(
            of_user=settings.registry_logins_per_minute,
            of_address=settings.registry_logins_per_minute_of_address,
        ),
    )


async def build(settings: RegistrySettings) -> Application:
    """Return the registry, ready to run."""
    return application(await open_registry(settings))


def application(registry: Registry) -> Application:
    """Return the application of a registry."""
    return Application(
        registry.runtime,
        bind(HANDLERS, registry),
        direct=frozenset({ResolveCredentials}),
        prepare=registry.passwords.load,
        background=(partial(sweeper.tell_issuer, registry), partial(sweeper.prune, registry)),
        warnings=partial(_warnings, registry),
    )


async def _warnings(registry: Registry) -> list[str]:
    async with registry.runtime.database.connection() as connection:
        fresh, admin_days = await platform.fresh_and_admin_days(connection)
    warnings = []
    if fresh:
        warnings.append("onboarding is not completed: `certwire onboarding complete`")
    if admin_days is None or admin_days <= 0:
        warnings.append("there is no valid administrator: `certwire admin reset`")
    elif admin_days <= WARNING_DAYS:
        warnings.append(f"the administrator's certificate ends in {admin_days} days")
    return warnings
