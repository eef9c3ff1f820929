"""What may be ordered, how orders are told apart, and what failed ones say."""

import json

import pytest

from contracts.acme import ChallengeType, DnsAccess, Issuance, KeyType
from contracts.dns import DnsProviderName
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import system
from services.acme.domain.orders import (
    OrderFailedError,
    challenge_failed,
    is_about_name,
    names_of,
    put_off_seconds,
    request_hash,
    require_orderable,
    with_credentials,
    without_credentials,
)

BY_HTTP = Issuance(email="a@example.com", challenge_type=ChallengeType.HTTP_01)
BY_DNS = Issuance(
    email="a@example.com",
    challenge_type=ChallengeType.DNS_01,
    dns=DnsAccess(provider=DnsProviderName.CLOUDFLARE, credentials={"apiToken": "secret"}),
    key_type=KeyType.EC,
    auto_renew=False,
)
ACTOR = system("acme")


def test_a_wildcard_has_the_name_that_it_stands_below() -> None:
    assert names_of("*.example.com") == ("*.example.com", "example.com")
    assert names_of("www.example.com") == ("www.example.com",)


def test_a_wildcard_needs_dns() -> None:
    assert require_orderable("*.example.com", BY_DNS, ACTOR) == "*.example.com"
    with pytest.raises(CertwireError) as refused:
        require_orderable("*.example.com", BY_HTTP, ACTOR)
    assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_a_domain_is_needed() -> None:
    with pytest.raises(CertwireError) as refused:
        require_orderable(None, BY_HTTP, ACTOR)
    assert refused.value.detail == "Project has no domain configured"


def test_requests_differ_by_all_that_is_asked_for() -> None:
    other = BY_DNS.model_copy(update={"email": "b@example.com"})
    token = BY_DNS.model_copy(
        update={
            "dns": DnsAccess(
                provider=DnsProviderName.CLOUDFLARE, credentials={"apiToken": "another"}
            )
        }
    )
    hashes = {
        request_hash("obtain", "example.com", "https://ca/dir", BY_DNS),
        request_hash("dry_run", "example.com", "https://ca/dir", BY_DNS),
        request_hash("obtain", "www.example.com", "https://ca/dir", BY_DNS),
        request_hash("obtain", "example.com", "https://other/dir", BY_DNS),
        request_hash("obtain", "example.com", "https://ca/dir", other),
        request_hash("renew", "example.com", "https://ca/dir", None),
    }
    assert len(hashes) == 6
    assert request_hash("obtain", "example.com", "https://ca/dir", BY_DNS) in hashes
    assert request_hash("obtain", "example.com", "https://ca/dir", token) in hashes, (
        "but by secrets"
    )


@pytest.mark.parametrize("issuance", [BY_HTTP, BY_DNS])
def test_credentials_are_kept_apart(issuance: Issuance) -> None:
    text, credentials = without_credentials(issuance)
    assert "secret" not in text
    assert json.loads(text)["email"] == "a@example.com"
    assert with_credentials(text, credentials) == issuance


def test_http_01_fails_in_the_specification_s_words() -> None:
    failure = challenge_failed(ChallengeType.HTTP_01, "connection refused")
    assert failure.text == "HTTP-01 challenge failed: Could not verify domain ownership"
    assert failure.in_full.endswith("(connection refused)")
    assert failure.error().parameters["reason"] == failure.in_full


def test_dns_01_fails_with_the_reason() -> None:
    failure = challenge_failed(ChallengeType.DNS_01, "no TXT record")
    assert failure.text == failure.in_full == "DNS-01 challenge failed: no TXT record"
    assert challenge_failed(ChallengeType.DNS_01, "").text.endswith("ownership")


def test_a_failure_is_what_the_caller_gets() -> None:
    failure = OrderFailedError("x", code=ErrorCode.CA_UNAVAILABLE, retry_after_seconds=7)
    error = failure.error()
    assert (error.code, error.detail, error.retry_after_seconds) == (
        ErrorCode.CA_UNAVAILABLE,
        "x",
        7,
    )


def test_orders_wait_longer_each_time_and_as_long_as_the_ca_says() -> None:
    waits = [put_off_seconds(attempts, None) for attempts in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == 60
    assert put_off_seconds(0, 300) == 300


@pytest.mark.parametrize(
    ("domain", "said", "expected"),
    [
        ("a.example.com", 'rateLimited: 5 failed for "a.example.com" in 1h', True),
        ("a.example.com", 'too many certificates (50) already issued for "example.com"', True),
        ("*.Example.com", "no more for EXAMPLE.COM.", True),
        ("a.example.com", "too many certificates for this exact set of identifiers", True),
        ("a.example.com", 'failed for "b.example.com"', False),
        ("a.example.com", "failed for notexample.com and example.com.evil", False),
        ("a.example.com", "too many new orders (300) from this account, com", False),
        ("a.example.com", "see https://letsencrypt.org/docs/rate-limits/", False),
        ("a-b.c", "failed for a-b-c and x-a-b.c", False),
    ],
)
def test_a_limit_is_about_a_name_where_it_names_it(
    domain: str, said: str, *, expected: bool
) -> None:
    assert is_about_name(domain, said) is expected
