"""A certificate authority whose key is open."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import NameConstraints
from services.issuer import keys
from services.issuer.domain import name_constraints
from services.issuer.domain.crl import CrlTemplate
from services.issuer.domain.encoding import Template
from services.issuer.domain.identities import Identity
from services.issuer.domain.name_constraints import names_permitted
from services.issuer.domain.profiles import (
    OCSP_RESPONDER,
    IssuerLinks,
    Profile,
    own_extensions,
    shared_extensions,
)
from services.issuer.keys import PrivateKey, SigningKey
from shared.x509 import fingerprint, serial_hex

LOG: Final = logging.getLogger(__name__)
WorkT = TypeVar("WorkT")
_FOREVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was signed, and is not recorded yet."""

    der: bytes
    serial_hex: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


def new_serial() -> int:
    """Return a serial number with 126 random bits (RFC 5280 section 4.1.2.2).

    The first octet's top bit is clear and the next one set: positive, and always 16 octets.
    """
    return int.from_bytes(os.urandom(16)) >> 2 | 1 << 126


class Authority:
    """Signs certificates of the kinds that it was made for, its OCSP responder's, and CRLs."""

    def __init__(
        self,
        name: x509.Name,
        key: PrivateKey | SigningKey,
        kinds: Iterable[CertificateKind],
        links: IssuerLinks | None = None,
        validity: tuple[datetime, datetime] = _FOREVER,
        constraints: NameConstraints | None = None,
    ) -> None:
        """Begin to sign; a CA that signs its own certificate has no links and no end yet."""
        self.name: Final = name.rfc4514_string()
        self._constraints = constraints
        self._name, self._public_key, self._links = name, key.public_key(), links
        self._validity = validity
        self._sign = keys.signer(key)
        self._blocks = not isinstance(key, PrivateKey)
        self._kinds = {OCSP_RESPONDER.kind, *kinds}
        self._templates: dict[tuple[object, ...], Template] = {}
        self.crl: Final = CrlTemplate.prepare(
            name, key.public_key(), links.key_identifier if links else b""
        )

    @classmethod
    def open(
        cls,
        certificate: x509.Certificate,
        slug: str,
        key: PrivateKey | SigningKey,
        kinds: Iterable[CertificateKind],
        public_url: str,
    ) -> "Authority":
        """Return the CA of a certificate and its key. Raises ValueError where they do not match."""
        if certificate.public_key() != key.public_key():
            raise ValueError(f"the key of {slug} is not the one of its certificate")
        return cls(
            certificate.subject,
            key,
            kinds,
            IssuerLinks.of(certificate, slug, public_url),
            (certificate.not_valid_before_utc, certificate.not_valid_after_utc),
            name_constraints.of(certificate),
        )

    def sign(
        self,
        profile: Profile,
        identity: Identity,
        public_key_der: bytes,
        *,
        serial: int,
        now: datetime,
    ) -> Certificate:
        """Sign a certificate.

        Raises `CA_CANNOT_SIGN`, and `AGAINST_POLICY` for names that the CA is not to speak for.
        """
        not_before, not_after = profile.validity_at(now, *self._validity)
        if not_after <= now:
            raise CertwireError(ErrorCode.CA_CANNOT_SIGN, "the CA's certificate has expired")
        if self._constraints is not None:
            names_permitted([self._constraints], identity.names, identity.subject)
        template = self._templates.get(profile.variant) or self._prepared(profile)
        to_be_signed = template.to_be_signed(
            serial,
            not_before,
            not_after,
            identity.subject,
            public_key_der,
            own_extensions(public_key_der, identity.names),
        )
        der = template.certificate(to_be_signed, self.signature(to_be_signed))
        return Certificate(der, serial_hex(serial), fingerprint(der), not_before, not_after)

    def _prepared(self, profile: Profile) -> Template:
        if profile.kind not in self._kinds:
            raise ValueError(f"{self.name} does not sign certificates of kind {profile.kind}")
        extensions = shared_extensions(profile, self._links)
        template = Template.prepare(self._name, self._public_key, extensions)
        self._templates[profile.variant] = template
        return template

    async def working(self, sign: Callable[[], WorkT]) -> WorkT:
        """Let it sign: in a thread where its key is in a token, for that may take a while."""
        return await asyncio.to_thread(sign) if self._blocks else sign()

    def signature(self, to_be_signed: bytes) -> bytes:
        """Return the key's signature. Raises `CA_CANNOT_SIGN`."""
        try:
            return self._sign(to_be_signed)
        except Exception as error:  # whatever the key's backend raises
            LOG.exception("the CA's key does not sign", extra={"ca": self.name})
            raise CertwireError(ErrorCode.CA_CANNOT_SIGN, "the CA cannot sign") from error
