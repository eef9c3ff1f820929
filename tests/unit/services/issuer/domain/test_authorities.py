from datetime import timedelta

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import MOST_PATH_LENGTH
from services.issuer.domain.authorities import (
    check_depth,
    check_in_use,
    check_subject,
    path_length_of,
)
from services.issuer.domain.distinguished_names import parse
from tests.unit.services.issuer.builders import NOW


@pytest.mark.parametrize(
    ("asked", "above", "own"),
    [
        (None, None, None),
        (3, None, 3),
        (0, None, 0),
        (None, 1, 0),
        (None, 3, 2),
        (2, 3, 2),
        (0, 3, 0),
    ],
)
def test_the_path_length_counts_down(asked: int | None, above: int | None, own: int | None) -> None:
    assert path_length_of(asked, above) == own


@pytest.mark.parametrize(("asked", "above"), [(None, 0), (0, 0), (1, 1), (3, 3), (16, 2)])
def test_refuses_what_there_is_no_room_for(asked: int | None, above: int | None) -> None:
    with pytest.raises(CertwireError) as refused:
        path_length_of(asked, above)
    assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_a_ca_has_another_subject_than_those_above_it() -> None:
    above = [parse("CN=Issuing,O=Acme"), parse("CN=Root,O=Acme")]
    check_subject(parse("CN=Issuing 2,O=Acme"), above)
    for name in ("CN=Root,O=Acme", "CN=root,O=ACME"):
        with pytest.raises(CertwireError) as refused:
            check_subject(parse(name), above)
        assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_a_hierarchy_has_an_end() -> None:
    check_depth(MOST_PATH_LENGTH)
    with pytest.raises(CertwireError):
        check_depth(MOST_PATH_LENGTH + 1)


@pytest.mark.parametrize(
    ("state", "left", "why"),
    [("retired", 1, "is retired"), ("deleted", 1, "is deleted"), ("active", 0, "has expired")],
)
def test_what_signs_nothing_any_more(state: str, left: int, why: str) -> None:
    with pytest.raises(CertwireError, match=why) as refused:
        check_in_use("CA 1", state, NOW + timedelta(seconds=left), NOW)
    assert refused.value.code is ErrorCode.CONFLICT
    check_in_use("CA 1", "active", NOW + timedelta(seconds=1), NOW)
