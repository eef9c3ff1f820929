"""Whom certificates may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CertwireError, ErrorCode
from services.issuer.domain import identities


@pytest.mark.parametrize("label", ["a", "edge-1", "x" * 50, "0"])
def test_takes_a_label(label: str) -> None:
    identity = identities.agent(label, "certwire.internal")
    assert identity.subject.rfc4514_string() == f"CN=agent:{label}"
    assert identity.owner_id == label


@pytest.mark.parametrize(
    "label",
    ["", "-a", "a-", "A", "a b", "a/b", "a\n", "x" * 51, "ä", "a\x00", "../x", "a,CN=admin"],
)
def test_refuses_what_is_not_a_label(label: str) -> None:
    with pytest.raises(CertwireError) as refused:
        identities.agent(label, "certwire.internal")
    assert refused.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("name", ["localhost", "a.example.com", "*.example.com", "x-1.y"])
def test_takes_a_dns_name(name: str) -> None:
    assert identities.printed(identities.host_name(name)) == f"DNS:{name}"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "2001:db8::1"])
def test_takes_an_address(address: str) -> None:
    assert identities.printed(identities.host_name(address)) == f"IP:{address}"


@pytest.mark.parametrize(
    "name",
    ["", "a..b", "-a.b", "a_b", "a b", "é.example", "a.*.b", "x" * 64, "a." * 130, "a\n", "*"],
)
def test_refuses_other_names(name: str) -> None:
    with pytest.raises(ValueError, match="neither a DNS name nor an IP address"):
        identities.host_name(name)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Certwire Root CA", "certwire-root-ca-7"),
        ("  Ämter & Co.  ", "mter-co-7"),
        ("???", "7"),
    ],
)
def test_a_slug_is_the_name_and_the_id(name: str, slug: str) -> None:
    assert identities.slug(name, 7) == slug


@given(st.text(), st.integers(1, 2**63 - 1))
def test_a_slug_is_safe_in_a_url(name: str, ca_id: int) -> None:
    slug = identities.slug(name, ca_id)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug.split("-")[-1] == str(ca_id)


@pytest.mark.parametrize("ca_slug", ["acme-3", "a" * 300])
def test_a_responder_is_named_for_its_ca(ca_slug: str) -> None:
    found = identities.ocsp_responder(ca_slug)
    assert (found.owner_id, found.names) == (ca_slug, ())
    assert f"OCSP {ca_slug}".startswith(found.common_name)
    assert len(found.common_name) <= 64
