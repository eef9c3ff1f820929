"""Projects, domains, uploads, revocation and removal over the bus, at two replicas."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from contracts.acme import (
    CertificateMaterial,
    CertificateStatus,
    CertificateType,
    CreateProject,
    DeleteProject,
    DownloadCertificate,
    GetHttpChallenge,
    GetPrivateKey,
    GetProject,
    ListDomainCertificates,
    ListOrders,
    ListProjects,
    ObtainCertificate,
    OrderState,
    RemoveCertificate,
    RemoveDomain,
    RenewDomain,
    RenewPublicCertificate,
    RevokePublicCertificate,
    SetDomain,
    UploadCertificate,
    ValidateCertificate,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import ANONYMOUS, Principal, PrincipalKind, Role
from shared import cursors
from tests.contract.acme.dialogue import (
    ADMIN,
    SUPERUSER,
    Dialogue,
    certificate_of,
    http_issuance,
    key_of,
    upload_for,
)
from tests.support.eventually import eventually

Kinds = tuple[type[Command[Any]], ...]
USER = Principal(kind=PrincipalKind.USER, id="2", name="u", role=Role.USER)


async def refused(awaitable: object) -> CertwireError:
    """Return the refusal of what may not be."""
    with pytest.raises(CertwireError) as caught:
        await awaitable  # type: ignore[misc]  # a coroutine of whatever reply
    return caught.value


# --- Projects and domains -----------------------------------------------------------------------


async def test_projects_are_listed_in_pages(acme: Dialogue) -> None:
    for number in range(3):
        await acme.project(f"p{number}", None)
    page = await acme.ask(ListProjects, limit=2)
    assert [project.id for project in page.projects] == ["p0", "p1"]
    rest = await acme.ask(ListProjects, limit=2, cursor=page.next_cursor)
    assert ([project.id for project in rest.projects], rest.next_cursor) == (["p2"], None)


async def test_an_id_is_one_project_s(acme: Dialogue) -> None:
    made = await asyncio.gather(
        *(acme.ask(CreateProject, project_id="shop", name="Shop") for _ in range(8)),
        return_exceptions=True,
    )
    errors = [each for each in made if isinstance(each, CertwireError)]
    assert len(errors) == 7
    assert {error.code for error in errors} == {ErrorCode.ALREADY_EXISTS}


async def test_a_domain_is_one_project_s(acme: Dialogue) -> None:
    for name in "abcd":
        await acme.project(name, None)
    set_at_once = await asyncio.gather(
        *(acme.ask(SetDomain, project_id=name, domain="one.example.com") for name in "abcd"),
        return_exceptions=True,
    )
    errors = [each for each in set_at_once if isinstance(each, CertwireError)]
    assert len(errors) == 3
    assert {error.code for error in errors} == {ErrorCode.CONFLICT}


async def test_a_domain_stays_while_there_is_a_certificate_for_it(acme: Dialogue) -> None:
    await acme.project()
    await acme.obtained()
    other = acme.ask(SetDomain, project_id="shop", domain="other.example.com")
    assert (await refused(other)).code is ErrorCode.CONFLICT
    assert (await refused(acme.ask(RemoveDomain, project_id="shop"))).code is ErrorCode.CONFLICT
    await acme.ask(SetDomain, project_id="shop", domain="shop.example.com")
    await acme.ask(RemoveCertificate, project_id="shop")
    assert (await acme.ask(RemoveDomain, project_id="shop")).domain is None
    again = await refused(acme.ask(RemoveDomain, project_id="shop"))
    assert (again.code, again.detail) == (
        ErrorCode.NOT_FOUND,
        "Project has no domain configured",
    )


async def test_a_project_goes_with_all_that_it_has(acme: Dialogue) -> None:
    await acme.project()
    certificate = await acme.obtained()
    await acme.ask(DeleteProject, project_id="shop")
    assert (await refused(acme.ask(GetProject, project_id="shop"))).code is ErrorCode.NOT_FOUND
    assert await acme.tables.values("SELECT count(*) FROM acme.certificate") == [0]
    [removed, deleted] = (await acme.events())[-2:]
    assert (removed[0], removed[1]["fingerprint"]) == (
        "certificate.removed",
        certificate.fingerprint,
    )
    assert deleted[0] == "project.deleted"
    await acme.project()
    assert await acme.certificate() is None


async def test_without_a_domain_nothing_is_obtained(acme: Dialogue) -> None:
    await acme.project(domain=None)
    error = await refused(acme.begin())
    assert (error.code, error.detail) == (
        ErrorCode.AGAINST_POLICY,
        "Project has no domain configured",
    )


async def test_a_wildcard_is_not_proved_by_http(acme: Dialogue) -> None:
    await acme.project(domain="*.example.com")
    error = await refused(acme.begin())
    assert error.code is ErrorCode.AGAINST_POLICY
    assert "dns-01" in error.detail


# --- Who may ------------------------------------------------------------------------------------


async def test_who_may_what(acme: Dialogue) -> None:
    await acme.project()
    await acme.obtained()
    fields = {"project_id": "shop"}
    for nobody in (ANONYMOUS, ADMIN, USER, key_of(), key_of("keys:read")):
        error = await refused(acme.ask(GetProject, actor=nobody, **fields))
        assert error.code is ErrorCode.FORBIDDEN, nobody
    reader = key_of("projects:read")
    await acme.ask(DownloadCertificate, actor=reader, **fields)
    kinds: Kinds = (GetPrivateKey, RemoveCertificate, RevokePublicCertificate, DeleteProject)
    for kind in kinds:
        error = await refused(acme.ask(kind, actor=reader, **fields))
        assert error.code is ErrorCode.FORBIDDEN, kind
    writer = key_of("projects:read", "projects:write")
    assert (await refused(acme.ask(GetPrivateKey, actor=writer, **fields))).code is (
        ErrorCode.FORBIDDEN
    )
    await acme.ask(GetPrivateKey, actor=SUPERUSER, **fields)
    overview = await refused(acme.ask(ListDomainCertificates, actor=SUPERUSER))
    assert overview.code is ErrorCode.FORBIDDEN
    refusals = [action for action, outcome in await acme.actions() if outcome == "refused"]
    assert {"cert_export_private_key", "cert_remove", "cert_revoke", "project_delete"} <= set(
        refusals
    )


# --- Uploads ------------------------------------------------------------------------------------


async def test_an_upload_takes_its_place_and_is_not_renewed(acme: Dialogue) -> None:
    await acme.project()
    first = await acme.obtained()
    material = upload_for("shop.example.com")
    validation = await acme.ask(ValidateCertificate, project_id="shop", material=material)
    assert (validation.valid, validation.domain) == (True, "shop.example.com")
    uploaded = await acme.ask(UploadCertificate, project_id="shop", material=material)
    assert uploaded.type is CertificateType.CUSTOM
    assert not uploaded.auto_renew
    chain = await acme.ask(DownloadCertificate, project_id="shop")
    served = x509.load_pem_x509_certificates(chain.chain_pem.encode())
    served[0].verify_directly_issued_by(served[1])
    [removed, event] = (await acme.events())[-2:]
    assert (removed[0], removed[1]["fingerprint"]) == ("certificate.removed", first.fingerprint)
    assert (event[0], event[1]["fingerprint"]) == ("certificate.uploaded", uploaded.fingerprint)
    error = await refused(acme.ask(RenewPublicCertificate, project_id="shop"))
    assert error.code is ErrorCode.AGAINST_POLICY
    error = await refused(acme.ask(RenewDomain, domain="shop.example.com", actor=ADMIN))
    assert error.code is ErrorCode.NOT_FOUND
    obtained = await acme.obtained()
    assert obtained.type is CertificateType.LETSENCRYPT


async def test_an_upload_for_another_domain_is_refused_in_the_specified_words(
    acme: Dialogue,
) -> None:
    await acme.project(domain="api.example.com")
    material = upload_for("shop.example.com")
    error = await refused(acme.ask(UploadCertificate, project_id="shop", material=material))
    assert (error.code, error.detail) == (
        ErrorCode.INVALID_CERTIFICATE,
        "Certificate is not valid for domain api.example.com",
    )
    other = CertificateMaterial(
        certificate=material.certificate, private_key=upload_for("api.example.com").private_key
    )
    validation = await acme.ask(ValidateCertificate, project_id="shop", material=other)
    assert (validation.valid, validation.error) == (
        False,
        "Certificate and private key do not match",
    )


# --- Revocation and removal ---------------------------------------------------------------------


async def test_revocation_is_the_ca_s_and_stays(acme: Dialogue) -> None:
    await acme.project()
    certificate = await acme.obtained()
    await acme.ask(RevokePublicCertificate, project_id="shop")
    assert acme.authority.status(int(certificate.serial_hex, 16))["Status"] == "Revoked"
    found = await acme.certificate()
    assert found is not None
    assert (found.status, found.auto_renew) == (CertificateStatus.REVOKED, False)
    assert (await acme.events())[-1][0] == "certificate.revoked"
    kinds: Kinds = (RevokePublicCertificate, RenewPublicCertificate)
    for kind in kinds:
        error = await refused(acme.ask(kind, project_id="shop"))
        assert (error.code, error.detail) == (
            ErrorCode.ALREADY_REVOKED,
            "Certificate is already revoked",
        )
    page = await acme.ask(ListDomainCertificates, actor=ADMIN)
    assert page.certificates == ()
    error = await refused(acme.ask(RenewDomain, domain="shop.example.com", actor=ADMIN))
    assert error.code is ErrorCode.NOT_FOUND, "as it is not listed"
    assert (await acme.obtained()).status is CertificateStatus.VALID


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
async def test_a_certificate_whose_account_is_forgotten_is_revoked_by_its_own_key(
    acme: Dialogue, key_type: str
) -> None:
    await acme.project()
    certificate = await acme.obtained(key_type=key_type)
    await acme.tables.run("UPDATE acme.account SET url = NULL")
    await acme.ask(RevokePublicCertificate, project_id="shop")
    assert acme.authority.status(int(certificate.serial_hex, 16))["Status"] == "Revoked"
    assert await acme.tables.values("SELECT url FROM acme.account") == [None]


async def test_a_revocation_is_repeated_under_its_key(acme: Dialogue) -> None:
    await acme.project()
    await acme.obtained()
    for _ in range(2):
        await acme.ask(RevokePublicCertificate, project_id="shop", key="once")


async def test_of_many_revocations_one_counts(acme: Dialogue) -> None:
    await acme.project()
    await acme.obtained()
    outcomes = await asyncio.gather(
        *(acme.ask(RevokePublicCertificate, project_id="shop") for _ in range(6)),
        return_exceptions=True,
    )
    errors = [each for each in outcomes if isinstance(each, CertwireError)]
    assert len(errors) == 5
    assert {error.code for error in errors} == {ErrorCode.ALREADY_REVOKED}
    assert [name for name, _ in await acme.events()].count("certificate.revoked") == 1


async def test_a_revocation_at_the_ca_is_told_whatever_became_of_the_certificate(
    acme: Dialogue,
) -> None:
    await acme.project()
    certificate = await acme.obtained()

    async def is_revoked() -> bool:
        status = acme.authority.status(int(certificate.serial_hex, 16))
        return bool(status["Status"] == "Revoked")

    async with acme.tables.locked("acme.project"):
        revoking = asyncio.create_task(acme.ask(RevokePublicCertificate, project_id="shop"))
        await eventually(is_revoked, "the CA has revoked it")
        await acme.tables.run("DELETE FROM acme.certificate")
    await revoking
    name, event = (await acme.events())[-1]
    assert (name, event["fingerprint"]) == ("certificate.revoked", certificate.fingerprint)
    assert "cert_revoke" in {action for action, _ in await acme.actions()}


async def test_what_needs_a_certificate_says_so(acme: Dialogue) -> None:
    await acme.project()
    kinds: Kinds = (
        RenewPublicCertificate,
        RevokePublicCertificate,
        RemoveCertificate,
        DownloadCertificate,
    )
    for kind in kinds:
        error = await refused(acme.ask(kind, project_id="shop"))
        assert (error.code, error.detail) == (ErrorCode.NOT_FOUND, "No certificate found")
    error = await refused(acme.ask(RenewPublicCertificate, project_id="nothing"))
    assert error.detail == "Project not found"


# --- Orders -------------------------------------------------------------------------------------


async def test_while_an_order_goes_on_nothing_else_changes(acme: Dialogue) -> None:
    await acme.project()
    material = upload_for("shop.example.com")
    async with acme.tables.locked("acme.http_challenge"):
        order = await acme.begin()
        outcomes = [
            await refused(acme.ask(SetDomain, project_id="shop", domain="b.example.com")),
            await refused(acme.ask(UploadCertificate, project_id="shop", material=material)),
            await refused(acme.ask(DeleteProject, project_id="shop")),
        ]
    assert {error.code for error in outcomes} == {ErrorCode.CONFLICT}
    certificate_of(await acme.ended(order.id))


async def test_an_obtain_is_repeated_under_its_key_unless_it_failed(acme: Dialogue) -> None:
    await acme.project()
    acme.names.set_a("shop.example.com", "127.0.0.2")
    fields = {"project_id": "shop", "issuance": http_issuance()}
    first = await acme.ask(ObtainCertificate, key="k", **fields)
    assert (await acme.ended(first.id)).state is OrderState.FAILED
    acme.names.clear_a("shop.example.com")
    second = await acme.ask(ObtainCertificate, key="k", **fields)
    assert second.id != first.id
    certificate_of(await acme.ended(second.id))
    third = await acme.ask(ObtainCertificate, key="k", **fields)
    assert third.id == second.id
    orders = await acme.ask(ListOrders, project_id="shop")
    assert [order.id for order in orders.orders] == [second.id, first.id]


async def test_who_joins_an_order_that_fails_may_ask_again_as_well(acme: Dialogue) -> None:
    await acme.project()
    acme.names.set_a("shop.example.com", "127.0.0.2")
    fields = {"project_id": "shop", "issuance": http_issuance()}
    async with acme.tables.locked("acme.http_challenge"):
        first = await acme.ask(ObtainCertificate, key="first", **fields)
        second = await acme.ask(ObtainCertificate, key="second", **fields)
        assert second.id == first.id
    assert (await acme.ended(first.id)).state is OrderState.FAILED
    acme.names.clear_a("shop.example.com")
    again = await acme.ask(ObtainCertificate, key="second", **fields)
    assert again.id != first.id
    joined = await acme.ask(ObtainCertificate, key="first", **fields)
    assert joined.id == again.id
    certificate_of(await acme.ended(again.id))
    for key in ("first", "second"):
        assert (await acme.ask(ObtainCertificate, key=key, **fields)).id == again.id
    assert len((await acme.ask(ListOrders, project_id="shop")).orders) == 2


async def test_the_administrator_lists_those_first_that_end_first(acme: Dialogue) -> None:
    names = ("a", "b", "c")
    for name in names:
        await acme.project(name, f"{name}.example.com")
        await acme.obtained(name)
    for name, days in (("a", 9), ("b", 3), ("c", 3)):
        await acme.tables.run(
            "UPDATE acme.certificate SET not_after = date_trunc('day', now()) + $2::interval"
            " WHERE project_id = $1",
            name,
            timedelta(days=days),
        )
    seen: list[str] = []
    page = await acme.ask(ListDomainCertificates, actor=ADMIN, limit=1)
    while page.next_cursor is not None:
        seen += [each.domain for each in page.certificates]
        page = await acme.ask(ListDomainCertificates, actor=ADMIN, limit=1, cursor=page.next_cursor)
    seen += [each.domain for each in page.certificates]
    assert seen == ["b.example.com", "c.example.com", "a.example.com"]
    farthest = cursors.encode_all(2**63 - 1, 2**63 - 1)
    page = await acme.ask(ListDomainCertificates, actor=ADMIN, cursor=farthest)
    assert page.certificates == ()
    another_lists = acme.ask(ListDomainCertificates, actor=ADMIN, cursor=cursors.encode(1))
    assert (await refused(another_lists)).code is ErrorCode.INVALID_REQUEST


async def test_the_administrator_renews_by_name(acme: Dialogue) -> None:
    await acme.project()
    first = await acme.obtained()
    begun = await acme.ask(RenewDomain, domain="shop.example.com", actor=ADMIN)
    second = certificate_of(await acme.ended(begun.id))
    assert second.fingerprint != first.fingerprint
    [listed] = (await acme.ask(ListDomainCertificates, actor=ADMIN)).certificates
    assert listed.domain == "shop.example.com"
    assert listed.path.endswith("live/shop.example.com/fullchain.pem")
    assert listed.expires_at - second.expires_at < timedelta(seconds=1)
    error = await refused(acme.ask(RenewDomain, domain="none.example.com", actor=ADMIN))
    assert error.code is ErrorCode.NOT_FOUND


async def test_a_staging_certificate_is_shown_until_there_is_another(acme: Dialogue) -> None:
    await acme.project()
    assert (await acme.obtained(staging=True)).staging
    found = await acme.certificate()
    assert found is not None
    assert found.staging
    assert [name for name, _ in await acme.events() if name.startswith("certificate")] == []
    live = await acme.obtained()
    assert not live.staging
    await acme.obtained(staging=True)
    assert await acme.certificate() == live
    assert await acme.tables.values("SELECT staging FROM acme.certificate") == [False]


async def test_nobody_s_token_is_not_found(acme: Dialogue) -> None:
    error = await refused(acme.ask(GetHttpChallenge, token="x" * 43))
    assert error.code is ErrorCode.NOT_FOUND
