"""The issuer over a real bus, as its callers see it."""

import asyncio

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import SignInstanceCertificate
from contracts.principal import system
from shared.identifiers import uuid7
from shared.settings import Settings
from tests.support.csr import csr_pem
from tests.support.issuer import running_issuer
from tests.support.running import bus, call
from tests.support.servers import Place


def sign(csr: str) -> SignInstanceCertificate:
    return SignInstanceCertificate(
        call=call(), claim_id=uuid7(), actor=system("test"), csr_pem=csr, instance_id=uuid7()
    )


async def test_signs_for_the_instance_service(bus_place: Place) -> None:
    settings = bus_place.settings(Settings)
    async with running_issuer(bus_place), bus(settings, "instance") as instance:
        replies = await asyncio.gather(*(instance.request(sign(csr_pem())) for _ in range(100)))
        assert len({reply.fingerprint for reply in replies}) == 100
        with pytest.raises(CertwireError) as refused:
            await instance.request(sign("nonsense"))
        assert refused.value.code is ErrorCode.INVALID_CSR
