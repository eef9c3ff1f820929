"""The other side of dns-01 (RFC 8555 section 8.4): records at DNS providers, and in the DNS.

`open_provider` writes records with a customer's credentials; `propagation` sees where they are.
"""

from services.acme.dns.endpoints import Endpoints
from services.acme.dns.provider import DnsProvider, DnsProviderError, Probe, check_access
from services.acme.dns.providers import open_provider

__all__ = [
    "DnsProvider",
    "DnsProviderError",
    "Endpoints",
    "Probe",
    "check_access",
    "open_provider",
]
