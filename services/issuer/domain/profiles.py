"""The profiles: what a certificate of each kind contains. The only source of extensions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.subjects import Service
from services.issuer.domain.encoding import public_key_bits

Extension: TypeAlias = tuple[x509.ExtensionType, bool]
"""An extension's value, and whether it is critical."""

BACKDATED: Final = timedelta(seconds=30)
"""For peers whose clocks are behind; with the cut to whole seconds it stays below 60 s."""
TWO_YEARS: Final = timedelta(days=731)
TEN_YEARS: Final = timedelta(days=3653)
TWENTY_YEARS: Final = timedelta(days=7305)


@dataclass(frozen=True, slots=True)
class Profile:
    """How certificates of one kind are made.

    `owner` is the service that answers for them. `path_length` is for CAs (RFC 5280 section
    4.2.1.9); None sets no limit. `key_encipherment` is for RSA keys of TLS servers.
    """

    kind: CertificateKind
    owner: Service
    validity: timedelta
    usages: tuple[x509.ObjectIdentifier, ...] = ()
    is_ca: bool = False
    path_length: int | None = None
    name_constraints: x509.NameConstraints | None = None
    key_encipherment: bool = False

    @property
    def variant(self) -> tuple[object, ...]:
        """Return what the extensions depend on; the rest is in the kind."""
        return self.kind, self.path_length, self.name_constraints, self.key_encipherment

    def validity_at(
        self, now: datetime, issuer_not_before: datetime, issuer_not_after: datetime
    ) -> tuple[datetime, datetime]:
        """Return `notBefore` and `notAfter`, both inclusive, within the issuer's own."""
        not_before = max((now - BACKDATED).replace(microsecond=0), issuer_not_before)
        not_after = min(not_before + self.validity - timedelta(seconds=1), issuer_not_after)
        return not_before, not_after


# A root says nothing about depth: it is opened by hand only, and the CAs below it end the path.
ROOT_CA: Final = Profile(CertificateKind.ROOT_CA, Service.ISSUER, TWENTY_YEARS, is_ca=True)
ISSUING_CA: Final = Profile(
    CertificateKind.ISSUING_CA, Service.ISSUER, TEN_YEARS, is_ca=True, path_length=0
)
GATEWAY: Final = Profile(
    CertificateKind.GATEWAY,
    Service.GATEWAY,
    timedelta(days=90),
    (ExtendedKeyUsageOID.SERVER_AUTH,),
)
ADMIN: Final = Profile(
    CertificateKind.ADMIN, Service.REGISTRY, TWO_YEARS, (ExtendedKeyUsageOID.CLIENT_AUTH,)
)
AGENT: Final = Profile(
    CertificateKind.AGENT, Service.REGISTRY, TWO_YEARS, (ExtendedKeyUsageOID.CLIENT_AUTH,)
)
INSTANCE: Final = Profile(
    CertificateKind.INSTANCE,
    Service.INSTANCE,
    timedelta(hours=24),
    (ExtendedKeyUsageOID.CLIENT_AUTH,),
)
OCSP_RESPONDER: Final = Profile(
    CertificateKind.OCSP_RESPONDER,
    Service.ISSUER,
    timedelta(days=7),
    (ExtendedKeyUsageOID.OCSP_SIGNING,),
)
"""Its certificate is not checked for revocation (RFC 6960 section 4.2.2.2.1): it is short-lived."""
PLATFORM_LEAVES: Final = (GATEWAY, ADMIN, AGENT, INSTANCE)
PLATFORM_KINDS: Final = frozenset(profile.kind for profile in PLATFORM_LEAVES)
"""What the platform's issuing CA signs."""
USER_USAGES: Final = {
    CertificateKind.SERVER: (ExtendedKeyUsageOID.SERVER_AUTH,),
    CertificateKind.CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    CertificateKind.DUAL_PURPOSE: (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ),
}
"""What users' certificates are for, those of CAs aside."""
USER_KINDS: Final = frozenset({*USER_USAGES, CertificateKind.CA})
"""What users' CAs sign."""


