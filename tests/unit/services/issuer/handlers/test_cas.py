"""Certificate authorities of users, on a real database."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import IdempotencyKey, Message
from contracts.pki import (
    Capability,
    CaState,
    CaView,
    CreateCa,
    CreateCertificate,
    DeleteCa,
    GetCa,
    GetCaChain,
    GetCaPrivateKey,
    ListCaChildren,
    ListCas,
    NameConstraints,
    PutGrant,
    RetireCa,
    RotateCa,
    SubjectNames,
)
from contracts.principal import Principal, PrincipalKind
from services.issuer.service import Issuer
from shared.idempotency import AnsweredBefore
from tests.support.running import call
from tests.unit.services.issuer.conftest import Records
from tests.unit.services.issuer.users import (
    ADMIN,
    MAKER,
    MEMBER,
    ORGANIZATION,
    STRANGER,
    SUPERUSER,
    UNATTACHED,
    about,
    ask,
    made,
    new_ca,
    refusal,
)

ROOT, ISSUING = 1, 2
"""Ids of the platform's own."""


def certificate_of(ca: CaView) -> x509.Certificate:
    return x509.load_pem_x509_certificate(ca.certificate_pem.encode())


async def at_once(*calls: Awaitable[Any]) -> list[Any]:
    """Return how each call ended: what it returned, or the error's code."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, Message | CertwireError) for end in ends), ends
    return [end.code if isinstance(end, CertwireError) else end for end in ends]


# --- Making one ----------------------------------------------------------------------------------


async def test_a_root(issuer: Issuer, records: Records) -> None:
    command = new_ca(path_length=2, description="Ours", valid_days=10)
    reply = await ask(issuer, command)
    ca, certificate = reply.ca, certificate_of(reply.ca)
    certificate.verify_directly_issued_by(certificate)
    assert (ca.name, ca.subject_dn) == ("Acme Root", "CN=Acme Root,O=Acme,C=US")
    assert (ca.path_length, ca.valid_days, ca.is_root) == (2, 10, True)
    assert (ca.organization_id, ca.created_by_user_id) == (ORGANIZATION, 2)
    assert (ca.allow_leaf_certs, ca.state, ca.slug) == (True, CaState.ACTIVE, f"acme-root-{ca.id}")
    key = load_pem_private_key(reply.private_key_pem.encode(), None)
    assert key.public_key() == certificate.public_key()
    ((created, event),) = await records.outbox("ca_create")
    assert created["object"] == {
        "type": "ca",
        "id": str(ca.id),
        "name": "Acme Root",
        "organization_id": ORGANIZATION,
    }
    assert (event["ca"], event["fingerprint"]) == (ca.slug, ca.fingerprint)
    ((_, event),) = await records.outbox("cert_create")
    assert (event["kind"], event["fingerprint"]) == (CertificateKind.CA, ca.fingerprint)
    (row,) = await records.rows("SELECT * FROM certificate WHERE for_ca_id = $1", ca.id)
    assert (row["ca_id"], row["organization_id"], row["common_name"]) == (
        ca.id,
        ORGANIZATION,
        "Acme Root",
    )


async def test_what_is_asked_for_comes_first_then_the_ca_then_who_asks_then_its_state(
    issuer: Issuer,
) -> None:
    wrong: dict[str, Any] = {"subject_dn": "nonsense"}
    assert await refusal(issuer, new_ca(parent_ca_id=99, **wrong)) is ErrorCode.INVALID_REQUEST
    assert await refusal(issuer, new_ca(key_size=100)) is ErrorCode.INVALID_REQUEST
    assert await refusal(issuer, new_ca(actor=MEMBER)) is ErrorCode.FORBIDDEN
    assert await refusal(issuer, new_ca(parent_ca_id=99, actor=MEMBER)) is ErrorCode.NOT_FOUND
    root = await made(issuer, path_length=0)
    below: dict[str, Any] = {"parent_ca_id": root.id}
    assert await refusal(issuer, new_ca("B", actor=STRANGER, **below)) is ErrorCode.FORBIDDEN
    assert await refusal(issuer, new_ca("B", **below)) is ErrorCode.AGAINST_POLICY
    await ask(issuer, about(RetireCa, root))
    assert await refusal(issuer, new_ca("B", actor=STRANGER, **below)) is ErrorCode.FORBIDDEN
    assert await refusal(issuer, new_ca("B", **below)) is ErrorCode.CONFLICT


async def test_an_intermediate_ends_with_its_parent_and_belongs_where_that_does(
    issuer: Issuer,
) -> None:
    root = await made(issuer, valid_days=100, path_length=3)
    child = await made(issuer, "Acme Issuing", parent_ca_id=root.id, actor=SUPERUSER)
    assert child.not_after == root.not_after
    assert (child.path_length, child.is_root, child.parent_ca_id) == (2, False, root.id)
    assert (child.organization_id, child.created_by_user_id) == (ORGANIZATION, 1)
    certificate_of(child).verify_directly_issued_by(certificate_of(root))
    (listed,) = (await ask(issuer, about(ListCaChildren, root))).cas
    assert listed == child
    third = await made(issuer, "Acme Third", parent_ca_id=child.id, path_length=0)
    chain = (await ask(issuer, about(GetCaChain, third))).cas
    assert [ca.id for ca in chain] == [third.id, child.id, root.id]


async def test_links_are_the_parents(issuer: Issuer) -> None:
    root = await made(issuer, crl_base_url="https://crl.example.net/pki/")
    child = certificate_of(await made(issuer, "Acme Issuing", parent_ca_id=root.id))
    text = child.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (point,) = text
    assert point.full_name == [
        x509.UniformResourceIdentifier(f"https://crl.example.net/pki/crl/{root.slug}")
    ]
    for kind in (x509.CRLDistributionPoints, x509.AuthorityInformationAccess):
        with pytest.raises(x509.ExtensionNotFound):
            certificate_of(root).extensions.get_extension_for_class(kind)


@pytest.mark.parametrize(("explicit", "after"), [(None, False), (True, True), (False, False)])
async def test_an_intermediate_ends_its_parents_leaves_unless_they_were_asked_for(
    issuer: Issuer, *, explicit: bool | None, after: bool
) -> None:
    root = await made(issuer, allow_leaf_certs=explicit)
    assert root.allow_leaf_certs is (explicit is not False)
    child = await made(issuer, "Acme Issuing", parent_ca_id=root.id)
    assert (await ask(issuer, about(GetCa, root))).allow_leaf_certs is after
    await ask(issuer, about(DeleteCa, child))
    assert (await ask(issuer, about(GetCa, root))).allow_leaf_certs is after


async def test_no_ca_is_called_as_one_above_it(issuer: Issuer) -> None:
    root = await made(issuer)
    same = new_ca("Other", subject_dn="CN=ACME root,O=acme,C=US", parent_ca_id=root.id)
    assert await refusal(issuer, same) is ErrorCode.AGAINST_POLICY


async def test_constraints_are_inherited_and_only_narrowed(issuer: Issuer) -> None:
    constraints = NameConstraints(permitted_dns_names=("example.com",))
    root = await made(issuer, name_constraints=constraints)
    assert root.name_constraints == constraints
    child = await made(issuer, "Acme Issuing", parent_ca_id=root.id)
    assert child.name_constraints == constraints
    wider = NameConstraints(permitted_dns_names=("example.org",))
    command = new_ca("Wider", parent_ca_id=child.id, name_constraints=wider)
    assert await refusal(issuer, command) is ErrorCode.AGAINST_POLICY
    found = certificate_of(child).extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical


async def test_a_repeat_does_not_show_the_key_again(issuer: Issuer, records: Records) -> None:
    key = IdempotencyKey(scope="a" * 64, key="k", request="b" * 64)
    command = new_ca()
    command = command.model_copy(
        update={"call": command.call.model_copy(update={"idempotency": key})}
    )
    await ask(issuer, command)
    with pytest.raises(CertwireError) as refused:
        await ask(issuer, command)
    assert refused.value.code is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    assert len(await records.outbox("ca_create")) == 1


# --- Who sees what ------------------------------------------------------------------------------


async def test_everybody_sees_their_own(issuer: Issuer) -> None:
    ours = await made(issuer, actor=MAKER)
    own = await made(issuer, "Own", actor=UNATTACHED)
    foreign = await made(issuer, "Foreign", actor=STRANGER)
    seen = {
        SUPERUSER: [ROOT, ISSUING, ours.id, own.id, foreign.id],
        ADMIN: [ours.id],
        MEMBER: [ours.id],
        UNATTACHED: [own.id],
        STRANGER: [foreign.id],
    }
    for actor, ids in seen.items():
        reply = await ask(issuer, ListCas(call=call(), actor=actor))
        assert [ca.id for ca in reply.cas] == ids
        for ca_id in (ROOT, ISSUING, ours.id, own.id, foreign.id):
            if ca_id in ids:
                assert (await ask(issuer, about(GetCa, ca_id, actor))).id == ca_id
            else:
                assert await refusal(issuer, about(GetCa, ca_id, actor)) is ErrorCode.FORBIDDEN
    page = await ask(issuer, ListCas(call=call(), actor=SUPERUSER, skip=3, limit=1))
    assert [ca.id for ca in page.cas] == [own.id]
    assert await refusal(issuer, about(GetCa, 99, SUPERUSER)) is ErrorCode.NOT_FOUND


async def test_who_is_no_user_is_not_told_which_cas_there_are(issuer: Issuer) -> None:
    ca = await made(issuer)
    key = Principal(
        kind=PrincipalKind.API_KEY,
        id=str(ca.created_by_user_id),
        name="deploy",
        capabilities=("projects:read", "projects:write", "create_ca"),
    )
    for one in (ca.id, 99):
        for kind in (GetCa, GetCaChain, ListCaChildren, GetCaPrivateKey, DeleteCa, RetireCa):
            assert await refusal(issuer, about(kind, one, key)) is ErrorCode.FORBIDDEN
    for parent in (None, ca.id, 99):
        command = new_ca(parent_ca_id=parent, actor=key)
        assert await refusal(issuer, command) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("ca_id", [ROOT, ISSUING])
async def test_the_platforms_own_are_shown_and_that_is_all(issuer: Issuer, ca_id: int) -> None:
    assert (await ask(issuer, about(GetCa, ca_id, SUPERUSER))).created_by_user_id is None
    for kind in (GetCaPrivateKey, DeleteCa, RetireCa, RotateCa):
        assert await refusal(issuer, about(kind, ca_id, SUPERUSER)) is ErrorCode.CONFLICT
    grant = about(PutGrant, ca_id, SUPERUSER, user_id=4, user_organization_id=7, capabilities=())
    assert await refusal(issuer, grant) is ErrorCode.CONFLICT
    child = new_ca(actor=SUPERUSER, parent_ca_id=ca_id)
    assert await refusal(issuer, child) is ErrorCode.CONFLICT
    leaf = about(
        CreateCertificate,
        ca_id,
        SUPERUSER,
        names=SubjectNames(common_name="a.example.com", subject_dn="CN=a.example.com"),
        certificate_type=CertificateKind.SERVER,
    )
    assert await refusal(issuer, leaf) in {ErrorCode.CONFLICT, ErrorCode.FORBIDDEN}


async def test_an_exported_key_is_the_cas_and_on_record(issuer: Issuer, records: Records) -> None:
    root = await made(issuer)
    reply = await ask(issuer, about(GetCaPrivateKey, root))
    key = load_pem_private_key(reply.private_key_pem.encode(), None)
    assert key.public_key() == certificate_of(root).public_key()
    ((entry, _),) = await records.outbox("ca_export_private_key")
    assert entry["object"]["id"] == str(root.id)
    assert "PRIVATE KEY" not in str(entry)
    assert await refusal(issuer, about(GetCaPrivateKey, root, MEMBER)) is ErrorCode.FORBIDDEN


# --- Deleting and retiring -----------------------------------------------------------------------


async def test_a_deleted_ca_is_out_of_sight_and_on_record(issuer: Issuer, records: Records) -> None:
    root = await made(issuer)
    child = await made(issuer, "Acme Issuing", parent_ca_id=root.id)
    assert await refusal(issuer, about(DeleteCa, root)) is ErrorCode.CONFLICT
    await ask(issuer, about(DeleteCa, child))
    assert (await ask(issuer, about(ListCaChildren, root))).cas == ()
    await ask(issuer, about(DeleteCa, root))
    for kind in (GetCa, DeleteCa, RetireCa, RotateCa, GetCaPrivateKey):
        assert await refusal(issuer, about(kind, root)) is ErrorCode.NOT_FOUND
    assert (await ask(issuer, ListCas(call=call(), actor=ADMIN))).cas == ()
    rows = await records.rows("SELECT state FROM ca WHERE kind = 'user'")
    assert [row["state"] for row in rows] == ["deleted", "deleted"]
    events = [event["ca"] for _, event in await records.outbox("ca_delete")]
    assert events == [child.slug, root.slug]


async def test_a_retired_ca_has_no_more_children(issuer: Issuer, records: Records) -> None:
    root = await made(issuer)
    retired = await ask(issuer, about(RetireCa, root))
    assert (retired.state, retired.id) == (CaState.RETIRED, root.id)
    assert await refusal(issuer, about(RetireCa, root)) is ErrorCode.CONFLICT
    assert await refusal(issuer, about(RotateCa, root)) is ErrorCode.CONFLICT
    assert await refusal(issuer, new_ca("B", parent_ca_id=root.id)) is ErrorCode.CONFLICT
    assert (await ask(issuer, about(GetCa, root))).state is CaState.RETIRED
    ((_, event),) = await records.outbox("ca_retire")
    assert event["ca"] == root.slug


# --- Rotation -----------------------------------------------------------------------------------


async def test_a_rotated_ca_has_a_successor_of_the_same_name(
    issuer: Issuer, records: Records
) -> None:
    constraints = NameConstraints(permitted_dns_names=("example.com",))
    old = await made(
        issuer,
        path_length=3,
        valid_days=50,
        description="Ours",
        name_constraints=constraints,
        crl_base_url="http://crl.example.net",
    )
    child = await made(issuer, "Acme Issuing", parent_ca_id=old.id)
    grant = about(
        PutGrant,
        old,
        user_id=4,
        user_organization_id=ORGANIZATION,
        capabilities=(Capability.CREATE_CERT,),
    )
    await ask(issuer, grant)
    new = await ask(issuer, about(RotateCa, old, MAKER))
    same = (
        "name subject_dn key_type key_size valid_days description path_length organization_id"
        " created_by_user_id allow_leaf_certs crl_base_url name_constraints parent_ca_id"
    )
    for field in same.split():
        was = False if field == "allow_leaf_certs" else getattr(old, field)
        assert getattr(new, field) == was, field
    assert certificate_of(new).public_key() != certificate_of(old).public_key()
    assert (await ask(issuer, about(GetCa, old))).state is CaState.RETIRED
    (row,) = await records.rows("SELECT successor_id FROM ca WHERE id = $1", old.id)
    assert row["successor_id"] == new.id
    granted = await records.rows("SELECT ca_id FROM ca_grant WHERE user_id = 4 ORDER BY ca_id")
    assert [row["ca_id"] for row in granted] == [old.id, new.id]
    ((_, rotated),) = await records.outbox("ca_rotate")
    assert (rotated["ca"], rotated["successor"]) == (old.slug, new.slug)
    assert len(await records.outbox("ca_retire")) == 1
    chain = (await ask(issuer, about(GetCaChain, child))).cas
    assert [ca.id for ca in chain] == [child.id, old.id]  # what was signed stays verifiable


async def test_an_intermediate_follows_its_parents_rotation(issuer: Issuer) -> None:
    old = await made(issuer)
    child = await made(issuer, "Acme Issuing", parent_ca_id=old.id)
    new = await ask(issuer, about(RotateCa, old))
    moved = await ask(issuer, about(RotateCa, child))
    assert moved.parent_ca_id == new.id
    certificate_of(moved).verify_directly_issued_by(certificate_of(new))


async def test_a_repeated_rotation_is_answered_as_before(issuer: Issuer) -> None:
    root = await made(issuer)
    key = IdempotencyKey(scope="a" * 64, key="k", request="b" * 64)
    command = about(RotateCa, root)
    command = command.model_copy(
        update={"call": command.call.model_copy(update={"idempotency": key})}
    )
    first = await ask(issuer, command)
    with pytest.raises(AnsweredBefore) as answered:
        await ask(issuer, command)
    assert CaView.model_validate_json(answered.value.reply) == first


# --- At once ------------------------------------------------------------------------------------


async def test_of_twenty_deletions_one_is_done(issuer: Issuer, records: Records) -> None:
    root = await made(issuer)
    ends = await at_once(*(ask(issuer, about(DeleteCa, root)) for _ in range(20)))
    assert ends.count(ErrorCode.NOT_FOUND) == 19
    assert len(await records.outbox("ca_delete")) == 1


async def test_of_twenty_rotations_one_is_done(issuer: Issuer, records: Records) -> None:
    root = await made(issuer)
    ends = await at_once(*(ask(issuer, about(RotateCa, root)) for _ in range(20)))
    assert ends.count(ErrorCode.CONFLICT) == 19
    assert len(await records.outbox("ca_rotate")) == 1
    assert len((await ask(issuer, ListCas(call=call(), actor=ADMIN))).cas) == 2


async def test_twenty_children_are_made(issuer: Issuer) -> None:
    root = await made(issuer)
    commands = [new_ca(f"Child {number}", parent_ca_id=root.id) for number in range(20)]
    ends = await at_once(*(ask(issuer, command) for command in commands))
    assert len({end.ca.id for end in ends}) == 20


async def test_no_ca_is_made_below_one_that_is_being_deleted_rotated_or_retired(
    issuer: Issuer, records: Records
) -> None:
    for kind in (DeleteCa, RotateCa, RetireCa):
        for number in range(5):
            parent = await made(issuer, f"{kind.__name__} {number}")
            child: CreateCa = new_ca("Child", parent_ca_id=parent.id)
            await at_once(ask(issuer, child), ask(issuer, about(kind, parent)))
    below = await records.rows(
        "SELECT child.id FROM ca AS child JOIN ca AS parent ON parent.id = child.parent_id"
        " WHERE parent.state = 'deleted'"
    )
    assert below == []


async def test_rotations_up_and_down_do_not_wait_in_a_circle(issuer: Issuer) -> None:
    root = await made(issuer)
    child = await made(issuer, "Acme Issuing", parent_ca_id=root.id)
    for _ in range(4):
        ends = await at_once(
            ask(issuer, about(RotateCa, child)), ask(issuer, about(RotateCa, root))
        )
        assert ErrorCode.UNAVAILABLE not in ends
        cas = (await ask(issuer, ListCas(call=call(), actor=ADMIN))).cas
        root = next(ca for ca in cas if ca.is_root and ca.state is CaState.ACTIVE)
        child = next(ca for ca in cas if not ca.is_root and ca.state is CaState.ACTIVE)
