"""The registry: which command goes to which handler."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from contracts.agents import (
    AuthorizeAgent,
    CancelEnrollmentToken,
    CreateAgent,
    CreateEnrollmentToken,
    DownloadAdminBundle,
    DownloadAgentBundle,
    EnrollAgent,
    GetAuthMode,
    GetMtlsCertificates,
    GetOnboarding,
    GetOwnAgent,
    ListAgents,
    RenewAgent,
    RevokeAgent,
    RotateAdmin,
    SetAllowedSites,
    SetCapabilities,
    UpgradeAdmin,
)
from contracts.api_keys import CreateApiKey, DeleteApiKey, ListApiKeys
from contracts.kek import KEK_COMMANDS
from contracts.messages import Command, Message
from contracts.registry import CompleteOnboarding, LogIn, ResetAdmin, ResolveCredentials
from contracts.subjects import Service
from contracts.users import (
    AddMember,
    CreateOrganization,
    CreateUser,
    DeleteOrganization,
    DeleteUser,
    EndAllSessions,
    EndSession,
    GetMembership,
    GetOrganization,
    GetUser,
    ListMembers,
    ListOrganizations,
    ListUsers,
    RefreshSession,
    RemoveMember,
    UpdateOrganization,
    UpdateUser,
)
from services.registry import sweeper
from services.registry.handlers import (
    administrator,
    agents,
    api_keys,
    credentials,
    enrollment,
    membership,
    onboarding,
    organizations,
    renewal,
    sessions,
    users,
)
from services.registry.service import Registry, Request
from services.registry.settings import RegistrySettings
from services.registry.store import platform
from services.registry.store.sealed import SEALED
from services.registry.store.sessions import Limits
from shared import rewrapping
from shared.runtime import Application, Runtime, bind

WARNING_DAYS: Final = 60
"""`certwire status` warns this long before anything of the platform ends."""
HANDLERS: Final[Mapping[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]]] = {
    ResolveCredentials: credentials.resolve_credentials,
    LogIn: sessions.log_in,
    RefreshSession: sessions.refresh_session,
    EndSession: sessions.end_session,
    EndAllSessions: sessions.end_all_sessions,
    CreateUser: users.create_user,
    ListUsers: users.list_users,
    GetUser: users.get_user,
    UpdateUser: users.update_user,
    DeleteUser: users.delete_user,
    GetMembership: membership.get_membership,
    CreateOrganization: organizations.create_organization,
    ListOrganizations: organizations.list_organizations,
    GetOrganization: organizations.get_organization,
    UpdateOrganization: organizations.update_organization,
    DeleteOrganization: organizations.delete_organization,
    ListMembers: organizations.list_members,
    AddMember: organizations.add_member,
    RemoveMember: organizations.remove_member,
    CreateApiKey: api_keys.create_api_key,
    ListApiKeys: api_keys.list_api_keys,
    DeleteApiKey: api_keys.delete_api_key,
    GetOnboarding: onboarding.get_onboarding,
    CompleteOnboarding: onboarding.complete_onboarding,
    ResetAdmin: administrator.reset_admin,
    RotateAdmin: administrator.rotate_admin,
    UpgradeAdmin: administrator.upgrade_admin,
    DownloadAdminBundle: administrator.download_admin_bundle,
    GetAuthMode: administrator.get_auth_mode,
    GetMtlsCertificates: administrator.get_mtls_certificates,
    CreateAgent: agents.create_agent,
    ListAgents: agents.list_agents,
    DownloadAgentBundle: agents.download_agent_bundle,
    SetCapabilities: agents.set_capabilities,
    SetAllowedSites: agents.set_allowed_sites,
    RevokeAgent: agents.revoke_agent,
    GetOwnAgent: agents.get_own_agent,
    AuthorizeAgent: agents.authorize_agent,
    CreateEnrollmentToken: enrollment.create_enrollment_token,
    CancelEnrollmentToken: enrollment.cancel_enrollment_token,
    EnrollAgent: enrollment.enroll_agent,
    RenewAgent: renewal.renew_agent,
    **rewrapping.handlers(KEK_COMMANDS[Service.REGISTRY], SEALED),
}
DIRECT: Final[frozenset[type[Command[Any]]]] = frozenset({ResolveCredentials, AuthorizeAgent})
"""What is asked with every request of others."""


async def open_registry(settings: RegistrySettings, request: Request | None = None) -> Registry:
    """Return the registry; it sends commands over the bus unless told otherwise."""
    runtime = await Runtime.open(Service.REGISTRY, settings)
    return Registry(
        runtime=runtime,
        request=request or runtime.bus.request,
        sealer=settings.sealer,
        limits=Limits(
            of_user=settings.registry_logins_per_minute,
            of_address=settings.registry_logins_per_minute_of_address,
        ),
        unknown_tokens_per_minute=settings.registry_unknown_tokens_per_minute,
    )


async def build(settings: RegistrySettings) -> Application:
    """Return the registry, ready to run."""
    return application(await open_registry(settings))


def application(registry: Registry) -> Application:
    """Return the application of a registry."""
    return Application(
        registry.runtime,
        bind(HANDLERS, registry),
        direct=DIRECT,
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
