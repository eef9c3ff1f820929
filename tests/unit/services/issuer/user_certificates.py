"""What users ask for of certificates, and CAs to sign them."""

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.certificates import CertificateKind
from contracts.pki import CaView, CreateCertificate, KeyType, SignCsr, SubjectNames
from contracts.principal import Principal
from services.issuer.domain import distinguished_names
from services.issuer.handlers.cas import create_ca
from services.issuer.service import Issuer
from tests.support.csr import new_key
from tests.support.running import call
from tests.unit.services.issuer.users import ADMIN, new_ca


async def a_ca(issuer: Issuer, name: str = "Acme Root", **others: Any) -> CaView:  # noqa: ANN401 - any field
    """Make a CA."""
    return (await create_ca(new_ca(name, **others), issuer)).ca


def csr_of(
    subject: str = "CN=api.example.com,O=Acme Corp,C=US",
    *extensions: x509.ExtensionType,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> str:
    """Return a CSR in PEM."""
    name = distinguished_names.parse(subject) if subject else x509.Name([])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key or new_key(), SHA256()).public_bytes(Encoding.PEM).decode()


def signing(ca: CaView | None = None, actor: Principal = ADMIN, **others: Any) -> SignCsr:  # noqa: ANN401 - any field
    """Return the command that signs a CSR; `names` are those of `SubjectNames`."""
    names = {name: others.pop(name) for name in list(others) if name in SubjectNames.model_fields}
    asked = {"csr_pem": None, "certificate_type": CertificateKind.SERVER, "call": call(), **others}
    if asked["csr_pem"] is None:
        asked["csr_pem"] = csr_of()
    if ca is not None:
        asked["ca_id"] = ca.id
    return SignCsr(actor=actor, names=SubjectNames(**names), **asked)


def creation(ca: CaView, actor: Principal = ADMIN, **others: Any) -> CreateCertificate:  # noqa: ANN401 - any field
    """Return the command that makes a certificate; of P-256, for that is quick."""
    names = {"common_name": "api.example.com", "subject_dn": "CN=api.example.com,O=Acme Corp,C=US"}
    for name in SubjectNames.model_fields:
        if name in others:
            names[name] = others.pop(name)
    asked = {
        "certificate_type": CertificateKind.SERVER,
        "key_type": KeyType.EC,
        "call": call(),
        **others,
    }
    return CreateCertificate(actor=actor, ca_id=ca.id, names=SubjectNames(**names), **asked)


def loaded(certificate_pem: str) -> x509.Certificate:
    """Return a certificate as cryptography reads it."""
    return x509.load_pem_x509_certificate(certificate_pem.encode())


def alternative_names(certificate_pem: str) -> list[str]:
    """Return the names of a certificate, by value."""
    extensions = loaded(certificate_pem).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]
