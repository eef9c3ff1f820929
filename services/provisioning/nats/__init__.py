"""NATS as Certwire needs it: keys, accounts, the server's configuration, streams."""

from services.provisioning.nats.configuration import (
    ConfigurationError,
    Server,
    TlsFiles,
    write_accounts,
    write_configuration,
)
from services.provisioning.nats.keys import add_subscriber, ensure_seeds, remove_subscriber
from services.provisioning.nats.operator_file import write_operator_file
from services.provisioning.nats.permissions import users
from services.provisioning.nats.streams import ProvisioningError, provision_streams
from services.provisioning.nats.tls import ensure_certificate

__all__ = [
    "ConfigurationError",
    "ProvisioningError",
    "Server",
    "TlsFiles",
    "add_subscriber",
    "ensure_certificate",
    "ensure_seeds",
    "provision_streams",
    "remove_subscriber",
    "users",
    "write_accounts",
    "write_configuration",
    "write_operator_file",
]
