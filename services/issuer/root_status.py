"""What says which of the root's certificates are revoked, made by hand: its key is in a file.

`certwire init` makes the first, `certwire ca crl` the next ones: the CRL, and the certificate of
the root's OCSP responder, whose key is sealed like others, so that the running service answers.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from contracts.principal import Principal
from services.issuer import crl, ocsp
from services.issuer.authority import Authority
from services.issuer.crl import Term
from services.issuer.domain.profiles import OCSP_RESPONDER
from services.issuer.store import crls, responders
from services.issuer.store.cas import Ca
from services.issuer.store.crls import Crl
from shared.database import Connection
from shared.secrets import Sealer

VALIDITY: Final = timedelta(days=396)
"""The architecture's 13 months: a year, and time to do it."""
ROOT_RESPONDER: Final = replace(OCSP_RESPONDER, validity=VALIDITY)


async def make(
    connection: Connection, root: Ca, authority: Authority, sealer: Sealer, actor: Principal
) -> Crl:
    """Sign the root's next CRL and its next responder, in the transaction.

    Raises `CA_CANNOT_SIGN`.
    """
    await crls.lock(connection, root.id)
    last = await crl.load(connection, root.id)
    term = Term(VALIDITY, remade_after=None)
    made = await crl.publish(connection, root, authority, last, term, actor, remake=True)
    assert made is not None  # noqa: S101 - it is remade
    await responders.lock(connection, root.id)
    await ocsp.make(connection, root, authority, sealer, actor, ROOT_RESPONDER)
    return made.row
