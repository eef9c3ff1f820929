"""The platform's CAs as this process knows them: opened at the start, followed afterwards."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from services.issuer.authority import Authority
from services.issuer.domain.encoding import pem
from services.issuer.domain.profiles import PLATFORM_KINDS, USER_KINDS
from services.issuer.key_backends import KeyBackends, KeyUnavailableError
from services.issuer.keys import PrivateKey, SigningKey
from services.issuer.settings import IssuerSettings
from services.issuer.store import cas
from services.issuer.store.cas import ACTIVE, PLATFORM_ISSUING, USER, Ca
from shared.database import Database
from shared.x509 import bundle

FOLLOW_SECONDS: Final = 2.0
"""How soon every replica knows of a CA that was made or retired elsewhere."""
MOST_OPEN: Final = 1_000
"""Users' CAs whose keys are kept open; the one that was opened first is closed for the next."""
WARN_BEFORE: Final = timedelta(days=60)
"""The architecture's: what ends within it is named by `certwire status`."""


class Authorities:
    """Which CAs there are, and the one that signs: the newest issuing CA that is in use."""

    def __init__(self, settings: IssuerSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._backends = KeyBackends(settings)
        self._cas: list[Ca] = []
        self._signing: tuple[Ca, Authority] | None = None
        self._opened: dict[int, Authority] = {}

    async def load(self) -> None:
        """Read the CAs and open the key of the one that signs.

        Raises `NOT_INITIALISED` where there is none, and where its key does not open.
        """
        async with self._database.connection() as connection:
            known = await cas.platform_cas(connection)
        if known == self._cas and self._signing is not None:
            return
        self._cas, self._signing = known, None
        issuing = [ca for ca in known if ca.kind == PLATFORM_ISSUING and ca.state == ACTIVE]
        if not issuing:
            raise _not_initialised("there is no issuing CA: run `certwire init`")
        self._signing = issuing[-1], self._open(issuing[-1])

    async def follow(self) -> None:
        """Keep up with what other replicas and `certwire ca` do."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            await self.load()

    def authority(self, ca: Ca) -> Authority:
        """Return a user's CA with its key open; the row says nothing of whether it may sign.

        Raises `CA_CANNOT_SIGN` where the key does not open.
        """
        authority = self._opened.get(ca.id)
        if authority is None:
            if len(self._opened) >= MOST_OPEN:
                self._opened.pop(next(iter(self._opened)))
            authority = self._opened[ca.id] = self._open(ca)
        return authority

    def signing(self) -> tuple[Ca, Authority]:
        """Return the CA that signs. Raises `CA_CANNOT_SIGN`."""
        if self._signing is None:
            raise CertwireError(ErrorCode.CA_CANNOT_SIGN, "there is no issuing CA")
        return self._signing

    async def problems(self) -> list[str]:
        """Return what keeps the issuer from signing."""
        if self._signing is None:
            return ["an issuing CA whose key opens"]
        return await self._backends.problems(self._signing[0])

    def bundle(self) -> str:
        """Return the root and every issuing certificate in use, root first, in PEM."""
        return bundle([pem(ca.certificate) for ca in self._cas if ca.state == ACTIVE])

    def chain(self) -> list[Ca]:
        """Return the CA that signs and those above it, the root last."""
        by_id = {ca.id: ca for ca in self._cas}
        chain = [self.signing()[0]]
        while (parent := chain[-1].parent_id) is not None:
            chain.append(by_id[parent])
        return chain

    def ending(self, now: datetime) -> list[str]:
        """Return a warning for each CA in use whose certificate ends soon."""
        return [
            f"the certificate of {ca.slug} ends on {ca.not_after:%Y-%m-%d}"
            for ca in self._cas
            if ca.state == ACTIVE and ca.not_after - now < WARN_BEFORE
        ]

    def key(self, ca: Ca) -> PrivateKey | SigningKey:
        """Return the key of a CA, which may be in a token. Raises `NOT_INITIALISED`."""
        try:
            return self._backends.open(ca)
        except KeyUnavailableError as error:
            raise _not_initialised(f"the key of {ca.slug} does not open: {error}") from None

    def _open(self, ca: Ca) -> Authority:
        key = self.key(ca)
        try:
            certificate = x509.load_der_x509_certificate(ca.certificate)
            kinds = USER_KINDS if ca.kind == USER else PLATFORM_KINDS
            url = ca.crl_base_url or self._settings.public_url
            return Authority.open(certificate, ca.slug, key, kinds, url)
        except ValueError as error:
            raise _not_initialised(f"the key of {ca.slug} does not open: {error}") from None


def _not_initialised(detail: str) -> CertwireError:
    return CertwireError(ErrorCode.NOT_INITIALISED, detail)
