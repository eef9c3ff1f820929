"""A client of ACME servers: RFC 8555, RFC 9773 and the profiles draft. It has no policy."""

from services.acme.client.certificates import certificate_id
from services.acme.client.client import AcmeClient
from services.acme.client.jose import Eab, SigningKey, dns_txt_value, key_authorization
from services.acme.client.messages import (
    Account,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Directory,
    Order,
    OrderStatus,
    RenewalInfo,
)
from services.acme.client.problems import (
    AcmeProblem,
    CaMisbehaves,
    CaUnavailable,
    NotOfferedError,
    Problem,
)
from services.acme.client.transport import http_client

__all__ = [
    "Account",
    "AcmeClient",
    "AcmeProblem",
    "Authorization",
    "AuthorizationStatus",
    "CaMisbehaves",
    "CaUnavailable",
    "Challenge",
    "ChallengeStatus",
    "Directory",
    "Eab",
    "NotOfferedError",
    "Order",
    "OrderStatus",
    "Problem",
    "RenewalInfo",
    "SigningKey",
    "certificate_id",
    "dns_txt_value",
    "http_client",
    "key_authorization",
]
