"""A PKCS #11 token in software: SoftHSM, which keeps it in a directory."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.programs import path_of

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
)
LABEL, PIN = "certwire", "a PIN of tests"


@dataclass(frozen=True)
class SoftHsm:
    """A token of one test's own."""

    directory: Path
    module: Path

    @classmethod
    def create(cls, directory: Path) -> "SoftHsm":
        """Make a token; skip the test where there is no SoftHSM, but not in CI."""
        program = path_of("softhsm2-util")
        module = next(module for module in MODULES if module.exists())
        token = cls(directory, module)
        token.tokens.mkdir(parents=True)
        token.configuration.write_text(
            f"directories.tokendir = {token.tokens}\nobjectstore.backend = file\n"
        )
        words = ("--init-token", "--free", "--label", LABEL, "--so-pin", "an SO PIN", "--pin", PIN)
        subprocess.run(
            [program, *words],
            env={**os.environ, **token.environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return token

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    @property
    def configuration(self) -> Path:
        return self.directory / "softhsm2.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Return what every process that uses the token has to have."""
        return {"SOFTHSM2_CONF": str(self.configuration)}

    @property
    def settings(self) -> dict[str, str]:
        """Return the issuer's settings for it; the PIN is a secret file."""
        return {
            "issuer_key_backend": "pkcs11",
            "pkcs11_module": str(self.module),
            "pkcs11_token": LABEL,
        }

    def take_away(self) -> None:
        """Pull it out."""
        self.tokens.rename(self.directory / "away")

    def put_back(self) -> None:
        """Put it in again."""
        (self.directory / "away").rename(self.tokens)


@pytest.fixture
def softhsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token that this process and those it starts find."""
    token = SoftHsm.create(tmp_path / "softhsm")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    return token
