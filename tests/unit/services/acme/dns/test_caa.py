"""RFC 8659 and RFC 8657: who may issue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.dns.caa import CRITICAL, Issuer, Property, refusal

OURS = ("ca.test", "other-ca.test")


def said(*records: tuple[str, str], wildcard: bool = False, method: str | None = None) -> str:
    properties = [Property(0, tag, value) for tag, value in records]
    return refusal(properties, OURS, wildcard=wildcard, method=method) or ""


@pytest.mark.parametrize(
    "value",
    [
        "ca.test",
        "CA.Test",
        "  ca.test  ",
        "ca.test.",
        "ca.test;",
        "ca.test; account=230123",
        "ca.test ; a=1 ;b = 2",
        "other-ca.test",
    ],
)
def test_an_issuer_that_is_ours(value: str) -> None:
    assert said(("issue", value)) == ""
    assert said(("ISSUE", value)) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "let no CA issue"),
        (";", "let no CA issue"),
        ("another.test", "let only another.test issue"),
        ("sub.ca.test", "let only sub.ca.test issue"),
        ("ca.test; %%%%%", "let no CA issue"),
        ("ca.test; a=1 b", ""),
    ],
)
def test_an_issuer_that_is_not(value: str, words: str) -> None:
    assert said(("issue", value)) == words


def test_one_of_several_is_enough() -> None:
    assert said(("issue", "another.test"), ("issue", "ca.test")) == ""
    words = said(("issue", "b.test"), ("issue", "a.test"), ("issue", ";"))
    assert words == "let only a.test, b.test issue"


def test_without_issue_everybody_may() -> None:
    assert said(("iodef", "mailto:a@b.test"), ("unheard", "x")) == ""
    assert said(("issuewild", ";")) == ""


def test_a_wildcard_is_for_issuewild_alone_where_there_is_one() -> None:
    assert said(("issue", ";"), ("issuewild", "ca.test"), wildcard=True) == ""
    assert said(("issue", "ca.test"), ("issuewild", ";"), wildcard=True) == "let no CA issue"
    assert said(("issue", "ca.test"), wildcard=True) == ""
    assert said(("issue", ";"), wildcard=True) == "let no CA issue"
    assert said(("issue", "ca.test"), ("issuewild", ";")) == ""


def test_a_critical_property_that_is_unknown_ends_it() -> None:
    properties = [Property(0, "issue", "ca.test"), Property(CRITICAL, "tbs", "Unknown")]
    words = refusal(properties, OURS, wildcard=False)
    assert words == "have the critical property 'tbs', which nobody here knows"
    known = [Property(CRITICAL, "issue", "ca.test"), Property(CRITICAL, "IODEF", "mailto:a@b")]
    assert refusal(known, OURS, wildcard=False) is None
    without_the_flag = [Property(1, "tbs", "Unknown"), Property(0, "issue", "ca.test")]
    assert refusal(without_the_flag, OURS, wildcard=False) is None


def test_methods() -> None:
    only_dns = ("issue", "ca.test; validationmethods=dns-01,tls-alpn-01")
    assert said(only_dns, method="dns-01") == ""
    assert said(only_dns, method="http-01") == "do not let the CA use http-01"
    assert said(only_dns) == ""
    assert said(only_dns, ("issue", "ca.test"), method="http-01") == ""


@given(st.text(max_size=60))
def test_whatever_a_value_is_it_permits_nobody_by_accident(value: str) -> None:
    issuer = Issuer.parse(value)
    if issuer.permits(OURS, None):
        assert value.split(";", maxsplit=1)[0].strip(" \t").lower().removesuffix(".") in OURS
