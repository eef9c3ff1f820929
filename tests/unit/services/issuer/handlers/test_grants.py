"""Grants on CAs, on a real database."""

from typing import Any

from contracts.errors import ErrorCode
from contracts.pki import Capability, DeleteGrant, GetCaPrivateKey, ListGrants, PutGrant
from contracts.principal import Principal
from services.issuer.service import Issuer
from tests.unit.services.issuer.conftest import Records
from tests.unit.services.issuer.users import (
    ADMIN,
    MAKER,
    MEMBER,
    ORGANIZATION,
    OTHER,
    STRANGER,
    SUPERUSER,
    UNATTACHED,
    about,
    ask,
    made,
    refusal,
)


def put(
    ca: Any,  # noqa: ANN401 - a CA or its id
    *capabilities: Capability,
    actor: Principal = ADMIN,
    user_id: int = int(MEMBER.id),
    organization: int | None = ORGANIZATION,
) -> PutGrant:
    command: PutGrant = about(
        PutGrant,
        ca,
        actor,
        user_id=user_id,
        user_organization_id=organization,
        capabilities=capabilities,
    )
    return command


async def test_what_is_granted_is_allowed_until_it_is_taken_back(
    issuer: Issuer, records: Records
) -> None:
    root = await made(issuer)
    other = await made(issuer, "Other")
    export = about(GetCaPrivateKey, root, MEMBER)
    assert await refusal(issuer, export) is ErrorCode.FORBIDDEN
    grant = await ask(issuer, put(root, Capability.EXPORT_PRIVATE_KEY, Capability.DELETE_CA))
    assert grant.capabilities == (Capability.DELETE_CA, Capability.EXPORT_PRIVATE_KEY)
    assert (await ask(issuer, export)).private_key_pem
    assert await refusal(issuer, about(GetCaPrivateKey, other, MEMBER)) is ErrorCode.FORBIDDEN
    less = await ask(issuer, put(root, Capability.DELETE_CA))
    assert (less.capabilities, less.created_at) == ((Capability.DELETE_CA,), grant.created_at)
    assert await refusal(issuer, export) is ErrorCode.FORBIDDEN
    (listed,) = (await ask(issuer, about(ListGrants, root))).grants
    assert listed == less
    delete = about(DeleteGrant, root, user_id=int(MEMBER.id))
    await ask(issuer, delete)
    assert await refusal(issuer, delete) is ErrorCode.NOT_FOUND
    assert (await ask(issuer, about(ListGrants, root))).grants == ()
    (first, _), (second, _) = await records.outbox("ca_grant_put")
    assert first["detail"] == {"user_id": 4, "capabilities": ["delete_ca", "export_private_key"]}
    assert second["object"]["id"] == str(root.id)
    assert len(await records.outbox("ca_grant_delete")) == 1


async def test_only_users_of_the_same_organization(issuer: Issuer) -> None:
    root = await made(issuer)
    for organization in (OTHER, None):
        foreign = put(root, Capability.DELETE_CA, user_id=99, organization=organization)
        assert await refusal(issuer, foreign) is ErrorCode.NOT_FOUND
    unowned = await made(issuer, "Own", actor=UNATTACHED)
    command = put(unowned, Capability.DELETE_CA, actor=UNATTACHED, organization=None)
    assert await refusal(issuer, command) is ErrorCode.NOT_FOUND


async def test_who_may_grant(issuer: Issuer) -> None:
    root = await made(issuer, actor=MAKER)
    for actor in (SUPERUSER, ADMIN, MAKER):
        await ask(issuer, put(root, Capability.DELETE_CA, actor=actor))
        assert len((await ask(issuer, about(ListGrants, root, actor))).grants) == 1
        await ask(issuer, about(DeleteGrant, root, actor, user_id=int(MEMBER.id)))
    for actor in (MEMBER, STRANGER, UNATTACHED):
        command = put(root, Capability.DELETE_CA, actor=actor)
        assert await refusal(issuer, command) is ErrorCode.FORBIDDEN
        assert await refusal(issuer, about(ListGrants, root, actor)) is ErrorCode.FORBIDDEN
        delete = about(DeleteGrant, root, actor, user_id=int(MEMBER.id))
        assert await refusal(issuer, delete) is ErrorCode.FORBIDDEN
    assert await refusal(issuer, put(99, Capability.DELETE_CA)) is ErrorCode.NOT_FOUND


async def test_a_grant_to_grant_is_none(issuer: Issuer) -> None:
    root = await made(issuer)
    await ask(issuer, put(root, *Capability))
    assert await refusal(issuer, put(root, *Capability, actor=MEMBER)) is ErrorCode.FORBIDDEN
