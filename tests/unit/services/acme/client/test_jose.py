"""Signatures, by the RFCs' vectors; josepy and certbot's client are the oracles."""

import base64
import json

import acme.challenges
import acme.messages
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwk import JWKEC, JWKRSA, JWKOct
from josepy.jws import JWS
from josepy.util import ComparableECKey, ComparableRSAKey

from services.acme.client import Eab, dns_txt_value, key_authorization
from services.acme.client.jose import external_account_binding, jwk, sign, thumbprint
from tests.support.csr import new_key

PAYLOAD = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
"""RFC 7515 appendix A.1.1."""


def number(text: str) -> int:
    """Return a Base64urlUInt."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")


def verified(jws: dict[str, str], key: JWKEC | JWKRSA) -> bool:
    """Ask josepy."""
    return bool(JWS.from_json(jws).verify(key.public_key()))


def test_rs256_of_rfc_7515_appendix_a_2() -> None:
    n, d = (
        number(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1"
            "Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpa"
            "SHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4"
            "LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
        ),
        number(
            "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwV"
            "ol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj"
            "kn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaF"
            "QT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
        ),
    )
    p, q = rsa.rsa_recover_prime_factors(n, 65537, d)
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(65537, n),
    )
    assert sign(numbers.private_key(), {}, PAYLOAD) == {
        "protected": "eyJhbGciOiJSUzI1NiJ9",
        "payload": "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
        "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "signature": "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7"
        "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
        "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K"
        "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv"
        "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB"
        "p0igcN_IoypGlUPQGe77Rw",
    }


def test_es256_of_rfc_7515_appendix_a_3() -> None:
    key = ec.derive_private_key(
        number("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), ec.SECP256R1()
    )
    assert jwk(key.public_key()) == {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    jws = sign(key, {}, PAYLOAD)
    assert jws["protected"] == "eyJhbGciOiJFUzI1NiJ9"
    assert len(jws["signature"]) == 86  # base64url of 64 octets
    assert verified(jws, JWKEC(key=ComparableECKey(key)))


def test_the_thumbprint_of_rfc_7638_section_3_1() -> None:
    n = number(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE"
        "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q"
        "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
        "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = rsa.RSAPublicNumbers(65537, n).public_key()
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("rsa_key", [False, True])
def test_whatever_is_signed_verifies(*, rsa_key: bool) -> None:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    oracle: JWKEC | JWKRSA
    if rsa_key:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        oracle = JWKRSA(key=ComparableRSAKey(key))
    else:
        key = new_key()
        oracle = JWKEC(key=ComparableECKey(key))
    assert jwk(key.public_key()) == oracle.public_key().to_partial_json()
    for number_of_octets in range(100):  # halves of signatures may begin with zeros
        jws = sign(key, {"nonce": "a nonce"}, b"x" * number_of_octets)
        assert verified(jws, oracle)
        protected = json.loads(base64.urlsafe_b64decode(jws["protected"] + "=="))
        assert protected == {"alg": "RS256" if rsa_key else "ES256", "nonce": "a nonce"}


def test_coordinates_keep_their_zeros() -> None:
    lengths = {len(jwk(new_key().public_key())[each]) for _ in range(600) for each in "xy"}
    assert lengths == {43}  # base64url of 32 octets


def test_no_other_curve_signs() -> None:
    with pytest.raises(ValueError, match="P-256"):
        jwk(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_the_binding_of_an_external_account() -> None:
    key, url = new_key(), "https://example.com/new-account"
    eab = Eab("customer", b"the key that the CA gave the customer")
    directory = acme.messages.Directory({"newAccount": url})
    expected = acme.messages.ExternalAccountBinding.from_data(
        JWKEC(key=ComparableECKey(key)).public_key(),
        eab.kid,
        b64encode(eab.hmac_key).decode(),
        directory,
    )
    made = external_account_binding(eab, key, url)
    for part in ("protected", "payload"):
        ours, theirs = (
            json.loads(base64.urlsafe_b64decode(each[part] + "==")) for each in (made, expected)
        )
        assert ours == theirs
    assert JWS.from_json(made).verify(JWKOct(key=eab.hmac_key))
    assert "the key" not in repr(eab)


def test_the_answers_to_challenges() -> None:
    key, token = new_key(), b"a token of 128 bits and more"
    oracle = JWKEC(key=ComparableECKey(key))
    encoded = b64encode(token).decode()
    authorization = key_authorization(encoded, key)
    assert authorization == acme.challenges.HTTP01(token=token).validation(oracle)
    assert dns_txt_value(authorization) == acme.challenges.DNS01(token=token).validation(oracle)
