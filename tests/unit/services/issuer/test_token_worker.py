"""What the process beside a token says, and when it ends. The token itself: test_token.py."""

import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.issuer import keys
from services.issuer.keys import KeyAlgorithm
from services.issuer.token_worker import ed25519_public_key, rsa_public_key
from shared.x509 import public_key_der
from tests.support.softhsm import LABEL, PIN, SoftHsm, softhsm

__all__ = ["softhsm"]

WORKER = [sys.executable, "-m", "services.issuer.token_worker"]


def answer(opening: dict[str, str]) -> dict[str, object]:
    """Return what a process says to its first line, after which it has to end."""
    with subprocess.Popen(
        WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin
        assert worker.stdout
        print(json.dumps(opening), file=worker.stdin, flush=True)
        reply: dict[str, object] = json.loads(worker.stdout.readline())
        assert worker.wait(10) == 1
        return reply


def test_it_ends_with_its_input() -> None:
    done = subprocess.run(WORKER, input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_module_that_cannot_be_loaded_is_an_answer() -> None:
    reply = answer({"module": "/none.so", "label": LABEL, "pin": PIN})
    assert "/none.so" in str(reply)
    assert PIN not in str(reply)
    assert reply["pin_refused"] is False


def test_a_wrong_pin_is_told_apart(softhsm: SoftHsm) -> None:
    reply = answer({"module": str(softhsm.module), "label": LABEL, "pin": "a wrong one"})
    assert "a wrong one" not in str(reply)
    assert reply["pin_refused"] is True


def test_public_keys_are_told_as_certificates_hold_them() -> None:
    key = keys.generate(KeyAlgorithm.ED25519)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    raw = key.public_key().public_bytes_raw()
    for point in (raw, b"\x04\x20" + raw):  # modules differ
        assert ed25519_public_key(point) == public_key_der(key.public_key())
    modulus = (3**1300).to_bytes(258)
    loaded = load_der_public_key(rsa_public_key(modulus, b"\x01\x00\x01"))
    assert isinstance(loaded, rsa.RSAPublicKey)
    assert loaded.public_numbers().n == 3**1300
    with pytest.raises(ValueError, match="exponent"):
        rsa_public_key(modulus, b"\x03")
