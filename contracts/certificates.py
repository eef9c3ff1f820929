"""Facts about certificates that several services speak of."""

from datetime import datetime
from enum import StrEnum

from contracts.messages import Message, SerialHex, Sha256Hex


class CertificateKind(StrEnum):
    """What a certificate is for; each kind has one profile in the issuer."""

    ROOT_CA = "root_ca"
    ISSUING_CA = "issuing_ca"
    GATEWAY = "gateway"
    ADMIN = "admin"
    AGENT = "agent"
    INSTANCE = "instance"
    SERVER = "server"
    CLIENT = "client"
    CA = "ca"
    DUAL_PURPOSE = "dual_purpose"
    OCSP_RESPONDER = "ocsp_responder"
    ACME = "acme"
    """Of a public CA, through the acme service."""
    UPLOADED = "uploaded"
    """Of a CA that nobody asked here."""


class RevocationReason(StrEnum):
    """CRLReason of RFC 5280 section 5.3.1, without those that need a hold."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key_compromise"
    CA_COMPROMISE = "ca_compromise"
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"
    AA_COMPROMISE = "aa_compromise"


class SignedCertificate(Message):
    """A certificate whose row, event and audit record are committed."""

    certificate_pem: str
    serial_hex: SerialHex
    fingerprint: Sha256Hex
    not_before: datetime
    not_after: datetime
