"""What the acme service accepts as settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.acme.settings import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, AcmeSettings

KEY = b"what the CA gave us"
ENCODED = "d2hhdCB0aGUgQ0EgZ2F2ZSB1cw"


def in_files(directory: Path, text: str | None = None) -> AcmeSettings:
    """Return settings that have the key of the external account in a file, if there is one."""
    if text is not None:
        (directory / "acme-eab.hmac").write_text(text)
    return AcmeSettings(CERTWIRE_SECRETS_DIR=directory, acme_eab_kid="kid-1")


def test_without_settings_the_ca_is_lets_encrypt() -> None:
    settings = AcmeSettings()
    assert settings.directory(staging=False) == LETS_ENCRYPT
    assert settings.directory(staging=True) == LETS_ENCRYPT_STAGING
    assert settings.external_account is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"acme_directory_url": "http://ca.example.org/directory"},
        {"acme_directory_url": "http://127.0.0.1/directory"},
        {"acme_directory_url": "https://user@ca.example.org/directory"},
        {"acme_directory_url": "https://ca.example.org/directory#here"},
        {"acme_directory_url": "https:///directory"},
        {"acme_staging_directory_url": "ca.example.org"},
        {"acme_dns_cloudflare_base_url": "http://api.example.org"},
        {"acme_dns_google_token_url": "file:///etc/passwd"},
        {"acme_http01_port": 0},
        {"acme_renewals_per_hour": 0},
        {"acme_lease_seconds": 0.5},
    ],
)
def test_refuses_what_no_certificate_should_come_from(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AcmeSettings(**wrong)  # type: ignore[arg-type]  # what an environment may hold


def test_providers_may_be_on_this_machine() -> None:
    url = "http://127.0.0.1:8000/client/v4"
    assert AcmeSettings(acme_dns_cloudflare_base_url=url).acme_dns_cloudflare_base_url == url


def test_what_stands_empty_in_the_environment_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA_BUNDLE", "EAB_KID", "EAB_HMAC_KEY", "PROFILE", "DNS_RESOLVER", "LIVE_DIR"):
        monkeypatch.setenv(f"CERTWIRE_ACME_{name}", "")
    settings = AcmeSettings()
    assert settings.acme_ca_bundle is None
    assert settings.acme_profile is None
    assert settings.acme_live_dir is None
    assert settings.external_account is None


def test_the_external_accounts_key_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    given = AcmeSettings(acme_eab_kid="kid-1", acme_eab_hmac_key=ENCODED)
    assert given.external_account == ("kid-1", KEY)
    settings = in_files(tmp_path, f"{ENCODED}==\n")
    assert settings.external_account == ("kid-1", KEY)
    (tmp_path / "acme-eab.hmac").write_text("YW5vdGhlcg")
    assert settings.external_account == ("kid-1", b"another")  # counts without a restart


def test_an_external_account_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"acme-eab\.hmac"):
        in_files(tmp_path)
    for text in ("", "not base64!"):
        with pytest.raises(ValidationError):
            in_files(tmp_path, text)


def test_a_key_is_of_no_use_without_its_account() -> None:
    with pytest.raises(ValidationError, match="EAB_KID"):
        AcmeSettings(acme_eab_hmac_key=ENCODED)


def test_the_external_accounts_key_does_not_show() -> None:
    for wrong in ({"acme_eab_hmac_key": ENCODED}, {"acme_eab_kid": "k", "acme_eab_hmac_key": "§"}):
        with pytest.raises(ValidationError) as refused:
            AcmeSettings(**wrong)  # type: ignore[arg-type]  # what an environment may hold
        assert wrong["acme_eab_hmac_key"] not in str(refused.value)
    given = AcmeSettings(acme_eab_kid="kid-1", acme_eab_hmac_key=ENCODED)
    assert ENCODED not in f"{given!r} {given}"
