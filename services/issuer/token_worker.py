"""A process that talks to a PKCS #11 module: a module that hangs or crashes takes nothing along.

Run as `python -m services.issuer.token_worker`, it reads one JSON object a line and answers each
with one: first what opens the token, then requests. After an error it ends: its parent begins anew,
with a module that is freshly loaded. It ends with its parent too, in the middle of a call.
"""

import json
import os
import signal
import sys
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from contracts import pki
from services.issuer.keys import CURVES, RSA_EXPONENT

ED25519_PARAMETERS: Final = b"\x13\x0cedwards25519"
"""PKCS #11 3.0 section 2.3.5: the curve's name as a PrintableString."""
ED25519_BYTES: Final = 32
REFUSED_PIN: Final = (
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.PinExpired,
)
NEVER_LEAVES: Final = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.DERIVE: False,
}


class Token:
    """A session with a token."""

    def __init__(self, module: str, label: str, pin: str) -> None:
        token = pkcs11.lib(module).get_token(token_label=label)
        self._session = token.open(rw=True, user_pin=pin)
        self._keys: dict[bytes, Any] = {}

    def find(self, key_id: bytes) -> Any:  # noqa: ANN401 - the package has no name for it
        """Return the private key of an id. Raises `pkcs11.NoSuchKey`."""
        if key_id not in self._keys:
            self._keys[key_id] = self._session.get_key(
                object_class=ObjectClass.PRIVATE_KEY, id=key_id
            )
        return self._keys[key_id]

    def sign(self, key_id: bytes, mechanism: str, data: bytes) -> bytes:
        """Return the signature in PKCS #11's own form."""
        signature: bytes = self.find(key_id).sign(data, mechanism=Mechanism[mechanism])
        return signature

    def generate(self, key_id: bytes, label: str, key_type: pki.KeyType, key_size: int) -> bytes:
        """Make a key that never leaves the token; return its public half, SubjectPublicKeyInfo."""
        what: dict[str, Any] = {
            "id": key_id,
            "label": label,
            "store": True,
            "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
            "private_template": NEVER_LEAVES,
        }
        if key_type is pki.KeyType.RSA:
            public, _ = self._session.generate_keypair(KeyType.RSA, key_size, **what)
            return rsa_public_key(public[Attribute.MODULUS], public[Attribute.PUBLIC_EXPONENT])
        if key_type is pki.KeyType.EC:
            curve = encode_named_curve_parameters(CURVES[key_size].name)
            public, _ = self._curve(KeyType.EC, curve).generate_keypair(**what)
            return encode_ec_public_key(public)
        public, _ = self._curve(KeyType.EC_EDWARDS, ED25519_PARAMETERS).generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, **what
        )
        return ed25519_public_key(public[Attribute.EC_POINT])

    def _curve(self, key_type: KeyType, parameters: bytes) -> Any:  # noqa: ANN401 - as in `find`
        attributes = {Attribute.EC_PARAMS: parameters}
        return self._session.create_domain_parameters(key_type, attributes, local=True)


def rsa_public_key(modulus: bytes, exponent: bytes) -> bytes:
    """Return an RSA key of PKCS #11 as SubjectPublicKeyInfo. Raises ValueError for another e."""
    if int.from_bytes(exponent) != RSA_EXPONENT:
        raise ValueError("the token makes RSA keys with another exponent")
    numbers = rsa.RSAPublicNumbers(RSA_EXPONENT, int.from_bytes(modulus))
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def ed25519_public_key(point: bytes) -> bytes:
    """Return an Ed25519 key of PKCS #11 as SubjectPublicKeyInfo; modules differ in its wrapping."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(point[-ED25519_BYTES:])
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def answer(token: Token, request: dict[str, Any]) -> bytes:
    """Do what a request asks for."""
    key_id = bytes.fromhex(request["key_id"])
    match request["do"]:
        case "sign":
            return token.sign(key_id, request["mechanism"], bytes.fromhex(request["data"]))
        case "generate":
            key_type = pki.KeyType(request["key_type"])
            return token.generate(key_id, request["label"], key_type, request["key_size"])
        case _:
            token.find(key_id)
            return b""


def main() -> None:
    """Serve until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: the parent decides
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a module prints is no answer
    requests: SimpleQueue[str] = SimpleQueue()
    # A thread, for this one has to notice the end of the input. One: modules are used by one.
    Thread(target=_serve, args=(requests, parent), daemon=True).start()
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # not `sys.exit`: a module that hangs would be waited for


def _serve(requests: "SimpleQueue[str]", parent: IO[str]) -> None:
    say = partial(print, file=parent, flush=True)
    try:
        token = Token(**json.loads(requests.get()))
        say("{}")
        while True:
            say(json.dumps({"result": answer(token, json.loads(requests.get())).hex()}))
    except Exception as error:  # noqa: BLE001 - whatever a module comes up with
        pin = isinstance(error, REFUSED_PIN)
        text = f"{type(error).__name__} {error}".strip()
        say(json.dumps({"error": text, "pin_refused": pin}))
    os._exit(1)


if __name__ == "__main__":
    main()
