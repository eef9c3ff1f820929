"""The live directory of this replica: certificates as files, for the servers on its host.

1. At the start, and every hour, all certificates are compared with the files.
2. In between `certificate_change` says which domains to look at again. It is followed by the
   numbers of transactions, so that one which commits late is not missed.
3. Of a domain that is to be looked at, what the database has now is written; where it has nothing,
   the files are removed. So it does not matter how often, and in which order, changes are heard of.
4. The reload command is run for what has changed, until it succeeds.

The replica that has ended an order does 3 and 4 at once (`deliver`). A certificate that was revoked
stays until it is removed: a server that has none serves nobody.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from contracts.acme import RELOAD_FAILED
from services.acme.keys import private_pem
from services.acme.reloads import Reloads
from services.acme.settings import AcmeSettings
from services.acme.store import live
from services.acme.store.live import Position
from services.acme.store.sealed import CERTIFICATE_KEY
from shared import live_directory
from shared.runtime import Runtime
from shared.secrets import Sealer, UnsealError

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How soon every replica has written what another one obtained."""
COMPARE_SECONDS: Final = 3600.0
PAGE: Final = 500
KEPT_DAYS: Final = 2
"""For how long changes are kept; a process that stood still for longer compares everything."""
TRIES_IN_A_ROW: Final = 10
"""After so many domains that fail one after the other, the others wait for the next time."""
FIRST_RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 300.0
_DOUBLINGS: Final = 16

CERTBOT: Final = Path("/etc/letsencrypt")
"""Where files would be that are kept nowhere here."""
NOT_WRITTEN: Final = "Certificate renewed but its files could not be written"

_FAILURES: Final = (OSError, ValueError, UnsealError)


class Live:
    """The files of certificates, where this replica keeps them."""

    def __init__(self, runtime: Runtime, settings: AcmeSettings, sealer: Sealer) -> None:
        self._database = runtime.database
        self._sealer = sealer
        self._root: Final = settings.acme_live_dir
        self._reloads = Reloads(self._root or Path(), settings.acme_reload_command)
        self._writing = asyncio.Lock()
        self._position = Position(0)
        self._seen_early: set[Position] = set()
        """Changes that were seen before they were settled, and so come again."""
        self._failed: dict[str, str] = {}
        """Why which domain's files are not as they should be."""
        self._retries = 0
        self._retry_at = 0.0
        self._said: set[str] = set()

    @property
    def is_kept(self) -> bool:
        """Return whether this replica keeps files."""
        return self._root is not None

    def path_of(self, domain: str) -> Path:
        """Return where a domain's chain is, or would be."""
        return (self._root or CERTBOT).absolute() / live_directory.path_of(domain)

    async def deliver(self, domain: str) -> str | None:
        """Write a domain's files now and reload; return what is to be said of it, if anything.

        The reason is in the log. May be called again, after a crash say.
        """
        if self._root is None:
            return None
        await self._look_at([domain])
        if domain in self._failed:
            return NOT_WRITTEN
        ended = await self._reloads.run()
        return None if ended.ok else RELOAD_FAILED

    async def fill(self) -> None:
        """Keep the files as the database has them, for as long as the process lives."""
        while True:
            compared_at = time.monotonic()
            await self._compare()
            while time.monotonic() < compared_at + COMPARE_SECONDS:
                await self._try_again()
                await self._reloads.keep_up()
                await asyncio.sleep(LOOK_SECONDS)
                await self._follow()

    async def warnings(self) -> list[str]:
        """Return what an operator has to know."""
        found = []
        if self._failed:
            domain, reason = next(iter(self._failed.items()))
            others = f" and {len(self._failed) - 1} more" if len(self._failed) > 1 else ""
            found.append(f"{self._root} is not up to date for {domain}{others}: {reason}")
        if self._reloads.problem is not None:
            found.append(f"the reload command {self._reloads.problem}")
        return found

    # --- What there is to look at ----------------------------------------------------------------

    async def _compare(self) -> None:
        """Look at every domain whose files are not those of its certificate."""
        async with self._database.connection() as connection:
            self._position = await live.here(connection)  # before anything is read
        self._seen_early.clear()
        left = await self._on_disk()
        after = 0
        while True:
            async with self._database.connection() as connection:
                page = await live.versions(connection, after, PAGE)
            if not page:
                break
            after = page[-1].id
            await self._look_at(
                [each.domain for each in page if left.pop(each.domain, None) != each.version]
            )
            await self._follow()  # a first fill takes its time
            await self._reloads.keep_up()
        await self._look_at(left)
        async with self._database.statement() as connection:
            await live.prune(connection, KEPT_DAYS)

    async def _on_disk(self) -> dict[str, str]:
        assert self._root is not None  # noqa: S101 - else there is nothing to fill
        try:
            return dict(await asyncio.to_thread(live_directory.current, self._root))
        except OSError:
            return {}  # whatever is written next says why

    async def _follow(self) -> None:
        """Look at the domains that have changed."""
        more = True
        while more:
            async with self._database.connection() as connection:
                found = await live.changes(connection, self._position, PAGE)
            new = [each for each in found if each.position not in self._seen_early]
            await self._look_at({each.domain: None for each in new})
            settled = [each.position for each in found if each.is_settled]
            if settled:
                self._position = settled[-1]
            self._seen_early = {each.position for each in found if not each.is_settled}
            more = len(settled) == PAGE

    async def _try_again(self) -> None:
        """Look again at domains that failed, after longer and longer pauses."""
        if not self._failed:
            self._retries, self._retry_at = 0, 0.0
        elif not self._retry_at:
            self._put_off()
        elif time.monotonic() >= self._retry_at:
            await self._look_at(list(self._failed))
            self._put_off()

    def _put_off(self) -> None:
        delay = FIRST_RETRY_SECONDS * 2 ** min(self._retries, _DOUBLINGS)
        self._retries += 1
        self._retry_at = time.monotonic() + min(delay, LONGEST_RETRY_SECONDS)

    # --- What is done about it -------------------------------------------------------------------

    async def _look_at(self, domains: Iterable[str]) -> None:
        """Write or remove the files of some domains."""
        failed_in_a_row, reason = 0, ""
        for domain in domains:
            if failed_in_a_row == TRIES_IN_A_ROW:
                self._failed[domain] = reason
                continue
            try:
                await self._bring_up_to_date(domain)
            except _FAILURES as error:
                reason = _described(error)
                self._failed[domain] = reason
                failed_in_a_row += 1
            else:
                self._failed.pop(domain, None)
                failed_in_a_row = 0
        self._say()

    async def _bring_up_to_date(self, domain: str) -> None:
        """Write what the database has of a domain. Raises OSError, ValueError and UnsealError."""
        assert self._root is not None  # noqa: S101 - else there is nothing to write to
        async with self._writing:
            async with self._database.connection() as connection:
                kept = await live.kept(connection, domain)
            if kept is None:
                await asyncio.to_thread(live_directory.remove, self._root, domain)
                return
            der = self._sealer.open(kept.sealed_key, CERTIFICATE_KEY.row(kept.id))
            await asyncio.to_thread(
                live_directory.write, self._root, domain, kept.chain_pem, private_pem(der)
            )

    def _say(self) -> None:
        """Log what fails, and that it does not any more, once for each change."""
        reasons = set(self._failed.values())
        for reason in reasons - self._said:
            seen = {"directory": str(self._root), "reason": reason, "domains": len(self._failed)}
            LOG.warning("certificates could not be written", extra=seen)
        if self._said and not reasons:
            LOG.info("certificates are written again", extra={"directory": str(self._root)})
        self._said = reasons


def _described(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
