"""What the issuer says of itself."""

from datetime import timedelta

import pytest

from services.issuer import service
from services.issuer.service import Issuer


async def test_warns_of_what_ends_soon(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not await issuer.warnings()
    (issuing, _) = issuer.authorities.chain()
    monkeypatch.setattr(service, "utc_now", lambda: issuing.not_after - timedelta(days=1))
    (warning,) = await issuer.warnings()
    assert warning == f"the certificate of {issuing.slug} ends on {issuing.not_after:%Y-%m-%d}"
