"""CAs whose keys are in a token, beside others whose keys are sealed.

The tests of signing run here once more, with the platform's CA in a token.
"""

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from contracts.errors import CertwireError, ErrorCode
from services.issuer import token
from services.issuer.app import build
from services.issuer.bootstrap import create_platform_ca
from services.issuer.handlers.platform import sign_instance_certificate
from services.issuer.key_backends import KeyBackends
from services.issuer.keys import KeyAlgorithm
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.token import TokenKey
from tests.support.servers import Place
from tests.support.softhsm import LABEL, PIN, SoftHsm, softhsm
from tests.unit.services.issuer.builders import PUBLIC_URL, order
from tests.unit.services.issuer.conftest import Records
from tests.unit.services.issuer.test_signing import (
    test_a_voided_claim_gets_nothing,
    test_records_what_it_signs,
    test_signing_and_voiding_race_to_one_of_two_ends,
    test_signs_every_kind_of_key,
    test_the_extensions_are_the_profiles_whatever_the_csr_asks,
    test_the_same_message_many_times_at_once_makes_one_certificate,
)

__all__ = [
    "softhsm",
    "test_a_voided_claim_gets_nothing",
    "test_records_what_it_signs",
    "test_signing_and_voiding_race_to_one_of_two_ends",
    "test_signs_every_kind_of_key",
    "test_the_extensions_are_the_profiles_whatever_the_csr_asks",
    "test_the_same_message_many_times_at_once_makes_one_certificate",
]

RETIRE = "UPDATE ca SET state = 'retired' WHERE kind = 'platform_issuing' AND state = 'active'"
NEWEST = "SELECT * FROM ca WHERE kind = 'platform_issuing' ORDER BY id DESC LIMIT 1"


@pytest.fixture
def settings(
    place: Place, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IssuerSettings]:
    monkeypatch.setattr(token, "AWAY_SECONDS", 0.0)
    (place.home / "secrets" / "pkcs11.pin").write_text(PIN)
    settings = place.settings(IssuerSettings, public_url=PUBLIC_URL, **softhsm.settings)
    yield settings
    settings.token.close()


async def test_the_platforms_ca_is_in_the_token(issuer: Issuer, records: Records) -> None:
    (ca,) = await records.rows(NEWEST)
    assert ca["key_backend"] == "pkcs11"
    assert len(ca["key_handle"]) == 16
    assert ca["sealed_key"] is None
    certificate = x509.load_der_x509_certificate(ca["certificate"])
    key = issuer.settings.token
    TokenKey(key, ca["key_handle"], certificate.public_key()).sign(b"data")  # type: ignore[arg-type]  # a CA's


@pytest.mark.parametrize("name", ["p521", "rsa2048", "ed25519"])
async def test_what_it_signs_verifies(
    settings: IssuerSettings, records: Records, issuer: Issuer, name: str
) -> None:
    await records.rows(RETIRE)
    others = settings.model_copy(update={"ca_key_algorithm": KeyAlgorithm.parse(name)})
    await create_platform_ca(others)
    await issuer.authorities.load()
    await sign_instance_certificate(order(), issuer)
    (leaf,) = await records.certificates()
    (ca,) = await records.rows(NEWEST)
    assert leaf["ca_id"] == ca["id"]
    x509.load_der_x509_certificate(leaf["certificate"]).verify_directly_issued_by(
        x509.load_der_x509_certificate(ca["certificate"])
    )


async def test_a_ca_keeps_its_key_where_it_is(
    issuer: Issuer, settings: IssuerSettings, records: Records
) -> None:
    in_token = (await records.rows(NEWEST))[0]
    await records.rows(RETIRE)
    sealed = IssuerSettings(**{**settings.model_dump(), "issuer_key_backend": "sealed"})
    await create_platform_ca(sealed)
    await issuer.authorities.load()
    await sign_instance_certificate(order(), issuer)
    assert (await records.rows(NEWEST))[0]["key_backend"] == "sealed"
    await records.rows(RETIRE)
    await records.rows("UPDATE ca SET state = 'active' WHERE id = $1", in_token["id"])
    await issuer.authorities.load()
    await sign_instance_certificate(order(), issuer)
    first, second = await records.certificates()
    assert (second["ca_id"], first["ca_id"] > second["ca_id"]) == (in_token["id"], True)


async def test_without_its_token_a_ca_cannot_sign_and_says_so(
    issuer: Issuer, softhsm: SoftHsm, records: Records
) -> None:
    assert not await issuer.authorities.problems()
    issuer.settings.token.close()
    softhsm.take_away()
    with pytest.raises(CertwireError) as refused:
        await sign_instance_certificate(order(), issuer)
    assert refused.value.code is ErrorCode.CA_CANNOT_SIGN
    assert "token" not in refused.value.detail
    assert not await records.certificates()
    (problem,) = await issuer.authorities.problems()
    assert "token" in problem
    softhsm.put_back()
    await sign_instance_certificate(order(), issuer)
    assert not await issuer.authorities.problems()


@pytest.mark.usefixtures("issuer")
async def test_the_issuer_starts_without_the_token(
    settings: IssuerSettings, softhsm: SoftHsm
) -> None:
    softhsm.take_away()
    others = IssuerSettings(**settings.model_dump())
    application = await build(others)
    assert application.prepare is not None
    assert application.problems is not None
    await application.prepare()
    assert await application.problems()
    softhsm.put_back()
    assert not await application.problems()
    others.token.close()
    await application.runtime.close()


async def test_without_the_token_no_ca_is_made(
    settings: IssuerSettings, softhsm: SoftHsm, records: Records
) -> None:
    await records.rows(RETIRE)
    softhsm.take_away()
    settings.token.close()
    with pytest.raises(CertwireError) as refused:
        await create_platform_ca(settings)
    assert refused.value.code is ErrorCode.CA_CANNOT_SIGN
    assert (await records.rows(NEWEST))[0]["state"] == "retired"


async def test_keys_of_cas_come_from_the_pool_where_they_are_sealed(issuer: Issuer) -> None:
    backends = KeyBackends(IssuerSettings(home=issuer.settings.home), issuer.keys.take)
    made = await backends.make(KeyAlgorithm.RSA2048)
    await issuer.keys.close()
    assert isinstance(made.exportable, rsa.RSAPrivateKey)
    in_token = await issuer.key_backends.make(KeyAlgorithm.P256)
    assert in_token.exportable is None


def test_a_token_has_to_be_named() -> None:
    with pytest.raises(ValidationError, match="CERTWIRE_PKCS11_MODULE"):
        IssuerSettings(issuer_key_backend="pkcs11", pkcs11_token=LABEL)
