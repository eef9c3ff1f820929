"""Keys in a token: what they sign, and what happens to whom when it is away."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import Attribute, ObjectClass

from services.issuer import keys, token
from services.issuer.keys import KeyAlgorithm
from services.issuer.token import Token, TokenError, TokenKey, _verify
from tests.support.softhsm import LABEL, PIN, SoftHsm, softhsm

__all__ = ["softhsm"]

ALGORITHMS = (
    KeyAlgorithm.P256,
    KeyAlgorithm.P384,
    KeyAlgorithm.P521,
    KeyAlgorithm.RSA2048,
    KeyAlgorithm.RSA3072,
    KeyAlgorithm.ED25519,
)
TYPES = {"p": ec.EllipticCurvePublicKey, "r": rsa.RSAPublicKey, "e": ed25519.Ed25519PublicKey}


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    file = tmp_path / "pkcs11.pin"
    file.write_text(PIN + "\n")
    return file


@pytest.fixture
def hsm(softhsm: SoftHsm, pin_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Token]:
    monkeypatch.setattr(token, "AWAY_SECONDS", 0.0)
    opened = Token(softhsm.module, LABEL, pin_file)
    yield opened
    opened.close()


def processes(hsm: Token) -> list[int]:
    return [session._process.pid for session in hsm._idle]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_key_of_every_kind_is_made_and_signs(hsm: Token, algorithm: KeyAlgorithm) -> None:
    key = hsm.generate(b"an id", "a label", algorithm)
    assert isinstance(key.public_key(), TYPES[str(algorithm)[0]])
    for data in (b"", b"data", b"x" * 100_000):
        _verify(key.public_key(), key.sign(data), data)
    assert keys.signer(key) == key.sign
    again = TokenKey(hsm, b"an id", key.public_key())
    again.sign(b"data")


def test_a_key_never_leaves_its_token(hsm: Token, softhsm: SoftHsm) -> None:
    for number, algorithm in enumerate(ALGORITHMS):
        hsm.generate(bytes([number]), "a label", algorithm)
    opened = pkcs11.lib(str(softhsm.module)).get_token(token_label=LABEL).open(user_pin=PIN)
    private: list[Any] = list(opened.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
    assert len(private) == len(ALGORITHMS)
    for key in private:
        assert key[Attribute.EXTRACTABLE] is False
        assert key[Attribute.NEVER_EXTRACTABLE] is True
        assert key[Attribute.SENSITIVE] is True
        assert key[Attribute.LOCAL] is True
        with pytest.raises((pkcs11.AttributeSensitive, pkcs11.AttributeTypeInvalid)):
            _ = key[
                Attribute.PRIVATE_EXPONENT
                if key.key_type is pkcs11.KeyType.RSA
                else Attribute.VALUE
            ]
    opened.close()
    pkcs11.unload(str(softhsm.module))


def test_many_sign_at_a_time(hsm: Token) -> None:
    key = hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    with ThreadPoolExecutor(8) as pool:
        signatures = set(pool.map(key.sign, [b"%d" % number for number in range(200)]))
    assert len(signatures) == 200
    assert len(processes(hsm)) <= token.MOST_SESSIONS


def test_a_session_that_was_lost_is_opened_again(hsm: Token) -> None:
    key = hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    key.sign(b"data")
    for pid in processes(hsm):
        os.kill(pid, signal.SIGKILL)
    key.sign(b"data")


def test_a_module_that_hangs_is_ended(hsm: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    key = hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    key.sign(b"data")
    (hanging,) = processes(hsm)
    os.kill(hanging, signal.SIGSTOP)
    monkeypatch.setattr(token, "PATIENCE_SECONDS", 3.0)
    key.sign(b"data")
    assert hanging not in processes(hsm)
    assert not Path(f"/proc/{hanging}").exists()


def test_a_token_that_is_away_is_an_error_until_it_is_back(hsm: Token, softhsm: SoftHsm) -> None:
    key = hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    hsm.close()
    softhsm.take_away()
    for _ in range(2):
        with pytest.raises(TokenError):
            key.sign(b"data")
    softhsm.put_back()
    key.sign(b"data")


def test_while_it_is_away_nobody_waits_for_it(
    hsm: Token, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token, "AWAY_SECONDS", 60.0)
    softhsm.take_away()
    with pytest.raises(TokenError) as first:
        hsm.find(b"an id")
    monkeypatch.setattr(token, "_Session", None)  # it is not even tried
    with pytest.raises(TokenError, match=str(first.value)):
        hsm.find(b"an id")


def test_a_pin_that_was_refused_is_not_tried_again(
    hsm: Token, pin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    pin_file.write_text("another PIN")
    with pytest.raises(TokenError, match="PinIncorrect"):
        key.sign(b"data")
    with monkeypatch.context() as patch:
        patch.setattr(token, "_Session", None)
        with pytest.raises(TokenError, match="refused its PIN"):
            key.sign(b"data")
    pin_file.write_text(PIN)
    key.sign(b"data")


def test_a_missing_pin_or_module_is_an_error(softhsm: SoftHsm, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="no-such-file"):
        Token(softhsm.module, LABEL, tmp_path / "no-such-file").find(b"an id")
    (tmp_path / "pin").write_text(PIN)
    with pytest.raises(TokenError, match="no-such-module"):
        Token(Path("/no-such-module.so"), LABEL, tmp_path / "pin").find(b"an id")


def test_another_key_under_the_id_signs_nothing(hsm: Token) -> None:
    hsm.generate(b"an id", "a label", KeyAlgorithm.P256)
    public = keys.generate(KeyAlgorithm.P256).public_key()
    with pytest.raises(TokenError, match="not the one of the certificate"):
        TokenKey(hsm, b"an id", public).sign(b"data")
    with pytest.raises(TokenError, match="NoSuchKey"):
        TokenKey(hsm, b"another", public).sign(b"data")
