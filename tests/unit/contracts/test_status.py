"""Every service answers for itself, on a subject of its own."""

from contracts.status import StatusReport, status_subject
from contracts.subjects import Service, service_wildcard


def test_each_service_answers_on_its_own_subject() -> None:
    subjects = {service: status_subject(service) for service in Service}
    assert len(set(subjects.values())) == len(Service)
    for service, subject in subjects.items():
        assert subject.startswith(service_wildcard(service).removesuffix(">"))


def test_a_service_that_lacks_nothing_says_little() -> None:
    report = StatusReport(service="issuer", version="1", ready=True)
    assert report.missing == report.warnings == ()
    assert report.outbox_waiting is None
