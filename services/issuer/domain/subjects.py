"""Whom a user's certificate names, by what the user says and what the CSR says."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import SubjectNames
from services.issuer.domain import distinguished_names
from services.issuer.domain.alternative_names import AlternativeNames, names_of
from services.issuer.domain.distinguished_names import common_name
from services.issuer.domain.identities import Identity, Name
from shared.x509 import invalid_csr


@dataclass(frozen=True, slots=True)
class Subject:
    """Subject and subjectAltName of a certificate that has no number yet."""

    common_name: str
    name: x509.Name
    names: tuple[Name, ...]

    def numbered(self, certificate_id: int) -> Identity:
        """Return the identity of the certificate of this number."""
        return Identity(str(certificate_id), self.common_name, self.name, self.names)


def of_request(kind: CertificateKind, asked: SubjectNames) -> Subject:
    """Return the subject that a user asks for. Raises `INVALID_REQUEST` and `AGAINST_POLICY`."""
    return _subject(kind, asked, x509.Name([]), AlternativeNames())


def of_csr(
    kind: CertificateKind, asked: SubjectNames, csr: x509.CertificateSigningRequest
) -> Subject:
    """Return the subject that a CSR asks for, as far as the user does not say otherwise.

    Raises `INVALID_CSR`, too. Other extensions than subjectAltName are not looked at.
    """
    try:
        found = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = AlternativeNames.copied(found.value)
    except x509.ExtensionNotFound:
        names = AlternativeNames()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise invalid_csr(str(error)) from None
    name = x509.Name([]) if asked.subject_dn is not None else _copied(csr.subject)
    return _subject(kind, asked, name, names)


def _subject(
    kind: CertificateKind, asked: SubjectNames, name: x509.Name, names: AlternativeNames
) -> Subject:
    """Put together what was asked for and what else is known.

    1. A `subject_dn` is the subject; a `common_name` stands in it, and contradicts nobody.
    2. Without either, the common name is that of the CSR, or else its first name.
    """
    try:
        names = AlternativeNames.parse(
            asked.san_dns_names, asked.san_ip_addresses, asked.san_email_addresses
        ).or_else(names)
    except ValueError as error:
        raise CertwireError(ErrorCode.INVALID_REQUEST, str(error)) from None
    if asked.subject_dn is not None:  # 1
        name = distinguished_names.parse(asked.subject_dn)
        if asked.common_name and common_name(name) not in {"", asked.common_name}:
            raise _refused("The common_name is not the CN of the subject_dn")
    wanted = asked.common_name or common_name(name) or _first(names)  # 2
    if wanted is None:
        raise _refused("A common name is needed")
    name = _with_common_name(name, wanted)
    return Subject(wanted, name, names_of(kind, names, wanted))


def _first(names: AlternativeNames) -> str | None:
    return next((str(name.value) for name in names.all()), None)


def _with_common_name(name: x509.Name, text: str) -> x509.Name:
    """Return the name with this common name, at the place of its own or at the end."""
    if common_name(name) == text:
        return name
    try:
        new = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise CertwireError(ErrorCode.INVALID_REQUEST, f"the common name: {error}") from None
    others = [rdn for rdn in name.rdns if not rdn.get_attributes_for_oid(NameOID.COMMON_NAME)]
    named = x509.Name([*others, new])
    distinguished_names.check(named)
    return named


def _copied(name: x509.Name) -> x509.Name:
    """Return the subject of a CSR, checked, in the string types of RFC 5280 section 4.1.2.4."""
    if not name.rdns:
        return name
    try:
        distinguished_names.check(name)
        return x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [x509.NameAttribute(attribute.oid, attribute.value) for attribute in rdn]
                )
                for rdn in name.rdns
            ]
        )
    except CertwireError as error:
        raise invalid_csr(error.detail) from None
    except ValueError as error:
        raise invalid_csr(f"the distinguished name: {error}") from None


def _refused(reason: str) -> CertwireError:
    return CertwireError(ErrorCode.AGAINST_POLICY, reason)
