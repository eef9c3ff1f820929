"""The issuer over a real bus, as its callers see it."""

import asyncio
import json

import pytest
from cryptography import x509

from contracts.certificates import RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import (
    GenerateAdminBundle,
    GetPlatformCa,
    Revocation,
    RevokeInstanceCertificates,
    SignGatewayCertificate,
    SignInstanceCertificate,
    VoidInstanceClaims,
)
from contracts.principal import system
from contracts.status import GetStatus, status_subject
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service
from services.issuer.app import build
from services.issuer.settings import IssuerSettings
from shared.clock import utc_now
from shared.identifiers import uuid7
from shared.settings import Settings
from tests.support.csr import csr_pem
from tests.support.issuer import running_issuer
from tests.support.running import bus, call, running
from tests.support.servers import Place


def sign(csr: str | None = None) -> SignInstanceCertificate:
    return SignInstanceCertificate(
        call=call(),
        claim_id=uuid7(),
        actor=system("test"),
        csr_pem=csr_pem() if csr is None else csr,
        instance_id=uuid7(),
    )


async def test_serves_every_caller(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with (
        running_issuer(bus_place),
        bus(settings, "instance") as instance,
        bus(settings, "registry") as registry,
        bus(settings, "gateway") as gateway,
        bus(settings, "cli") as cli,
    ):
        command = sign()
        signed = await instance.request(command)
        assert await instance.request(command) == signed
        item = Revocation(
            fingerprint=signed.fingerprint,
            reason=RevocationReason.SUPERSEDED,
            revoked_at=utc_now(),
            actor=command.actor,
            request_id="r",
        )
        await instance.request(RevokeInstanceCertificates(call=call(), revocations=(item,)))
        await instance.request(VoidInstanceClaims(call=call(), claim_ids=(command.claim_id,)))
        bundle = await registry.request(
            GenerateAdminBundle(call=call(), claim_id=uuid7(), actor=system("test"))
        )
        assert bundle.pkcs12 != bundle.legacy_pkcs12
        reply = await gateway.request(
            SignGatewayCertificate(call=call(), claim_id=uuid7(), csr_pem=csr_pem())
        )
        (leaf, issuing) = x509.load_pem_x509_certificates(reply.chain_pem.encode())
        platform = await cli.request(GetPlatformCa(call=call()))
        assert platform.ca_pem.count("BEGIN CERTIFICATE") == 2
        leaf.verify_directly_issued_by(issuing)
        report = await cli.request(GetStatus(call=call()), status_subject(Service.ISSUER))
        assert report.ready
        assert not report.warnings


async def test_a_refusal_is_recorded_with_who_asked(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with running_issuer(bus_place) as issuer, bus(settings, "instance") as instance:
        with pytest.raises(CertwireError) as refused:
            await instance.request(sign("nonsense"))
        assert refused.value.code is ErrorCode.INVALID_CSR
        async with issuer.runtime.database.connection() as connection:
            entries = [
                json.loads(row[0])
                for row in await connection.fetch("SELECT entry FROM outbox ORDER BY position")
            ]
        (refusal,) = [entry for entry in entries if entry["outcome"] == "refused"]
        assert refusal["action"] == "cert_create"
        assert refusal["actor"]["id"] == "test"


async def test_a_hundred_at_once_reach_both_streams(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with running_issuer(bus_place) as issuer, bus(settings, "instance") as instance:
        csr = csr_pem()
        replies = await asyncio.gather(*(instance.request(sign(csr)) for _ in range(100)))
        assert len({reply.fingerprint for reply in replies}) == 100
        streams = issuer.runtime.streams_broker.connection.jetstream()
        for stream in (AUDIT_STREAM, EVENTS_STREAM):
            async with asyncio.timeout(10):
                while (await streams.stream_info(stream)).state.messages < 107:
                    await asyncio.sleep(0.05)


async def test_two_replicas_share_the_work_and_each_claim(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with (
        running_issuer(bus_place),
        running(await build(bus_place.settings(IssuerSettings))),
        bus(settings, "instance") as instance,
    ):
        csr = csr_pem()
        commands = [sign(csr) for _ in range(40)]
        replies = await asyncio.gather(*(instance.request(c) for c in commands * 3))
        assert len({reply.fingerprint for reply in replies}) == 40


async def test_nobody_else_has_an_instance_certificate_signed(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with running_issuer(bus_place):
        for user in ("gateway", "registry", "audit", "cli"):
            async with bus(settings, user) as other:
                command = sign()
                with pytest.raises(CertwireError) as refused:
                    await other.request(command.model_copy(update={"call": call(0.3)}))
                assert refused.value.code is ErrorCode.OUTCOME_UNKNOWN
