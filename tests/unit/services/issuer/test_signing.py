"""The signing path: what is issued, to whom, how often, and what is refused."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import VoidInstanceClaims
from contracts.messages import Message
from services.issuer.handlers.platform import sign_instance_certificate, void_instance_claims
from services.issuer.service import Issuer
from shared.identifiers import uuid7
from tests.support.csr import Key, csr_pem, new_key
from tests.support.running import call
from tests.unit.services.issuer.builders import INSTANCE_ID, extension_oids, order
from tests.unit.services.issuer.conftest import Records
from tests.unit.services.issuer.weak_keys import CLOSE_PRIMES, ROCA


async def outcome(call_: Awaitable[Message]) -> Message | ErrorCode:
    """Return the reply, or the code of the refusal."""
    try:
        return await call_
    except CertwireError as error:
        return error.code


def loaded(reply: SignedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(reply.certificate_pem.encode())


# --- What is issued ------------------------------------------------------------------------------


async def test_records_what_it_signs(issuer: Issuer, records: Records) -> None:
    key = new_key()
    command = order(csr=csr_pem(key))
    reply = await sign_instance_certificate(command, issuer)
    certificate = loaded(reply)
    (row,) = await records.certificates()
    assert row["certificate"] == certificate.public_bytes(Encoding.DER)
    assert row["serial_hex"] == reply.serial_hex == f"{certificate.serial_number:x}"
    assert (row["owner_service"], row["owner_id"]) == ("instance", str(INSTANCE_ID))
    assert row["subject"] == f"CN=instance:{INSTANCE_ID}"
    assert row["subject_alternative_names"] == [
        f"URI:spiffe://certwire.internal/instance/{INSTANCE_ID}"
    ]
    assert (row["not_before"], row["not_after"]) == (reply.not_before, reply.not_after)
    assert certificate.public_key() == key.public_key()
    ((entry, event),) = await records.outbox()
    assert entry["action"] == "cert_create"
    assert entry["object"]["id"] == event["fingerprint"] == reply.fingerprint
    assert entry["actor"]["name"] == "edge-1"
    assert entry["request_id"] == command.call.request_id
    assert event["subject"] == f"CN=instance:{INSTANCE_ID}"
    assert event["owner"] == str(INSTANCE_ID)


async def test_a_renewal_is_told_as_such(issuer: Issuer, records: Records) -> None:
    first = await sign_instance_certificate(order(), issuer)
    await sign_instance_certificate(order(renews=first.fingerprint), issuer)
    rows = await records.rows(
        "SELECT event_subject FROM outbox WHERE event_subject LIKE '%certificate%'"
        " AND event LIKE '%instance%' ORDER BY position"
    )
    assert [row["event_subject"].rsplit(".")[-1] for row in rows] == ["issued", "renewed"]
    assert (await records.certificates())[1]["renews"] == first.fingerprint


async def test_signs_every_kind_of_key(issuer: Issuer) -> None:
    keys: list[Key] = [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ]
    for key in keys:
        reply = await sign_instance_certificate(order(csr=csr_pem(key)), issuer)
        assert loaded(reply).public_key() == key.public_key()


async def test_the_extensions_are_the_profiles_whatever_the_csr_asks(issuer: Issuer) -> None:
    asked = csr_pem(
        common_name="admin",
        extensions=[
            x509.BasicConstraints(ca=True, path_length=3),
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]
            ),
            x509.SubjectAlternativeName([x509.DNSName("bank.example")]),
            x509.InhibitAnyPolicy(0),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
        ],
    )
    plain = loaded(await sign_instance_certificate(order(), issuer))
    certificate = loaded(await sign_instance_certificate(order(csr=asked), issuer))
    assert extension_oids(certificate) == extension_oids(plain)
    for wanted in (x509.BasicConstraints, x509.ExtendedKeyUsage, x509.SubjectAlternativeName):
        ours = certificate.extensions.get_extension_for_class(wanted)
        assert ours == plain.extensions.get_extension_for_class(wanted)
    assert certificate.subject == plain.subject


async def test_serials_have_sixteen_octets_and_never_repeat(
    issuer: Issuer, records: Records
) -> None:
    csr = csr_pem()
    await asyncio.gather(*(sign_instance_certificate(order(csr=csr), issuer) for _ in range(100)))
    serials = {int(row["serial_hex"], 16) for row in await records.certificates()}
    assert len(serials) == 100
    assert {serial.bit_length() for serial in serials} == {127}


# --- Once ----------------------------------------------------------------------------------------


async def test_the_same_message_twice_makes_one_certificate(
    issuer: Issuer, records: Records
) -> None:
    command = order()
    first = await sign_instance_certificate(command, issuer)
    assert await sign_instance_certificate(command, issuer) == first
    assert len(await records.certificates()) == len(await records.outbox()) == 1


async def test_the_same_message_many_times_at_once_makes_one_certificate(
    issuer: Issuer, records: Records
) -> None:
    command = order()
    replies = await asyncio.gather(
        *(sign_instance_certificate(command, issuer) for _ in range(100))
    )
    assert len({reply.fingerprint for reply in replies}) == 1
    assert len(await records.certificates()) == len(await records.outbox()) == 1


async def test_a_claim_is_for_one_request(issuer: Issuer, records: Records) -> None:
    command = order()
    await sign_instance_certificate(command, issuer)
    for other in (order(command.claim_id), order(command.claim_id, command.csr_pem, uuid7())):
        with pytest.raises(CertwireError) as refused:
            await sign_instance_certificate(other, issuer)
        assert refused.value.code is ErrorCode.CONFLICT
    assert len(await records.certificates()) == 1


async def test_a_voided_claim_gets_nothing(issuer: Issuer, records: Records) -> None:
    command = order()
    await void_instance_claims(
        VoidInstanceClaims(call=call(), claim_ids=(command.claim_id,)), issuer
    )
    for _ in range(2):
        assert await outcome(sign_instance_certificate(command, issuer)) is ErrorCode.CLAIM_VOIDED
    assert not await records.certificates()


async def test_signing_and_voiding_race_to_one_of_two_ends(
    issuer: Issuer, records: Records
) -> None:
    commands = [order(csr=csr) for csr in [csr_pem()] * 120]
    voids = [
        VoidInstanceClaims(
            call=call(),
            claim_ids=tuple(command.claim_id for command in reversed(commands[n : n + 10])),
        )
        for n in range(0, len(commands), 5)
    ]
    work: list[Awaitable[Message]] = []
    for index, command in enumerate(commands):
        work.append(sign_instance_certificate(command, issuer))
        if index % 5 == 0:
            work.append(void_instance_claims(voids[index // 5], issuer))
    ends = await asyncio.gather(*map(outcome, work))
    signed = {end.fingerprint for end in ends if isinstance(end, SignedCertificate)}
    assert {end for end in ends if isinstance(end, ErrorCode)} <= {ErrorCode.CLAIM_VOIDED}
    rows = await records.certificates()
    assert {row["fingerprint"] for row in rows} >= signed
    assert {row["revocation_detail"] for row in rows} <= {"undelivered"}  # all were voided
    created = await records.outbox("cert_create")
    revoked = await records.outbox("cert_revoke")
    assert len(created) == len(revoked) == len(rows)
    assert len(await records.outbox("cert_void")) == len(commands)


# --- Refused -------------------------------------------------------------------------------------


def tampered() -> str:
    """Return a CSR whose signature is of another key."""
    der = bytearray(x509.load_pem_x509_csr(csr_pem().encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


HOSTILE: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "not a CSR": lambda: (
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"
    ),
    "a certificate's label": lambda: csr_pem().replace("CERTIFICATE REQUEST", "CERTIFICATE"),
    "text before": lambda: "hello\n" + csr_pem(),
    "text after": lambda: csr_pem() + "hello\n",
    "text inside": lambda: csr_pem().replace("\n", "\nSubject: x\n", 1),
    "two blocks": lambda: csr_pem() + csr_pem(),
    "a header": lambda: csr_pem().replace("\n", "\nProc-Type: 4,ENCRYPTED\n\n", 1),
    "not ASCII": lambda: csr_pem().replace("A", "\uff21", 1),
    "a NUL": lambda: csr_pem() + "\x00",
    "a tampered signature": tampered,
    "RSA with 1024 bits": lambda: csr_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
    "RSA with exponent 3": lambda: csr_pem(rsa.generate_private_key(3, 2048)),
    "a ROCA modulus": lambda: csr_pem(ROCA),
    "close primes": lambda: csr_pem(CLOSE_PRIMES),
    "secp256k1": lambda: csr_pem(ec.generate_private_key(ec.SECP256K1())),
    "P-192": lambda: csr_pem(ec.generate_private_key(ec.SECP192R1())),
    "P-224": lambda: csr_pem(ec.generate_private_key(ec.SECP224R1())),
    "Ed448": lambda: csr_pem(ed448.Ed448PrivateKey.generate()),
}


async def test_refuses_hostile_csrs(issuer: Issuer, records: Records) -> None:
    """One test for all: none of them leaves a trace, so they can share a database."""
    outcomes = {
        name: await outcome(sign_instance_certificate(order(csr=csr()), issuer))
        for name, csr in HOSTILE.items()
    }
    assert outcomes == dict.fromkeys(HOSTILE, ErrorCode.INVALID_CSR)
    assert not await records.certificates()
    assert not await records.outbox()


async def test_names_in_a_csr_have_no_meaning(issuer: Issuer) -> None:
    """cryptography takes a NUL in a common name; ours is the profile's all the same."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin\x00.example")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    command = order(csr=csr.public_bytes(Encoding.PEM).decode())
    certificate = loaded(await sign_instance_certificate(command, issuer))
    assert certificate.subject.rfc4514_string() == f"CN=instance:{INSTANCE_ID}"


