"""Certificates of users, on a real database."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.certificates import CertificateKind, RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, IdempotencyKey
from contracts.pki import (
    Capability,
    CertificateStatus,
    CertificateView,
    DeleteCa,
    GetCertificate,
    GetCertificateChain,
    GetCertificatePrivateKey,
    KeyType,
    ListCertificates,
    PutGrant,
    RetireCa,
    RevokeCertificate,
)
from contracts.principal import Principal
from services.issuer.handlers.cas import delete_ca, retire_ca
from services.issuer.handlers.certificates import (
    create_certificate,
    get_certificate,
    get_certificate_chain,
    get_certificate_private_key,
    list_certificates,
    revoke_certificate,
    sign_csr,
)
from services.issuer.handlers.grants import put_grant
from services.issuer.handlers.platform import sign_instance_certificate
from services.issuer.service import Issuer
from services.issuer.store import cas
from shared.idempotency import AnsweredBefore
from tests.support.csr import new_key
from tests.support.plans import plan_of
from tests.support.running import call
from tests.unit.services.issuer.builders import PUBLIC_URL, order
from tests.unit.services.issuer.conftest import Records
from tests.unit.services.issuer.user_certificates import (
    a_ca,
    alternative_names,
    creation,
    csr_of,
    loaded,
    signing,
)
from tests.unit.services.issuer.users import (
    ADMIN,
    MEMBER,
    ORGANIZATION,
    STRANGER,
    SUPERUSER,
    user,
)

SIGNER = user(10, "create_cert")


def refused(code: ErrorCode, match: str = "") -> Any:  # noqa: ANN401 - pytest's own
    return pytest.raises(CertwireError, match=f"{code}.*{match}")


def under_key(key: str = "k", request: str = "1" * 64) -> Call:
    idempotency = IdempotencyKey(scope="0" * 64, key=key, request=request)
    return call().model_copy(update={"idempotency": idempotency})


def revocation(
    certificate: CertificateView, actor: Principal = ADMIN, reason: str | None = None
) -> RevokeCertificate:
    return RevokeCertificate(call=call(), actor=actor, certificate_id=certificate.id, reason=reason)


async def seen(issuer: Issuer, certificate_id: int, actor: Principal = ADMIN) -> CertificateView:
    command = GetCertificate(call=call(), actor=actor, certificate_id=certificate_id)
    return await get_certificate(command, issuer)


async def ids(issuer: Issuer, actor: Principal, **page: int) -> list[int]:
    """Return the certificates in a list, those of the platform left out."""
    listed = await list_certificates(ListCertificates(call=call(), actor=actor, **page), issuer)
    certificates = listed.certificates
    return [view.id for view in certificates if view.organization_id is not None]


# --- Signing CSRs --------------------------------------------------------------------------------


async def test_signs_what_the_csr_says(issuer: Issuer, records: Records) -> None:
    ca, key = await a_ca(issuer), new_key()
    command = signing(ca, csr_pem=csr_of(key=key))
    view = await sign_csr(command, issuer)
    certificate = loaded(view.certificate_pem)
    certificate.verify_directly_issued_by(loaded(ca.certificate_pem))
    assert certificate.public_key() == key.public_key()
    assert view.subject_dn == "CN=api.example.com,O=Acme Corp,C=US"
    assert alternative_names(view.certificate_pem) == ["api.example.com"]
    assert (view.key_type, view.key_size, view.valid_days) == (KeyType.EC, 256, 365)
    assert (view.issuer_id, view.organization_id) == (ca.id, ORGANIZATION)
    assert str(view.created_by_user_id) == ADMIN.id
    assert await seen(issuer, view.id) == view
    ((entry, event),) = [
        (entry, event)
        for entry, event in await records.outbox("cert_create")
        if event["kind"] == "server"
    ]
    assert entry["object"] == {
        "type": "certificate",
        "id": str(view.id),
        "name": view.subject_dn,
        "organization_id": ORGANIZATION,
    }
    assert entry["actor"]["id"] == ADMIN.id
    assert event["subject"] == view.subject_dn
    assert event["owner"] == str(view.id)
    assert event["fingerprint"] == view.fingerprint


async def test_what_is_said_goes_before_the_csr(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    names = x509.SubjectAlternativeName([x509.DNSName("a.example.com")])
    command = signing(
        ca,
        csr_pem=csr_of("CN=a.example.com,O=Acme", names),
        common_name="b.example.com",
        san_dns_names=("b.example.com", "C.example.com"),
        san_ip_addresses=("10.0.0.42",),
        valid_days=10,
    )
    view = await sign_csr(command, issuer)
    assert view.subject_dn == "CN=b.example.com,O=Acme"
    assert alternative_names(view.certificate_pem) == [
        "b.example.com",
        "c.example.com",
        "10.0.0.42",
    ]
    assert view.valid_days == 10


async def test_finds_the_ca_by_its_name_in_the_organisation(issuer: Issuer) -> None:
    ca = await a_ca(issuer, "Acme Issuing CA")
    other = await a_ca(issuer, "Acme Issuing CA", actor=STRANGER)
    view = await sign_csr(signing(actor=SIGNER, ca_name="Acme Issuing CA"), issuer)
    assert view.issuer_id == ca.id
    view = await sign_csr(signing(actor=STRANGER, ca_name="Acme Issuing CA"), issuer)
    assert view.issuer_id == other.id
    with refused(ErrorCode.CONFLICT, "ca_id"):
        await sign_csr(signing(actor=SUPERUSER, ca_name="Acme Issuing CA"), issuer)
    with refused(ErrorCode.NOT_FOUND):
        await sign_csr(signing(actor=SUPERUSER, ca_name="acme issuing ca"), issuer)
    await delete_ca(DeleteCa(call=call(), actor=STRANGER, ca_id=other.id), issuer)
    view = await sign_csr(signing(actor=SUPERUSER, ca_name="Acme Issuing CA"), issuer)
    assert view.issuer_id == ca.id


async def test_who_may_have_something_signed(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    for actor in (ADMIN, SIGNER, SUPERUSER):
        await sign_csr(signing(ca, actor), issuer)
    for actor in (MEMBER, STRANGER):
        with refused(ErrorCode.FORBIDDEN):
            await sign_csr(signing(ca, actor), issuer)
    grant = PutGrant(
        call=call(),
        actor=ADMIN,
        ca_id=ca.id,
        user_id=int(MEMBER.id),
        user_organization_id=ORGANIZATION,
        capabilities=(Capability.CREATE_CERT,),
    )
    await put_grant(grant, issuer)
    assert (await sign_csr(signing(ca, MEMBER), issuer)).issuer_id == ca.id


async def test_what_signs_nothing(issuer: Issuer) -> None:
    root = await a_ca(issuer, path_length=0)
    with refused(ErrorCode.AGAINST_POLICY, "path length"):
        await sign_csr(signing(root, certificate_type=CertificateKind.CA), issuer)
    closed = await a_ca(issuer, "Closed", allow_leaf_certs=False)
    with refused(ErrorCode.AGAINST_POLICY, "leaf"):
        await sign_csr(signing(closed), issuer)
    await retire_ca(RetireCa(call=call(), actor=ADMIN, ca_id=root.id), issuer)
    with refused(ErrorCode.CONFLICT):
        await sign_csr(signing(root), issuer)
    await delete_ca(DeleteCa(call=call(), actor=ADMIN, ca_id=root.id), issuer)
    with refused(ErrorCode.NOT_FOUND):
        await sign_csr(signing(root), issuer)
    platform = issuer.authorities.signing()[0]
    with refused(ErrorCode.FORBIDDEN):
        await sign_csr(signing(ca_id=platform.id), issuer)
    with refused(ErrorCode.CONFLICT):
        await sign_csr(signing(ca_id=platform.id, actor=SUPERUSER), issuer)


async def test_names_outside_the_ca_s_constraints_are_refused(issuer: Issuer) -> None:
    ca = await a_ca(issuer, name_constraints={"permitted_dns_names": ["example.com"]})
    await sign_csr(signing(ca), issuer)
    with refused(ErrorCode.AGAINST_POLICY, "example.org"):
        await sign_csr(signing(ca, common_name="www.example.org"), issuer)


async def test_outlives_no_ca_and_points_to_it(issuer: Issuer) -> None:
    ca = await a_ca(issuer, valid_days=10, crl_base_url="http://crl.example.org")
    certificate = loaded((await sign_csr(signing(ca), issuer)).certificate_pem)
    assert certificate.not_valid_after_utc == loaded(ca.certificate_pem).not_valid_after_utc
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [uri.value for uri in points[0].full_name or ()] == [
        f"http://crl.example.org/crl/{ca.slug}"
    ]
    other = await a_ca(issuer, "Other")
    certificate = loaded((await sign_csr(signing(other), issuer)).certificate_pem)
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [uri.value for uri in points[0].full_name or ()] == [f"{PUBLIC_URL}/crl/{other.slug}"]


async def test_a_ca_of_somebody_else_s_key_has_room_below_it_counted(issuer: Issuer) -> None:
    ca = await a_ca(issuer, path_length=3)
    view = await sign_csr(
        signing(ca, csr_pem=csr_of("CN=Partner CA"), certificate_type=CertificateKind.CA), issuer
    )
    constraints = loaded(view.certificate_pem).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert (constraints.value.ca, constraints.value.path_length) == (True, 2)


async def test_many_at_once_are_signed_once_each(issuer: Issuer, records: Records) -> None:
    ca = await a_ca(issuer)
    views = await asyncio.gather(*(sign_csr(signing(ca), issuer) for _ in range(100)))
    assert len({view.id for view in views}) == len({view.serial_hex for view in views}) == 100
    rows = await records.rows("SELECT id FROM certificate WHERE kind = 'server'")
    assert {row["id"] for row in rows} == {view.id for view in views}
    told = [entry["object"]["id"] for entry, _ in await records.outbox("cert_create")]
    assert Counter(told) >= Counter(str(view.id) for view in views)


# --- Idempotency-Key -----------------------------------------------------------------------------


async def test_under_a_key_a_csr_is_signed_once(issuer: Issuer, records: Records) -> None:
    ca = await a_ca(issuer)
    command = signing(ca, call=under_key())
    ends = await asyncio.gather(
        *(sign_csr(command, issuer) for _ in range(10)), return_exceptions=True
    )
    (view,) = [end for end in ends if isinstance(end, CertificateView)]
    repeats = [end for end in ends if isinstance(end, AnsweredBefore)]
    assert len(repeats) == 9
    assert {CertificateView.model_validate_json(end.reply).id for end in repeats} == {view.id}
    assert len(await records.rows("SELECT 1 FROM certificate WHERE kind = 'server'")) == 1
    with refused(ErrorCode.IDEMPOTENCY_KEY_REUSED):
        await sign_csr(signing(ca, call=under_key(request="2" * 64)), issuer)


async def test_a_refusal_leaves_the_key_free(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    with refused(ErrorCode.FORBIDDEN):
        await sign_csr(signing(ca, MEMBER, call=under_key()), issuer)
    assert (await sign_csr(signing(ca, call=under_key()), issuer)).id


async def test_a_private_key_is_not_kept_for_repeats(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    command = creation(ca, call=under_key())
    await create_certificate(command, issuer)
    with refused(ErrorCode.IDEMPOTENCY_SECRET_SHOWN):
        await create_certificate(command, issuer)
    command = creation(ca, call=under_key("other"), include_private_key=False)
    made = await create_certificate(command, issuer)
    with pytest.raises(AnsweredBefore) as repeated:
        await create_certificate(command, issuer)
    assert type(made).model_validate_json(repeated.value.reply) == made


# --- Making keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_type", "key_size", "size"),
    [
        (KeyType.EC, None, 256),
        (KeyType.EC, 384, 384),
        (KeyType.ED25519, None, 256),
        (KeyType.RSA, None, 2048),
    ],
)
async def test_makes_key_and_certificate(
    issuer: Issuer, key_type: KeyType, key_size: int | None, size: int
) -> None:
    ca = await a_ca(issuer)
    made = await create_certificate(creation(ca, key_type=key_type, key_size=key_size), issuer)
    assert (made.certificate.key_type, made.certificate.key_size) == (key_type, size)
    assert made.private_key_pem is not None
    key = load_pem_private_key(made.private_key_pem.encode(), None)
    assert key.public_key() == loaded(made.certificate.certificate_pem).public_key()
    usage = loaded(made.certificate.certificate_pem).extensions.get_extension_for_class(
        x509.KeyUsage
    )
    assert usage.value.key_encipherment == (key_type is KeyType.RSA)


async def test_a_private_key_is_kept_sealed_and_shown_to_who_may(
    issuer: Issuer, records: Records
) -> None:
    ca = await a_ca(issuer)
    made = await create_certificate(creation(ca, SIGNER), issuer)
    (row,) = await records.rows("SELECT fingerprint, sealed_key FROM certificate_key")
    assert row["fingerprint"] == made.certificate.fingerprint
    assert made.private_key_pem not in row["sealed_key"].decode("latin-1")
    command = GetCertificatePrivateKey(
        call=call(), actor=SIGNER, certificate_id=made.certificate.id
    )
    assert await get_certificate_private_key(command, issuer) == made
    exporter = user(11, "export_private_key")
    await get_certificate_private_key(command.model_copy(update={"actor": exporter}), issuer)
    for actor in (MEMBER, STRANGER):
        with refused(ErrorCode.FORBIDDEN):
            await get_certificate_private_key(command.model_copy(update={"actor": actor}), issuer)
    told = [entry for entry, _ in await records.outbox("cert_export_private_key")]
    assert [entry["actor"]["id"] for entry in told] == ["10", "11"]
    assert {entry["object"]["id"] for entry in told} == {str(made.certificate.id)}


async def test_without_a_key_in_store_there_is_none_to_be_had(
    issuer: Issuer, records: Records
) -> None:
    ca = await a_ca(issuer)
    made = await create_certificate(creation(ca, include_private_key=False), issuer)
    assert made.private_key_pem is None
    assert not await records.rows("SELECT 1 FROM certificate_key")
    signed = await sign_csr(signing(ca), issuer)
    for view in (made.certificate, signed):
        command = GetCertificatePrivateKey(call=call(), actor=ADMIN, certificate_id=view.id)
        with refused(ErrorCode.NOT_FOUND):
            await get_certificate_private_key(command, issuer)


async def test_who_may_not_makes_no_key(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = await a_ca(issuer)
    monkeypatch.setattr(type(issuer.keys), "take", None)
    with refused(ErrorCode.FORBIDDEN):
        await create_certificate(creation(ca, MEMBER), issuer)
    with refused(ErrorCode.AGAINST_POLICY):
        await create_certificate(creation(ca, san_email_addresses=("a@example.com",)), issuer)


# --- Looking at them -----------------------------------------------------------------------------


async def test_each_sees_what_is_theirs(issuer: Issuer) -> None:
    ours, theirs = await a_ca(issuer), await a_ca(issuer, "Other", actor=STRANGER)
    mine = await sign_csr(signing(ours), issuer)
    other = await sign_csr(signing(theirs, STRANGER), issuer)
    alone = user(12, organization=None)
    for actor, visible in (
        (SUPERUSER, [mine.id, other.id]),
        (ADMIN, [mine.id]),
        (MEMBER, [mine.id]),
        (STRANGER, [other.id]),
        (alone, []),
    ):
        assert await ids(issuer, actor) == visible
        assert await ids(issuer, actor, ca_id=theirs.id) == [
            one for one in visible if one == other.id
        ]
        for certificate_id in (mine.id, other.id):
            if certificate_id in visible:
                assert (await seen(issuer, certificate_id, actor)).id == certificate_id
            else:
                with refused(ErrorCode.FORBIDDEN):
                    await seen(issuer, certificate_id, actor)
    with refused(ErrorCode.NOT_FOUND):
        await seen(issuer, 10_000, SUPERUSER)


async def test_who_left_an_organisation_still_sees_what_they_made(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    mine = await sign_csr(signing(ca, SIGNER), issuer)
    await sign_csr(signing(ca), issuer)
    assert await ids(issuer, user(10, organization=None)) == [mine.id]


async def test_lists_page_by_page(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    made = [(await sign_csr(signing(ca), issuer)).id for _ in range(5)]
    for actor, ca_id in ((SUPERUSER, ca.id), (MEMBER, ca.id), (MEMBER, None)):
        for skip in range(6):
            page = {"skip": skip, "limit": 2} | ({"ca_id": ca_id} if ca_id else {})
            assert await ids(issuer, actor, **page) == made[skip : skip + 2]


async def test_a_chain_ends_at_the_root(issuer: Issuer) -> None:
    root = await a_ca(issuer)
    issuing = await a_ca(issuer, "Acme Issuing", parent_ca_id=root.id)
    view = await sign_csr(signing(issuing), issuer)
    command = GetCertificateChain(call=call(), actor=ADMIN, certificate_id=view.id)
    chain = (await get_certificate_chain(command, issuer)).certificates_pem
    assert chain == (view.certificate_pem, issuing.certificate_pem, root.certificate_pem)


# --- Revoking ------------------------------------------------------------------------------------


async def test_revokes_once(issuer: Issuer, records: Records) -> None:
    ca = await a_ca(issuer)
    view = await sign_csr(signing(ca), issuer)
    command = revocation(view, reason="Key compromise")
    ends = await asyncio.gather(
        *(revoke_certificate(command, issuer) for _ in range(20)), return_exceptions=True
    )
    (revoked,) = [end for end in ends if isinstance(end, CertificateView)]
    codes = Counter(end.code for end in ends if isinstance(end, CertwireError))
    assert codes == {ErrorCode.ALREADY_REVOKED: 19}
    assert revoked.status is CertificateStatus.REVOKED
    assert revoked.revocation_reason is RevocationReason.KEY_COMPROMISE
    assert revoked.revocation_detail == "Key compromise"
    assert revoked.revoked_at is not None
    assert await seen(issuer, view.id) == revoked
    ((entry, event),) = await records.outbox("cert_revoke")
    assert (entry["actor"]["id"], entry["object"]["id"]) == (ADMIN.id, str(view.id))
    assert entry["object"]["organization_id"] == ORGANIZATION
    assert entry["detail"]["detail"] == "Key compromise"
    assert event["subject"] == view.subject_dn
    assert event["reason"] == "key_compromise"
    (waiting,) = await records.rows("SELECT ca_id, serial_hex FROM crl_waiting")
    assert (waiting["ca_id"], waiting["serial_hex"]) == (ca.id, view.serial_hex)


async def test_who_may_revoke(issuer: Issuer) -> None:
    ca = await a_ca(issuer)
    view = await sign_csr(signing(ca, SIGNER), issuer)
    for actor in (MEMBER, STRANGER, user(13, "create_cert")):
        with refused(ErrorCode.FORBIDDEN):
            await revoke_certificate(revocation(view, actor), issuer)
    revoked = await revoke_certificate(revocation(view, user(14, "revoke_cert")), issuer)
    assert (revoked.revocation_reason, revoked.revocation_detail) == (
        RevocationReason.UNSPECIFIED,
        None,
    )
    own = await sign_csr(signing(ca, SIGNER), issuer)
    assert (await revoke_certificate(revocation(own, SIGNER), issuer)).revoked_at


async def test_the_platform_s_certificates_are_revoked_elsewhere(
    issuer: Issuer, records: Records
) -> None:
    await sign_instance_certificate(order(), issuer)
    for row in await records.rows("SELECT id, kind FROM certificate"):
        command = RevokeCertificate(call=call(), actor=SUPERUSER, certificate_id=row["id"])
        with refused(ErrorCode.OWNED_ELSEWHERE, "certificate of"):
            await revoke_certificate(command, issuer)
        with refused(ErrorCode.FORBIDDEN):
            await revoke_certificate(command.model_copy(update={"actor": ADMIN}), issuer)


async def test_a_ca_whose_certificate_is_revoked_signs_nothing(
    issuer: Issuer, records: Records
) -> None:
    root = await a_ca(issuer)
    issuing = await a_ca(issuer, "Acme Issuing", parent_ca_id=root.id)
    (row,) = await records.rows("SELECT id FROM certificate WHERE for_ca_id = $1", issuing.id)
    command = RevokeCertificate(call=call(), actor=ADMIN, certificate_id=row["id"])
    with refused(ErrorCode.FORBIDDEN):
        revoker = user(14, "revoke_cert")
        await revoke_certificate(command.model_copy(update={"actor": revoker}), issuer)
    assert (await revoke_certificate(command, issuer)).revoked_at
    with refused(ErrorCode.CONFLICT):
        await sign_csr(signing(issuing), issuer)
    ((entry, event),) = await records.outbox("ca_retire")
    assert (entry["actor"]["id"], event["ca"]) == (ADMIN.id, issuing.slug)
    (row,) = await records.rows("SELECT id FROM certificate WHERE for_ca_id = $1", root.id)
    with refused(ErrorCode.CONFLICT, "root"):
        command = RevokeCertificate(call=call(), actor=ADMIN, certificate_id=row["id"])
        await revoke_certificate(command, issuer)
    assert not await ids(issuer, SUPERUSER)


async def test_to_revoke_its_certificate_brings_no_ca_back(
    issuer: Issuer, records: Records
) -> None:
    root = await a_ca(issuer)
    gone = await a_ca(issuer, "Acme Issuing", parent_ca_id=root.id)
    await delete_ca(DeleteCa(call=call(), actor=ADMIN, ca_id=gone.id), issuer)
    (row,) = await records.rows("SELECT id FROM certificate WHERE for_ca_id = $1", gone.id)
    command = RevokeCertificate(call=call(), actor=ADMIN, certificate_id=row["id"])
    assert (await revoke_certificate(command, issuer)).revoked_at
    (row,) = await records.rows("SELECT state FROM ca WHERE id = $1", gone.id)
    assert row["state"] == "deleted"


async def test_a_ca_is_found_among_ten_thousand(issuer: Issuer) -> None:
    async with issuer.runtime.database.connection() as connection:
        await connection.execute(_MANY_CAS)
        for visits in (
            [[1] * 32, [5_000] * 32, [None] * 32, [False] * 32, [1] * 32],
            [[1] * 32, [None] * 32, ["CA 77"] * 32, [True] * 32, [None] * 32],
        ):
            plan = await plan_of(connection, cas._VISIT, *visits)
            assert not plan.read_whole
            assert plan.rows_read <= 32 * 10


_MANY_CAS = """
INSERT INTO ca (name, slug, kind, subject, certificate, fingerprint, not_before, not_after,
    sealed_key, organization_id, created_by_user_id)
SELECT 'CA ' || n % 5000, 'slug-' || n, 'user', '', '', md5(n::text), now(), now(), '', n % 50,
    n % 500
FROM generate_series(1, 10000) AS n
"""


async def test_status_is_that_of_now(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = await a_ca(issuer)
    view = await sign_csr(signing(ca, valid_days=1), issuer)
    later = view.not_after + timedelta(seconds=1)
    monkeypatch.setattr("services.issuer.handlers.certificates.utc_now", lambda: later)
    assert (await seen(issuer, view.id)).status is CertificateStatus.EXPIRED
