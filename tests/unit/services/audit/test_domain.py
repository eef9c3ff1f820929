"""What makes a record true, and where it belongs."""

import json
from collections.abc import Sequence

import pytest
from pydantic import JsonValue

from contracts.audit import record_hash
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal, PrincipalKind, Role
from contracts.subjects import Service
from services.audit.domain.permissions import readable_organization
from services.audit.domain.verification import (
    Arrival,
    Genuine,
    Head,
    Placement,
    Reason,
    Violation,
    examine,
    place,
)
from tests.support.audit import Chain, altered, arrival


def genuine(arrivals: Sequence[Arrival]) -> list[Genuine]:
    examined = [examine(each) for each in arrivals]
    assert all(isinstance(each, Genuine) for each in examined)
    return [each for each in examined if isinstance(each, Genuine)]


def refused(arrived: Arrival) -> Reason:
    examined = examine(arrived)
    assert isinstance(examined, Violation)
    return examined.reason


def rehashed(record: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {**record, "hash": record_hash(record)}


def numbers(records: Sequence[Genuine]) -> list[int]:
    return [each.record.sequence for each in records]


def kept_hashes(*chains: Chain) -> dict[tuple[str, int], str]:
    return {
        (str(chain.service), number): str(record["hash"])
        for chain in chains
        for number, record in enumerate(chain.made, start=1)
    }


class TestExamine:
    def test_a_record_keeps_its_exact_text(self) -> None:
        record = Chain().next(note="Zoë", count=3)
        examined = examine(arrival(record))
        assert isinstance(examined, Genuine)
        assert examined.text.encode() == arrival(record).payload
        assert record_hash(json.loads(examined.text)) == record["hash"]

    def test_fields_of_a_later_version_are_kept_and_hashed(self) -> None:
        record = rehashed({**Chain().next(), "novelty": {"a": [1, None]}})
        examined = examine(arrival(record))
        assert isinstance(examined, Genuine)
        assert '"novelty":{"a":[1,null]}' in examined.text

    @pytest.mark.parametrize("field", ["detail", "time", "actor", "sequence", "id", "outcome"])
    def test_any_change_shows(self, field: str) -> None:
        record = Chain().next()
        changes: dict[str, JsonValue] = {
            "detail": {"altered": True},
            "time": "2026-01-01T00:00:00.000000Z",
            "actor": {"kind": "user", "id": "8", "name": "x"},
            "sequence": 2,
            "id": "another",
            "outcome": "refused",
        }
        assert refused(arrival(altered(record, **{field: changes[field]}))) is Reason.WRONG_HASH

    def test_an_unhashed_addition_shows(self) -> None:
        assert refused(arrival(altered(Chain().next(), smuggled=1))) is Reason.WRONG_HASH

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xff",
            b'"text"',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"sequence": 1.5}',
        ],
    )
    def test_what_is_no_record_is_malformed(self, payload: bytes) -> None:
        assert refused(Arrival("certwire.audit.issuer.cert_create", payload)) is Reason.MALFORMED

    @pytest.mark.parametrize(
        "changes",
        [
            {"sequence": 0},
            {"sequence": -1},
            {"sequence": "1"},
            {"sequence": 2**53},
            {"time": "2026-01-01T00:00:00"},
            {"detail": {"ratio": 0.5}},
            {"detail": {"größe": 1}},
            {"outcome": "perhaps"},
            {"hash": "ABC"},
        ],
    )
    def test_what_breaks_the_form_is_malformed(self, changes: dict[str, JsonValue]) -> None:
        record = altered(Chain().next(), **changes)
        payload = json.dumps(record).encode()
        arrived = Arrival("certwire.audit.issuer.cert_create", payload)
        assert refused(arrived) is Reason.MALFORMED

    @pytest.mark.parametrize(
        "subject",
        [
            "certwire.audit.registry.cert_create",
            "certwire.audit.issuer.cert_revoke",
            "certwire.audit.checkpoint",
        ],
    )
    def test_a_service_speaks_for_itself_alone(self, subject: str) -> None:
        assert refused(arrival(Chain().next(), subject)) is Reason.WRONG_SUBJECT

    def test_an_unknown_service_is_not_believed(self) -> None:
        record = rehashed(altered(Chain().next(), service="stranger"))
        payload = json.dumps(record).encode()
        arrived = Arrival("certwire.audit.stranger.cert_create", payload)
        assert refused(arrived) is Reason.WRONG_SUBJECT


