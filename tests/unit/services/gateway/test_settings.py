"""The settings' own rules."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings


def test_listens_on_loopback_unless_told_otherwise() -> None:
    settings = GatewaySettings()
    assert (settings.https_host, settings.http_host) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("name", ["tls_certificate", "tls_key"])
def test_a_certificate_goes_with_its_key(name: str) -> None:
    with pytest.raises(ValidationError, match="go together"):
        GatewaySettings.model_validate({name: Path("file")})
