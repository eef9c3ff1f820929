"""Which credential counts, where there are several."""

import hashlib
import itertools

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Credential, CredentialKind
from services.gateway.credentials import Headers, presented
from services.gateway.peer import PeerCertificate

CERTIFICATE, BEARER, API_KEY = (
    CredentialKind.CERTIFICATE,
    CredentialKind.BEARER,
    CredentialKind.API_KEY,
)
PEER = PeerCertificate(Credential(kind=CERTIFICATE, sha256="c" * 64), not_after=2e9)
TOKEN = {b"authorization": [b"Bearer secret"]}
KEY = {b"x-api-key": [b"secret"]}
SECRET = hashlib.sha256(b"secret").hexdigest()


def test_nothing_is_nothing() -> None:
    assert presented({}, None, tuple(CredentialKind)) is None


@pytest.mark.parametrize(("headers", "kind"), [(TOKEN, BEARER), (KEY, API_KEY), ({}, CERTIFICATE)])
def test_each_kind_counts_only_where_it_is_accepted(headers: Headers, kind: CredentialKind) -> None:
    peer = PEER if kind is CERTIFICATE else None
    for size in range(4):
        for kinds in itertools.combinations(CredentialKind, size):
            credential = presented(headers, peer, kinds)
            assert (credential and credential.kind) == (kind if kind in kinds else None)


@pytest.mark.parametrize("headers", [TOKEN, KEY])
def test_what_was_written_for_the_request_goes_before_the_connection(headers: Headers) -> None:
    credential = presented(headers, PEER, tuple(CredentialKind))
    assert credential
    assert credential.sha256 == SECRET


def test_the_certificate_counts_where_the_header_is_not_accepted() -> None:
    assert presented({**TOKEN, **KEY}, PEER, (CERTIFICATE,)) == PEER.credential


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": [b"Bearer secret", b"Bearer secret"]},
        {b"authorization": [b"Bearer secret", b"Bearer other"]},
        {**TOKEN, **KEY},
        {b"x-api-key": [b"a", b"b"]},
        {b"authorization": [b"Bearer"]},
        {b"authorization": [b"Bearer "]},
        {b"authorization": [b"bearer a b"]},
        {b"authorization": [b"Bearer a,Bearer b"]},
        {b"authorization": [b"Bearer \xe9"]},
        {b"authorization": [b"Bearer\tsecret"]},
    ],
)
def test_two_readings_are_refused_and_no_certificate_steps_in(headers: Headers) -> None:
    with pytest.raises(CertwireError) as refused:
        presented(headers, PEER, tuple(CredentialKind))
    assert refused.value.code is ErrorCode.CREDENTIAL_REFUSED


@pytest.mark.parametrize("value", [b"Basic Zm9vOmJhcg==", b"Negotiate x", b""])
def test_another_scheme_is_not_ours(value: bytes) -> None:
    assert presented({b"authorization": [value]}, None, (BEARER,)) is None
    with_token = {b"authorization": [value, b"bEaReR secret"]}
    credential = presented(with_token, None, (BEARER,))
    assert credential == Credential(kind=BEARER, sha256=SECRET)
