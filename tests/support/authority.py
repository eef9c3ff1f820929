"""A CA of the tests' own: the platform's for a stand-in, or a stranger's."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.clock import utc_now
from shared.x509 import fingerprint

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
DAY = timedelta(days=1)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class Leaf:
    """A certificate with its key, as `ssl` and curl want them: in one file."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key.decode() + self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def sha256(self) -> str:
        return fingerprint(self.certificate.public_bytes(Encoding.DER))

    def write(self, path: Path) -> Path:
        path.write_text(self.pem)
        return path


class Authority:
    """A root and an issuing certificate."""

    def __init__(self, name: str = "Test") -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._sign(f"{name} Root", self._root_key.public_key(), self._root_key, None)
        self.issuing = self._sign(
            f"{name} Issuing", self._key.public_key(), self._root_key, self.root
        )

    @property
    def ca_pem(self) -> str:
        """Return what `ca.crt` holds."""
        pem = (one.public_bytes(Encoding.PEM) for one in (self.root, self.issuing))
        return b"".join(pem).decode()

    def client(
        self,
        name: str = "client",
        *,
        usage: x509.ObjectIdentifier = CLIENT,
        lifetime: timedelta = DAY,
        age: timedelta = timedelta(hours=1),
    ) -> Leaf:
        """Make a client certificate, `age` old and valid for `lifetime` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._leaf(_name(name), key.public_key(), usage, lifetime, age)
        return Leaf(signed.sign(self._key, SHA256()), key)

    def server(self, *names: str, lifetime: timedelta = DAY) -> Leaf:
        """Make a server's certificate for some DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf(_name(names[0]), key.public_key(), SERVER, lifetime, timedelta(0))
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        signed = builder.add_extension(alternative, critical=False).sign(self._key, SHA256())
        return Leaf(signed, key)

    def sign_client(
        self, csr_pem: str, lifetime: timedelta = DAY, age: timedelta = timedelta(0)
    ) -> x509.Certificate:
        """Sign a client's own key."""
        key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._leaf(_name("client"), key, CLIENT, lifetime, age).sign(self._key, SHA256())

    def server_chain(
        self, csr_pem: str, lifetime: timedelta = DAY, age: timedelta = timedelta(0)
    ) -> str:
        """Sign a CSR for a server on this machine; return the chain without the root."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        builder = self._leaf(_name("gateway"), key, SERVER, lifetime, age)
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        )
        leaf = builder.add_extension(names, critical=False).sign(self._key, SHA256())
        chain = (one.public_bytes(Encoding.PEM) for one in (leaf, self.issuing))
        return b"".join(chain).decode()

    def _leaf(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier,
        lifetime: timedelta,
        age: timedelta,
    ) -> x509.CertificateBuilder:
        now = utc_now()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.issuing.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - age)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        signer: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
    ) -> x509.Certificate:
        now = utc_now()
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(issuer.subject if issuer else _name(name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_CA_USAGE, critical=True)
            .sign(signer, SHA256())
        )


_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
