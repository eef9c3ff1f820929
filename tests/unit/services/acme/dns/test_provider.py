"""A probe of what credentials may do."""

import pytest

from services.acme.dns import DnsProviderError, Probe, check_access


class Recording:
    """A provider that notes what it is told, and fails as it is told."""

    def __init__(
        self, add: DnsProviderError | None = None, remove: DnsProviderError | None = None
    ) -> None:
        self.told: list[tuple[str, str, str]] = []
        self._add, self._remove = add, remove

    async def add(self, name: str, value: str) -> None:
        self.told.append(("add", name, value))
        if self._add:
            raise self._add

    async def remove(self, name: str, value: str) -> None:
        self.told.append(("remove", name, value))
        if self._remove:
            raise self._remove


@pytest.mark.parametrize("domain", ["example.test", "*.example.test"])
async def test_a_record_is_added_and_removed(domain: str) -> None:
    provider = Recording()
    await check_access(provider, Probe.below(domain))
    (add, name, value), removal = provider.told
    assert (add, name) == ("add", "_certwire-preflight.example.test")
    assert removal == ("remove", name, value)
    assert len(value) == 43
    await check_access(provider, Probe.below(domain))
    assert provider.told[-1][2] != value


async def test_what_is_refused_needs_no_removal() -> None:
    provider = Recording(DnsProviderError("refused"))
    with pytest.raises(DnsProviderError, match="refused"):
        await check_access(provider, Probe.below("example.test"))
    assert [what for what, _, _ in provider.told] == ["add"]


async def test_who_may_add_but_not_remove_has_no_access() -> None:
    provider = Recording(remove=DnsProviderError("may not remove"))
    with pytest.raises(DnsProviderError, match="may not remove"):
        await check_access(provider, Probe.below("example.test"))


async def test_a_domain_that_leaves_no_room_for_a_probe() -> None:
    provider = Recording()
    with pytest.raises(DnsProviderError, match="leaves no room"):
        await check_access(provider, Probe.below("a." * 122 + "test"))
    assert provider.told == []


def test_an_error_is_its_reason() -> None:
    error = DnsProviderError("why", transient=True, retry_after_seconds=3)
    assert (str(error), error.transient, error.retry_after_seconds) == ("why", True, 3)