class TestPlace:
    def test_a_chain_is_kept_in_order(self) -> None:
        chain = Chain()
        placement = place({}, {}, genuine(chain.take(3)))
        assert numbers(placement.kept) == [1, 2, 3]
        assert placement.heads == {"issuer": Head(3, chain.hash)}
        assert placement.early == []
        assert placement.violations == []

    def test_each_service_has_its_own_chain(self) -> None:
        issuer, registry = Chain(Service.ISSUER), Chain(Service.REGISTRY)
        mixed = [arrival(chain.next()) for _ in range(3) for chain in (issuer, registry)]
        placement = place({}, {}, genuine(mixed))
        assert len(placement.kept) == 6
        assert placement.heads["registry"] == Head(3, registry.hash)

    def test_the_chain_goes_on_behind_its_head(self) -> None:
        chain = Chain()
        head = place({}, {}, genuine(chain.take(2))).heads
        placement = place(head, {}, genuine(chain.take(2)))
        assert numbers(placement.kept) == [3, 4]

    def test_disorder_is_put_right(self) -> None:
        chain = Chain()
        placement = place({}, {}, genuine(chain.take(5))[::-1])
        assert numbers(placement.kept) == [1, 2, 3, 4, 5]

    def test_what_is_after_a_gap_waits(self) -> None:
        one, _two, three, four = genuine(Chain().take(4))
        placement = place({}, {}, [one, three, four])
        assert numbers(placement.kept) == [1]
        assert numbers(placement.early) == [3, 4]
        assert placement.violations == []

    def test_a_record_that_comes_again_is_a_duplicate(self) -> None:
        chain = Chain()
        records = genuine(chain.take(3))
        heads = place({}, {}, records).heads
        placement = place(heads, kept_hashes(chain), [*records, records[0]])
        assert placement.duplicates == 4
        assert placement == Placement(duplicates=4, heads=heads)

    def test_a_duplicate_in_the_same_batch_is_one(self) -> None:
        record, later = genuine(Chain().take(2))
        placement = place({}, {}, [record, record, later, later, record])
        assert numbers(placement.kept) == [1, 2]
        assert placement.duplicates == 3
        assert place({}, {}, [later, later]).duplicates == 1

    def test_another_record_at_a_kept_place_is_a_violation(self) -> None:
        chain, forged = Chain(), Chain()
        heads = place({}, {}, genuine(chain.take(2))).heads
        placement = place(heads, kept_hashes(chain), genuine(forged.take(1)))
        assert [each.reason for each in placement.violations] == [Reason.PLACE_TAKEN]
        assert placement.heads == heads

    def test_another_record_at_a_waiting_place_is_a_violation(self) -> None:
        (_, true), (_, forged) = genuine(Chain().take(2)), genuine(Chain().take(2))
        placement = place({}, {}, [true, forged])
        assert placement.early == [true]
        assert [each.reason for each in placement.violations] == [Reason.PLACE_TAKEN]

    def test_a_wrong_link_leaves_the_place_to_the_true_record(self) -> None:
        chain = Chain()
        one, two, three = genuine(chain.take(3))
        (forged,) = genuine([arrival(rehashed(altered(chain.made[1], previous_hash="f" * 64)))])
        placement = place({}, {}, [one, forged, three])
        assert numbers(placement.kept) == [1]
        assert [each.reason for each in placement.violations] == [Reason.WRONG_LINK]
        assert numbers(place(placement.heads, {}, [two, three]).kept) == [2, 3]

    def test_the_first_record_links_to_nothing(self) -> None:
        (forged,) = genuine([arrival(rehashed(altered(Chain().next(), previous_hash="a" * 64)))])
        placement = place({}, {}, [forged])
        assert placement.kept == []
        assert [each.reason for each in placement.violations] == [Reason.WRONG_LINK]

    def test_a_violation_names_what_the_message_claims_to_be(self) -> None:
        record = altered(Chain().next(), detail={"x": 1})
        assert examine(arrival(record)) == Violation(
            arrival(record), Reason.WRONG_HASH, "issuer", 1
        )


@pytest.mark.parametrize(
    ("principal", "organization_id"),
    [
        (Principal(kind=PrincipalKind.USER, id="1", name="r", role=Role.SUPERUSER), None),
        (
            Principal(
                kind=PrincipalKind.USER,
                id="1",
                name="r",
                role=Role.SUPERUSER,
                organization_id=3,
            ),
            None,
        ),
        (
            Principal(
                kind=PrincipalKind.USER, id="7", name="a", role=Role.ADMIN, organization_id=3
            ),
            3,
        ),
    ],
)
def test_a_superuser_reads_all_and_an_administrator_the_own_organization(
    principal: Principal, organization_id: int | None
) -> None:
    assert readable_organization(principal) == organization_id


@pytest.mark.parametrize("kind", list(PrincipalKind))
@pytest.mark.parametrize("role", [None, *Role])
def test_nobody_else_reads_the_log(kind: PrincipalKind, role: Role | None) -> None:
    may = kind is PrincipalKind.USER and role in {Role.SUPERUSER, Role.ADMIN}
    who = Principal(kind=kind, id="1", name="x", role=role, organization_id=3)
    if may:
        readable_organization(who)
        return
    with pytest.raises(CertwireError) as refused:
        readable_organization(who)
    assert refused.value.code is ErrorCode.FORBIDDEN
