"""CAs that nobody asked here: roots, intermediates, cross-signed ones, and what they sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

NOW = datetime(2026, 3, 14, 3, 0, 0, 500_000, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "api.example.com"
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@cache
def rsa_key(bits: int = 2048, use: str = "") -> rsa.RSAPrivateKey:
    """Return an RSA key; they are slow to make, so each use has one."""
    del use
    return rsa.generate_private_key(65537, bits)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(*certificates: x509.Certificate) -> str:
    """Return certificates in PEM, one after the other."""
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def key_pem(key: Key) -> str:
    """Return a key as PKCS #8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def named(common_name: str | None = None, organization: str | None = None) -> x509.Name:
    """Return a distinguished name."""
    parts = {NameOID.ORGANIZATION_NAME: organization, NameOID.COMMON_NAME: common_name}
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items() if text])


def alternative_names(*names: str) -> x509.SubjectAlternativeName:
    """Return a subjectAltName of DNS names and IP addresses."""
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Issued:
    """A leaf with its key."""

    certificate: x509.Certificate
    key: Key


class Ca:
    """A key with a name, and its certificates: its own as a root, or what others signed."""

    def __init__(
        self, name: str, organization: str | None = "Example Trust", key: Key | None = None
    ) -> None:
        self.name = named(name, organization)
        self.key = key or new_key()

    def root(
        self, *, ends: timedelta = 1000 * DAY, path_length: int | None = None
    ) -> x509.Certificate:
        """Return its certificate, signed by itself."""
        return self.certify(self, ends=ends, path_length=path_length)

    def certify(
        self,
        other: "Ca",
        *,
        begins: timedelta = -100 * DAY,
        ends: timedelta = 1000 * DAY,
        path_length: int | None = None,
        ca: bool | None = True,
        sign_usage: bool | None = True,
        key_id: bytes | None = None,
        authority_key_id: bytes | None = None,
    ) -> x509.Certificate:
        """Return another CA's certificate; `ca` None leaves its extension out."""
        builder = self._builder(other.name, other.key, begins, ends)
        if ca is not None:
            constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
            builder = builder.add_extension(constraints, critical=True)
        if sign_usage is not None:
            builder = builder.add_extension(usage(key_cert_sign=sign_usage), critical=True)
        key_ids: list[x509.ExtensionType] = [
            x509.SubjectKeyIdentifier(key_id or _key_id(other.key)),
            x509.AuthorityKeyIdentifier(authority_key_id or _key_id(self.key), None, None),
        ]
        for extension in key_ids:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, _hash_for(self.key))

    def leaf(
        self,
        *names: str,
        key: Key | None = None,
        subject: x509.Name | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = 89 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = SERVER,
        extensions: Sequence[x509.ExtensionType] = (),
        authority_key_id: bytes | None = None,
        serial: int | None = None,
    ) -> Issued:
        """Return a server's certificate."""
        key = key or new_key()
        builder = self._builder(
            named(names[0] if names else "x") if subject is None else subject,
            key,
            begins,
            ends,
            serial,
        )
        own: list[x509.ExtensionType] = [
            x509.AuthorityKeyIdentifier(authority_key_id or _key_id(self.key), None, None)
        ]
        if usages:
            own.append(x509.ExtendedKeyUsage(usages))
        if names:
            own.append(alternative_names(*names))
        for extension in [*own, *extensions]:
            builder = builder.add_extension(extension, critical=False)
        return Issued(builder.sign(self.key, _hash_for(self.key)), key)

    def _builder(
        self,
        subject: x509.Name,
        key: Key,
        begins: timedelta,
        ends: timedelta,
        serial: int | None = None,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(NOW + begins)
            .not_valid_after(NOW + ends)
        )


class Hierarchy:
    """A root, an intermediate, and a leaf below it."""

    def __init__(self, *names: str) -> None:
        self.root_ca, self.issuing_ca = Ca("Example Root"), Ca("Example CA 1")
        self.root = self.root_ca.root()
        self.intermediate = self.root_ca.certify(self.issuing_ca, path_length=0)
        self.issued = self.issuing_ca.leaf(*(names or (DOMAIN,)))
        self.leaf, self.key = self.issued.certificate, self.issued.key


def usage(*, digital_signature: bool = True, key_cert_sign: bool = False) -> x509.KeyUsage:
    """Return a keyUsage extension."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=not digital_signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id(key: Key) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def _hash_for(key: Key) -> hashes.SHA256 | None:
    """Return what is hashed with; Edwards curves do it themselves."""
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return None if edwards else hashes.SHA256()