@lru_cache(maxsize=1024)
def user_leaf(kind: CertificateKind, valid_days: int, *, rsa: bool) -> Profile:
    """Return the profile of a user's certificate; `rsa` is whether its key is one.

    TLS up to 1.2 enciphers with the RSA key of a server, and with no other (RFC 5246 section
    7.4.2; CA/Browser Forum BR 7.1.2.7.11).
    """
    usages = USER_USAGES[kind]
    return Profile(
        kind,
        Service.ISSUER,
        timedelta(days=valid_days),
        usages,
        key_encipherment=rsa and ExtendedKeyUsageOID.SERVER_AUTH in usages,
    )


def user_ca(
    valid_days: int,
    path_length: int | None,
    name_constraints: x509.NameConstraints | None = None,
) -> Profile:
    """Return the profile of a user's CA."""
    return Profile(
        CertificateKind.CA,
        Service.ISSUER,
        timedelta(days=valid_days),
        is_ca=True,
        path_length=path_length,
        name_constraints=name_constraints,
    )


def path_length_below(path_length: int | None) -> int | None:
    """Return the largest path length of a CA below one; None is no limit.

    Raises `AGAINST_POLICY` where there is no room for any (RFC 5280 section 4.2.1.9).
    """
    if path_length == 0:
        raise CertwireError(
            ErrorCode.AGAINST_POLICY, "The CA's path length is 0: it cannot have CAs below it"
        )
    return None if path_length is None else path_length - 1


@dataclass(frozen=True, slots=True)
class IssuerLinks:
    """What certificates say about the CA that signed them."""

    key_identifier: bytes
    crl_url: str
    certificate_url: str
    ocsp_url: str

    @classmethod
    def of(cls, certificate: x509.Certificate, slug: str, public_url: str) -> "IssuerLinks":
        """Return the links of a CA: CRL, certificate and OCSP below the public URL."""
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        base = public_url.rstrip("/")
        return cls(
            identifier.value.digest,
            f"{base}/crl/{slug}",
            f"{base}/ca/{slug}.crt",
            f"{base}/ocsp/{slug}",
        )


def shared_extensions(profile: Profile, issuer: IssuerLinks | None) -> list[Extension]:
    """Return the extensions that all certificates of a profile under one CA have.

    A self-signed certificate has no issuer to point to.
    """
    constraints = x509.BasicConstraints(ca=profile.is_ca, path_length=profile.path_length)
    extensions: list[Extension] = [(constraints, True), (_key_usage(profile), True)]
    if profile.name_constraints is not None:
        extensions.append((profile.name_constraints, True))
    if profile.usages:
        extensions.append((x509.ExtendedKeyUsage(profile.usages), False))
    if ExtendedKeyUsageOID.OCSP_SIGNING in profile.usages:
        extensions.append((x509.OCSPNoCheck(), False))
    if issuer is not None:
        extensions += _pointers(issuer)
    return extensions


def own_extensions(
    public_key_der: bytes, names: Sequence[x509.GeneralName]
) -> tuple[Extension, ...]:
    """Return the extensions that differ from one certificate to the next."""
    identifier = x509.SubjectKeyIdentifier(key_identifier(public_key_der))
    if not names:
        return ((identifier, False),)
    return (identifier, False), (x509.SubjectAlternativeName(names), False)


def key_identifier(public_key_der: bytes) -> bytes:
    """Return the identifier of a key by method 1 of RFC 7093: 160 bits of a SHA-256."""
    return hashlib.sha256(public_key_bits(public_key_der)).digest()[:20]


def _key_usage(profile: Profile) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not profile.is_ca,
        content_commitment=False,
        key_encipherment=profile.key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=profile.is_ca,
        crl_sign=profile.is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pointers(issuer: IssuerLinks) -> list[Extension]:
    """Return where to find the issuer's key, CRL, certificate and OCSP responder."""
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(issuer.crl_url)], None, None, None)
    access = [
        x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
        for method, url in (
            (AuthorityInformationAccessOID.OCSP, issuer.ocsp_url),
            (AuthorityInformationAccessOID.CA_ISSUERS, issuer.certificate_url),
        )
    ]
    return [
        (x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None), False),
        (x509.CRLDistributionPoints([crl]), False),
        (x509.AuthorityInformationAccess(access), False),
    ]
