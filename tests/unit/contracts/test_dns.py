"""Credentials are the specification's, and say nothing about themselves."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.dns import CREDENTIALS, DnsProviderName

FILE = {
    "type": "service_account",
    "private_key_id": "key-1",
    "private_key": "-----BEGIN PRIVATE KEY-----\nsecret-1\n-----END PRIVATE KEY-----\n",
    "client_email": "dns@project-1.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
AS_PRINTED: dict[DnsProviderName, dict[str, Any]] = {
    DnsProviderName.CLOUDFLARE: {"apiToken": "secret-1"},
    DnsProviderName.AWS: {
        "accessKeyId": "AKIAXXXXXXXX",
        "secretAccessKey": "secret-1",
        "region": "us-east-1",
    },
    DnsProviderName.DIGITALOCEAN: {"apiToken": "secret-1"},
    DnsProviderName.GODADDY: {"apiKey": "your-api-key", "apiSecret": "secret-1"},
    DnsProviderName.GOOGLE: {"projectId": "your-project-id", "credentials": FILE},
}
EACH = pytest.mark.parametrize("name", list(DnsProviderName))


@EACH
def test_credentials_as_the_specification_prints_them(name: DnsProviderName) -> None:
    credentials = CREDENTIALS[name].model_validate(AS_PRINTED[name])
    assert "secret-1" not in repr(credentials)
    assert "secret-1" not in str(credentials)
    stored = credentials.model_dump_json()
    assert CREDENTIALS[name].model_validate_json(stored) == credentials
    assert set(json.loads(stored)) == set(AS_PRINTED[name])


@EACH
def test_credentials_have_every_member_and_no_other(name: DnsProviderName) -> None:
    whole = AS_PRINTED[name]
    incomplete = [{k: v for k, v in whole.items() if k != key} for key in whole]
    for wrong in (*incomplete, {**whole, "sessionToken": "secret-1"}):
        with pytest.raises(ValidationError) as caught:
            CREDENTIALS[name].model_validate(wrong)
        assert "secret-1" not in str(caught.value)


@EACH
@pytest.mark.parametrize("wrong", ["", "a b", "a\r\nX-Header: b", "é", "a" * 5000, 1, None])
def test_errors_do_not_say_what_was_wrong(name: DnsProviderName, wrong: object) -> None:
    for key in AS_PRINTED[name]:
        with pytest.raises(ValidationError) as caught:
            CREDENTIALS[name].model_validate({**AS_PRINTED[name], key: wrong})
        assert "secret-1" not in str(caught.value)
        assert "X-Header" not in str(caught.value)


def test_of_googles_file_nothing_more_is_kept_than_is_needed() -> None:
    google = CREDENTIALS[DnsProviderName.GOOGLE].model_validate(AS_PRINTED[DnsProviderName.GOOGLE])
    stored = json.loads(google.model_dump_json())["credentials"]
    assert set(stored) == {"client_email", "private_key", "private_key_id"}


@pytest.mark.parametrize("region", ["us-east-1/", "US", "", "a b", "../x"])
def test_a_region_that_is_none(region: str) -> None:
    with pytest.raises(ValidationError):
        CREDENTIALS[DnsProviderName.AWS].model_validate(
            {**AS_PRINTED[DnsProviderName.AWS], "region": region}
        )