async def test_without_a_ca_nothing_is_signed(issuer: Issuer) -> None:
    issuer.authorities._signing = None
    assert await outcome(sign_instance_certificate(order(), issuer)) is ErrorCode.CA_CANNOT_SIGN


async def test_no_certificate_leaves_before_it_is_recorded(
    issuer: Issuer, records: Records
) -> None:
    """Where the transaction fails, the caller gets an error and there is no certificate."""
    command = order()
    blocked = await issuer.runtime.database.dedicated()
    try:
        async with blocked.transaction():
            await blocked.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(sign_instance_certificate(command, issuer))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await blocked.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND usename = current_user"
            )
            with pytest.raises(CertwireError) as failed:
                await waiting
            assert failed.value.code is ErrorCode.OUTCOME_UNKNOWN
    finally:
        await blocked.close()
    assert not await records.certificates()
    assert (await sign_instance_certificate(command, issuer)).fingerprint


# --- What it costs -------------------------------------------------------------------------------


async def test_prints_what_a_certificate_costs(
    issuer: Issuer, records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    """CPU of this process for each certificate: no threshold, for machines differ."""
    commands = [order(csr=csr) for csr in [csr_pem()] * 640]
    began = time.process_time()
    for n in range(0, len(commands), 64):
        await asyncio.gather(*(sign_instance_certificate(c, issuer) for c in commands[n : n + 64]))
    microseconds = (time.process_time() - began) / len(commands) * 1e6
    with capsys.disabled():
        print(f"\n  signing: {microseconds:.0f} µs of CPU each, 64 at a time")  # noqa: T201 - its point
    assert len(await records.certificates()) == len(commands)
