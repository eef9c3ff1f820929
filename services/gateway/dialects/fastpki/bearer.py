"""Who calls the registry's half of this dialect: the token itself goes on, by its hash."""

from typing import NamedTuple

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call
from contracts.principal import Credential
from services.gateway.exchange import Exchange


class Bearer(NamedTuple):
    """The token that a command is sent with, and the command's circumstances."""

    credential: Credential
    call: Call


def bearer(exchange: Exchange) -> Bearer:
    """Return who calls. Raises `CREDENTIAL_MISSING` and `CREDENTIAL_REFUSED`."""
    credential = exchange.bearer()
    if credential is None:
        raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
    return Bearer(credential, exchange.call(credential.sha256))
