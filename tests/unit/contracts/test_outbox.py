"""Every service with a database says how far its records go, on a subject of its own."""

from contracts.outbox import WITH_OUTBOX, outbox_subject
from contracts.subjects import Service, service_wildcard


def test_each_service_answers_on_its_own_subject() -> None:
    assert set(WITH_OUTBOX) == set(Service) - {Service.GATEWAY}
    for service in WITH_OUTBOX:
        assert outbox_subject(service).startswith(service_wildcard(service).removesuffix(">"))
