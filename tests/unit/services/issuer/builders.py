"""Keys, CAs and commands for the issuer's tests."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from cryptography import x509

from contracts.issuer import SignInstanceCertificate
from contracts.principal import Principal, PrincipalKind
from services.issuer import keys
from services.issuer.authority import Authority, Certificate, new_serial
from services.issuer.domain import identities
from services.issuer.domain.identities import Identity
from services.issuer.domain.profiles import (
    ADMIN,
    AGENT,
    GATEWAY,
    INSTANCE,
    ISSUING_CA,
    PLATFORM_KINDS,
    ROOT_CA,
    Profile,
)
from services.issuer.keys import KeyAlgorithm, PrivateKey
from shared.identifiers import uuid7
from shared.x509 import public_key_der
from tests.support.csr import csr_pem
from tests.support.running import call

PUBLIC_URL = "http://pki.example.com"
TRUST_DOMAIN = "certwire.internal"
INSTANCE_ID = UUID("497f6eca-6276-4993-bfeb-53cbbbba6f08")
NOW = datetime(2026, 11, 21, 12, 0, 0, 900_000, tzinfo=UTC)
ACTOR = Principal(kind=PrincipalKind.INSTANCE, id=str(INSTANCE_ID), name="edge-1")
CA_ALGORITHMS = (
    KeyAlgorithm.P256,
    KeyAlgorithm.P384,
    KeyAlgorithm.P521,
    KeyAlgorithm.RSA2048,
    KeyAlgorithm.ED25519,
)
LEAVES: dict[Profile, Identity] = {
    INSTANCE: identities.instance(INSTANCE_ID, TRUST_DOMAIN),
    AGENT: identities.agent("edge-1", TRUST_DOMAIN),
    ADMIN: identities.admin(TRUST_DOMAIN),
    GATEWAY: identities.gateway(["gateway.example.com", "127.0.0.1", "::1"]),
}


@cache
def key_of(algorithm: KeyAlgorithm, use: str = "subject") -> PrivateKey:
    """Return a key; RSA is slow to make, so each use has one."""
    del use
    return keys.generate(algorithm)


def sign(
    authority: Authority, profile: Profile, identity: Identity, key: PrivateKey
) -> Certificate:
    """Sign a key now."""
    der = public_key_der(key.public_key())
    return authority.sign(profile, identity, der, serial=new_serial(), now=NOW)


class Hierarchy:
    """A root and an issuing CA of one key algorithm, made without a database."""

    def __init__(self, algorithm: KeyAlgorithm, public_url: str = PUBLIC_URL) -> None:
        root_key, issuing_key = key_of(algorithm, "root"), key_of(algorithm, "issuing")
        name = identities.platform_ca("Example Root CA", "example-root-ca-1", "Example")
        self.root = sign(Authority(name.subject, root_key, [ROOT_CA.kind]), ROOT_CA, name, root_key)
        root = Authority.open(
            loaded(self.root), name.owner_id, root_key, [ISSUING_CA.kind], public_url
        )
        name = identities.platform_ca("Example Issuing CA", "example-issuing-ca-2", "Example")
        self.issuing = sign(root, ISSUING_CA, name, issuing_key)
        self.authority = Authority.open(
            loaded(self.issuing), name.owner_id, issuing_key, PLATFORM_KINDS, public_url
        )


def loaded(certificate: Certificate) -> x509.Certificate:
    """Return a certificate as cryptography reads it."""
    return x509.load_der_x509_certificate(certificate.der)


def order(
    claim_id: UUID | None = None,
    csr: str | None = None,
    instance_id: UUID = INSTANCE_ID,
    renews: str | None = None,
) -> SignInstanceCertificate:
    """Return the command that signs an instance's certificate."""
    return SignInstanceCertificate(
        call=call(),
        claim_id=claim_id or uuid7(),
        actor=ACTOR,
        csr_pem=csr_pem() if csr is None else csr,
        instance_id=instance_id,
        renews=renews,
    )


def extension_oids(certificate: x509.Certificate) -> Sequence[str]:
    """Return the extensions that a certificate has."""
    return [extension.oid.dotted_string for extension in certificate.extensions]
