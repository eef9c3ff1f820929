"""JSON Web Signatures as ACME has them: flattened (RFC 7515, RFC 8555 section 6.2)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

P256_BYTES: Final = 32
"""Of a coordinate, and of each half of a signature: RFC 7518 sections 3.4 and 6.2.1.2."""

Json: TypeAlias = Mapping[str, object]
SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""P-256 (ES256), the only one for accounts; RSA (RS256) where a certificate's key signs."""
VerifyingKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Eab:
    """An external account: what a CA gives its customers (RFC 8555 section 7.3.4)."""

    kid: str
    hmac_key: bytes = field(repr=False)


def base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key: VerifyingKey) -> dict[str, str]:
    """Return a public key with its required members only (RFC 7518 section 6)."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"e": _unsigned(numbers.e), "kty": "RSA", "n": _unsigned(numbers.n)}
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a key that signs for ACME is P-256 or RSA")  # noqa: TRY004 - a wrong key
    point = key.public_numbers()
    x, y = (base64url(part.to_bytes(P256_BYTES, "big")) for part in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: VerifyingKey) -> str:
    """Return the SHA-256 of a public key in its one canonical form (RFC 7638)."""
    canonical = json.dumps(jwk(key), sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(canonical.encode()).digest())


def key_authorization(token: str, key: ec.EllipticCurvePrivateKey) -> str:
    """Return what answers an http-01 challenge (RFC 8555 section 8.1)."""
    return f"{token}.{thumbprint(key.public_key())}"


def dns_txt_value(authorization: str) -> str:
    """Return the TXT record that answers a dns-01 challenge (RFC 8555 section 8.4)."""
    return base64url(hashlib.sha256(authorization.encode()).digest())


def sign(key: SigningKey, protected: Json, payload: bytes) -> dict[str, str]:
    """Return a JWS whose protected header is `alg` and what is given."""
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return _jws({"alg": algorithm, **protected}, payload, lambda data: _signature(key, data))


def external_account_binding(eab: Eab, key: ec.EllipticCurvePrivateKey, url: str) -> dict[str, str]:
    """Return the JWS by which an external account takes an account's key (RFC 8555 7.3.4)."""
    protected = {"alg": "HS256", "kid": eab.kid, "url": url}
    payload = json.dumps(jwk(key.public_key())).encode()
    return _jws(protected, payload, lambda data: hmac.digest(eab.hmac_key, data, "sha256"))


def _jws(protected: Json, payload: bytes, signature: Callable[[bytes], bytes]) -> dict[str, str]:
    header = base64url(json.dumps(protected, separators=(",", ":")).encode())
    signed = f"{header}.{base64url(payload)}"
    return {
        "protected": header,
        "payload": base64url(payload),
        "signature": base64url(signature(signed.encode())),
    }


def _signature(key: SigningKey, data: bytes) -> bytes:
    """Sign as RFC 7518 sections 3.3 and 3.4 have it."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, PKCS1v15(), SHA256())
    halves = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return b"".join(half.to_bytes(P256_BYTES, "big") for half in halves)


def _unsigned(number: int) -> str:
    """Return a Base64urlUInt (RFC 7518 section 2)."""
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
