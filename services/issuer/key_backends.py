"""Where the keys of CAs are: sealed in Postgres, or in a PKCS #11 token.

The setting says where new ones are made; a CA's row says where its own is, so both kinds work side
by side. Keys of certificates and of OCSP responders are always sealed.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from services.issuer import keys
from services.issuer.keys import KeyAlgorithm, PrivateKey, SigningKey
from services.issuer.settings import IssuerSettings, KeyBackendName
from services.issuer.store.cas import Ca
from services.issuer.store.sealed import CA_KEY
from services.issuer.token import Token, TokenError, TokenKey
from shared.secrets import Sealer, UnsealError
from shared.x509 import PublicKey

LOG: Final = logging.getLogger(__name__)
LABEL: Final = "certwire ca"
"""Of the keys in the token, for those who look into it."""
KEY_ID_BYTES: Final = 16
"""Of the CKA_ID: random, for a token may hold keys of others."""


class KeyUnavailableError(Exception):
    """The key of a CA is not to be had; the text says why, to operators."""


@dataclass(frozen=True, slots=True)
class CaKey:
    """The key of a CA that is about to be made, and where it is."""

    key: PrivateKey | SigningKey = field(repr=False)
    key_backend: str
    key_handle: bytes | None = None

    @property
    def exportable(self) -> PrivateKey | None:
        """Return the key itself, None where it never leaves its token."""
        return self.key if isinstance(self.key, PrivateKey) else None

    def sealed(self, sealer: Sealer, ca_id: int) -> bytes | None:
        """Return the key as the CA's row keeps it, None where that keeps the handle only."""
        key = self.exportable
        return None if key is None else sealer.seal(keys.to_der(key), CA_KEY.row(ca_id))


class KeyBackend(Protocol):
    """One place for keys."""

    async def make(self, algorithm: KeyAlgorithm) -> CaKey:
        """Make the key of a CA that is about to be made."""
        ...

    def open(self, ca: Ca) -> PrivateKey | SigningKey:
        """Return the key of a CA. Raises `UnsealError`, `TokenError` and ValueError."""
        ...


class SealedKeys:
    """Keys in the rows of their CAs, sealed."""

    def __init__(
        self, settings: IssuerSettings, take: Callable[[KeyAlgorithm], Awaitable[PrivateKey]]
    ) -> None:
        self._settings = settings
        self._take = take

    async def make(self, algorithm: KeyAlgorithm) -> CaKey:
        """Take a key from the pool."""
        return CaKey(await self._take(algorithm), KeyBackendName.SEALED)

    def open(self, ca: Ca) -> PrivateKey:
        """Unseal the key."""
        return keys.from_der(self._settings.sealer.open(ca.sealed_key or b"", CA_KEY.row(ca.id)))


class TokenKeys:
    """Keys in the token that the settings name."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def make(self, algorithm: KeyAlgorithm) -> CaKey:
        """Make a key in the token; one whose CA is not made after all stays there, unused."""
        key_id = os.urandom(KEY_ID_BYTES)
        key = await asyncio.to_thread(self._token.generate, key_id, LABEL, algorithm)
        return CaKey(key, KeyBackendName.PKCS11, key_handle=key_id)

    def open(self, ca: Ca) -> TokenKey:
        """Return the key, which is looked for when it is to sign: the token may be away."""
        certificate = x509.load_der_x509_certificate(ca.certificate)
        public: PublicKey = certificate.public_key()  # type: ignore[assignment]  # a CA's key signs
        return TokenKey(self._token, ca.key_handle or b"", public)


async def generated(algorithm: KeyAlgorithm) -> PrivateKey:
    """Return a new key, made in a thread: where there is no pool, as in `certwire init`."""
    return await asyncio.to_thread(keys.generate, algorithm)


class KeyBackends:
    """All places for keys."""

    def __init__(
        self,
        settings: IssuerSettings,
        take: Callable[[KeyAlgorithm], Awaitable[PrivateKey]] = generated,
    ) -> None:
        self._settings = settings
        self._take = take

    async def make(self, algorithm: KeyAlgorithm) -> CaKey:
        """Make a CA's key where the setting says; not within a transaction, for it may take long.

        Raises `CA_CANNOT_SIGN` where the token does not make it, and what `Keys.take` does.
        """
        try:
            return await self._named(self._settings.issuer_key_backend).make(algorithm)
        except TokenError as error:
            LOG.warning("no key is made", extra={"problem": str(error)})
            raise CertwireError(ErrorCode.CA_CANNOT_SIGN, "the token makes no key") from error

    def open(self, ca: Ca) -> PrivateKey | SigningKey:
        """Return a CA's key, wherever it is. Raises `KeyUnavailableError`."""
        try:
            return self._named(ca.key_backend).open(ca)
        except FileNotFoundError as error:
            raise KeyUnavailableError("the key-encryption key is missing") from error
        except (UnsealError, ValueError) as error:
            raise KeyUnavailableError(str(error)) from error

    async def problems(self, ca: Ca) -> list[str]:
        """Return what keeps a CA's key from signing, as far as it can change while it is open."""
        if ca.key_backend != KeyBackendName.PKCS11:
            return []
        try:
            token = self._settings.token
            await asyncio.to_thread(token.find, ca.key_handle or b"")
        except (TokenError, ValueError) as error:
            return [str(error)]
        return []

    def _named(self, name: str) -> KeyBackend:
        if name == KeyBackendName.SEALED:
            return SealedKeys(self._settings, self._take)
        if name == KeyBackendName.PKCS11:
            return TokenKeys(self._settings.token)
        raise ValueError("its key is a file, for `certwire ca` alone")
