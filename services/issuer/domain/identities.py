"""Whom a certificate names: its subject, its subjectAltName, and the owner's id for it."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import NameOID

from contracts.errors import CertwireError, ErrorCode

LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")
"""The label of an agent, which becomes a part of a name and of a URI."""
TRUST_DOMAIN: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
"""SPIFFE-ID section 2.1, without empty labels."""
COMMON_NAME_CHARACTERS: Final = 64
"""RFC 5280 appendix A, ub-common-name."""
DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
"""RFC 1034 section 3.5, with a wildcard as the first label."""

Name: TypeAlias = x509.DNSName | x509.IPAddress | x509.RFC822Name | x509.UniformResourceIdentifier


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names. `owner_id` is the object's id in the service that owns it."""

    owner_id: str
    common_name: str
    subject: x509.Name
    names: tuple[Name, ...] = ()


def instance(instance_id: UUID, trust_domain: str) -> Identity:
    """Return the identity of a running instance."""
    text = str(instance_id)
    return _client(text, f"instance:{text}", f"instance/{text}", trust_domain)


def agent(label: str, trust_domain: str) -> Identity:
    """Return the identity of an agent. Raises `INVALID_REQUEST` for what is not a label."""
    if not LABEL.fullmatch(label):
        raise CertwireError(ErrorCode.INVALID_REQUEST, "the label is not valid")
    return _client(label, f"agent:{label}", f"agent/{label}", trust_domain)


def admin(trust_domain: str) -> Identity:
    """Return the identity of the administrator."""
    return _client("admin", "admin", "admin", trust_domain)


def gateway(names: Sequence[str]) -> Identity:
    """Return the identity of the gateway, by DNS names and IP addresses."""
    return Identity("gateway", "gateway", _named("gateway"), tuple(map(host_name, names)))


def platform_ca(name: str, slug: str, organization: str) -> Identity:
    """Return the identity of one of the platform's own CAs."""
    attributes = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, name))
    subject = x509.Name([x509.NameAttribute(*attribute) for attribute in attributes])
    return Identity(slug, name, subject)


def ocsp_responder(ca_slug: str) -> Identity:
    """Return the identity of a CA's OCSP responder; the name is cut where it is too long."""
    common_name = f"OCSP {ca_slug}"[:COMMON_NAME_CHARACTERS]
    return Identity(ca_slug, common_name, _named(common_name))


def slug(name: str, ca_id: int) -> str:
    """Return how URLs name a CA: `<slugified name>-<id>`."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join([*words, str(ca_id)])


def host_name(text: str) -> x509.DNSName | x509.IPAddress:
    """Return a DNS name or an IP address. Raises ValueError for what is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if not DNS_NAME.fullmatch(text):
            raise ValueError(f"{text!r} is neither a DNS name nor an IP address") from None
        return x509.DNSName(text)


def printed(name: Name) -> str:
    """Return a name as text, such as `DNS:localhost`."""
    if isinstance(name, x509.DNSName):
        return f"DNS:{name.value}"
    if isinstance(name, x509.IPAddress):
        return f"IP:{name.value}"
    if isinstance(name, x509.RFC822Name):
        return f"email:{name.value}"
    return f"URI:{name.value}"


def _client(owner_id: str, common_name: str, path: str, trust_domain: str) -> Identity:
    """Return an identity with a SPIFFE ID."""
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/{path}")
    return Identity(owner_id, common_name, _named(common_name), (uri,))


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
