"""What is looked for, in the form in which it is kept."""

from uuid import UUID

import pytest

from contracts.errors import CertwireError, ErrorCode
from services.issuer.domain import identities
from services.issuer.domain.inventory import (
    common_name_condition,
    instance_common_name,
    possible_names,
)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        (None, (None, None)),
        ("api.example.com", ("api.example.com", None)),
        ("*.example.com", ("*.example.com", None)),
        ("api*", (None, "api%")),
        ("*.example*", (None, "*.example%")),
        ("**", (None, "*%")),
        ("100%*", (None, "100\\%%")),
        ("a_b\\*", (None, "a\\_b\\\\%")),
        ("100%", ("100%", None)),
    ],
)
def test_a_common_name_is_whole_or_a_beginning(
    text: str | None, condition: tuple[str | None, str | None]
) -> None:
    assert common_name_condition(text) == condition


def test_a_beginning_of_nothing_is_none() -> None:
    with pytest.raises(CertwireError) as refused:
        common_name_condition("*")
    assert refused.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("DNS:API.Example.com", ("DNS:api.example.com",)),
        ("IP:2001:DB8::0:1", ("IP:2001:db8::1",)),
        ("IP:10.0.0.999", ("IP:10.0.0.999",)),
        ("email:Alice@Example.com", ("email:Alice@example.com",)),
        ("URI:spiffe://a/B", ("URI:spiffe://a/B",)),
        ("dns:x", ("DNS:dns:x", "IP:dns:x", "email:dns:x", "URI:dns:x")),
    ],
)
def test_a_name_with_its_kind_is_of_that_kind(text: str, names: tuple[str, ...]) -> None:
    assert possible_names(text) == names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("API.example.com", "DNS:api.example.com"),
        ("2001:DB8::0:1", "IP:2001:db8::1"),
        ("10.0.0.42", "IP:10.0.0.42"),
        ("alice@EXAMPLE.com", "email:alice@example.com"),
        ("spiffe://certwire.internal/agent/web", "URI:spiffe://certwire.internal/agent/web"),
    ],
)
def test_a_name_without_its_kind_may_be_of_any(text: str, name: str) -> None:
    assert name in possible_names(text)


def test_an_instances_spiffe_id_says_its_common_name() -> None:
    number = UUID("497f6eca-6276-4993-bfeb-53cbbbba6f08")
    identity = identities.instance(number, "certwire.internal")
    (uri,) = map(identities.printed, identity.names)
    assert instance_common_name(uri) == identity.common_name
    assert instance_common_name(uri.removeprefix("URI:")) == identity.common_name
    for text in ("spiffe://certwire.internal/agent/web", f"{number}", "", uri + "/x"):
        assert instance_common_name(text) is None
