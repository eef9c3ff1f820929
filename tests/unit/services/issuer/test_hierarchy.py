"""Certificate authorities of users, on a real database."""

from cryptography import x509

from contracts.pki import CaView, CreateCa, GetCa, ListCas
from services.issuer.handlers.cas import create_ca, get_ca, list_cas
from services.issuer.service import Issuer
from tests.support.running import call
from tests.unit.services.issuer.users import ADMIN, SUPERUSER, new_ca


async def made(issuer: Issuer, command: CreateCa) -> CaView:
    return (await create_ca(command, issuer)).ca


async def test_a_root(issuer: Issuer) -> None:
    reply = await create_ca(new_ca(path_length=2, description="Ours"), issuer)
    ca = reply.ca
    certificate = x509.load_pem_x509_certificate(ca.certificate_pem.encode())
    certificate.verify_directly_issued_by(certificate)
    assert (ca.name, ca.subject_dn, ca.path_length) == ("Acme Root", "CN=Acme Root,O=Acme,C=US", 2)
    assert ca.is_root
    assert await get_ca(GetCa(call=call(), actor=ADMIN, ca_id=ca.id), issuer) == ca
    (listed,) = (await list_cas(ListCas(call=call(), actor=ADMIN), issuer)).cas
    assert listed == ca
    assert len((await list_cas(ListCas(call=call(), actor=SUPERUSER), issuer)).cas) == 3


async def test_an_intermediate(issuer: Issuer) -> None:
    root = await made(issuer, new_ca(path_length=2))
    child = await made(issuer, new_ca("Acme Issuing", parent_ca_id=root.id))
    assert child.path_length == 1
    assert child.parent_ca_id == root.id
