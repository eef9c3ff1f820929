"""What goes wrong at a CA is told in plain words, whatever it says."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.client.problems import (
    INVISIBLE,
    NAME_LIMIT,
    SUBPROBLEMS_LIMIT,
    TEXT_LIMIT,
    AcmeProblem,
    CaMisbehaves,
    CaUnavailable,
    Problem,
    plain,
    read_problem,
    refusal,
)

MEMBERS = st.sampled_from(["type", "detail", "title", "subproblems", "identifier", "value"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda children: st.lists(children) | st.dictionaries(MEMBERS, children),
    max_leaves=10,
)


@given(st.text())
def test_plain_words(text: str) -> None:
    line = plain(text)
    assert len(line) <= TEXT_LIMIT
    assert not INVISIBLE & set(map(unicodedata.category, line))
    assert plain(line) == line


def test_plain_words_end() -> None:
    assert plain("one\r\n\ttwo\0\x1b[31m \u202ethree") == "one two [31m three"
    assert plain("x" * TEXT_LIMIT) == "x" * TEXT_LIMIT
    assert plain("x" * (TEXT_LIMIT + 1)) == "x" * (TEXT_LIMIT - 1) + "…"
    assert plain("\n" * 100_000 + "hidden") == ""


@given(JSON)
def test_any_document_is_a_problem(document: object) -> None:
    problem = read_problem(document)
    assert problem.type
    assert len(str(problem)) <= TEXT_LIMIT


def test_a_problem() -> None:
    problem = read_problem(
        {
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers\nwere rejected",
            "subproblems": [
                {
                    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                    "detail": "This CA will not issue for it",
                    "identifier": {"type": "dns", "value": "example.net"},
                },
                {"type": "again", "identifier": {"type": "dns", "value": "example.net"}},
                {"type": "urn:ietf:params:acme:error:caa"},
            ],
        }
    )
    assert problem == Problem(
        "malformed",
        "Some of the identifiers were rejected",
        {
            "example.net": Problem("rejectedIdentifier", "This CA will not issue for it"),
            "": Problem("caa", ""),
        },
    )
    assert str(problem) == "malformed: Some of the identifiers were rejected"


def test_a_title_will_do() -> None:
    assert read_problem({"type": "x", "title": "Forbidden"}) == Problem("x", "Forbidden")


def test_subproblems_are_bounded() -> None:
    each = [{"identifier": {"value": "x" * 1000 + str(number)}} for number in range(1000)]
    named = [{"identifier": {"value": f"{number}.example"}} for number in range(1000)]
    assert [len(name) for name in read_problem({"subproblems": each}).subproblems] == [NAME_LIMIT]
    assert len(read_problem({"subproblems": named}).subproblems) == SUBPROBLEMS_LIMIT


def test_refusals() -> None:
    refused = refusal(Problem("caa", "no"), 403, 5)
    assert isinstance(refused, AcmeProblem)
    assert (refused.type, refused.detail, refused.status) == ("caa", "no", 403)
    assert (refused.retry_after_seconds, str(refused)) == (5, "caa: no")
    limited = refusal(Problem("rateLimited", "too many"), 429, 7)
    assert isinstance(limited, CaUnavailable)
    assert (limited.reason, limited.retry_after_seconds) == ("rateLimited: too many", 7)


@pytest.mark.parametrize("error", [CaUnavailable, CaMisbehaves])
def test_reasons_are_plain(error: type[CaUnavailable | CaMisbehaves]) -> None:
    made = error("it says\r\n" + "x" * 1000)
    assert made.reason.startswith("it says xxx")
    assert len(made.reason) == TEXT_LIMIT
    assert str(made) == made.reason
