import pytest

from tests.bench.work import Storage, Work, variants


@pytest.mark.parametrize("work", Work)
def test_each_work_has_a_unit_and_a_number_of_requests(work: Work) -> None:
    assert work.unit
    assert work.requests > 0


def test_certificates_are_made_beside_both_storages() -> None:
    names = [variant.name for variant in variants(Work.RENEW, None)]
    assert names == ["openbao raft", "openbao postgres"]


def test_revocations_are_made_with_the_crl_at_once_and_later() -> None:
    found = variants(Work.REVOKE, None)
    assert [variant.crl_in_background for variant in found] == [False, True]
    assert len({variant.name for variant in found}) == 2


def test_another_storage_may_be_asked_for() -> None:
    found = variants(Work.OCSP, [Storage.POSTGRES])
    assert [variant.storage for variant in found] == [Storage.POSTGRES]
