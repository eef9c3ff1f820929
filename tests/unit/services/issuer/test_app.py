"""The table of what the issuer answers."""

import pytest

from contracts.issuer import SignInstanceCertificate
from contracts.outbox import outbox_subject
from contracts.pki import SignCsr
from contracts.status import status_subject
from contracts.subjects import Service
from services.issuer.app import HANDLERS, build
from services.issuer.settings import IssuerSettings
from services.provisioning.nats.permissions import commands


def test_every_command_of_the_issuer_has_a_handler() -> None:
    ours = {subject for subject in commands() if subject.split(".")[1] == Service.ISSUER}
    everyones = {status_subject(Service.ISSUER), outbox_subject(Service.ISSUER)}
    assert {command.SUBJECT for command in HANDLERS} == ours - everyones


@pytest.mark.usefixtures("issuer")
async def test_the_hot_commands_have_the_short_way(settings: IssuerSettings) -> None:
    application = await build(settings)
    assert application.direct == {SignInstanceCertificate, SignCsr}
    assert application.handlers.keys() == HANDLERS.keys()
    assert application.prepare is not None
    await application.prepare()
    assert application.problems is not None
    assert not await application.problems()
    await application.runtime.close()
