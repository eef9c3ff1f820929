"""The files of certificates on replicas' disks: as the database has them, whatever happens."""

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.acme import RELOAD_FAILED
from contracts.errors import CertwireError
from contracts.subjects import Service
from services.acme import live as module
from services.acme.keys import private_der
from services.acme.live import NOT_WRITTEN, Live
from services.acme.settings import AcmeSettings
from services.acme.store import live as store
from services.acme.store.sealed import CERTIFICATE_KEY
from shared import live_directory
from shared.database import Connection, Database
from shared.runtime import Runtime, cancel
from shared.secrets import Sealer, new_key
from tests.support.eventually import eventually
from tests.support.live import Pair, issued, keys, left_over, put, served, version
from tests.support.plans import plan_of
from tests.support.servers import Place, PostgresServer

DOMAIN, OTHER, WILDCARD = "api.example.com", "www.example.com", "*.example.com"
INSERT = """
INSERT INTO certificate (id, project_id, staging, type, domain, names, fingerprint, serial_hex,
    subject, issuer, not_before, not_after, chain_pem, sealed_key, issuance)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, ARRAY[$5], $6, '1', '', '', now(), now() + interval '90 days', $7, $8,
    CASE WHEN $4 = 'letsencrypt' THEN '{}'::jsonb END)
"""
NEXT_ID = "SELECT nextval(pg_get_serial_sequence('certificate', 'id'))"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr("services.acme.reloads.FIRST_RETRY_SECONDS", 0.1)


@dataclass
class Projects:
    """Certificates of projects; each project has the name of its domain."""

    database: Database
    sealer: Sealer

    async def obtain(
        self, domain: str = DOMAIN, *, staging: bool = False, kind: str = "letsencrypt"
    ) -> Pair:
        """Put a new certificate in the place of the one that there is, as an order does."""
        pair = issued(domain)
        async with self.database.transaction() as connection:
            await self.replace(connection, domain, pair, staging=staging, kind=kind)
        return pair

    async def replace(
        self,
        connection: Connection,
        domain: str,
        pair: Pair,
        *,
        staging: bool = False,
        kind: str = "letsencrypt",
        sealer: Sealer | None = None,
    ) -> None:
        project = domain.replace("*.", "wildcard-of.").replace(".", "-")
        await connection.execute(
            "INSERT INTO project (id, name, domain) VALUES ($1, $1, $2) ON CONFLICT DO NOTHING",
            project,
            domain,
        )
        await connection.execute(
            "DELETE FROM certificate WHERE project_id = $1 AND staging = $2", project, staging
        )
        number = await connection.fetchval(NEXT_ID)
        key = load_pem_private_key(pair.key_pem.encode(), None)
        sealed = (sealer or self.sealer).seal(private_der(key), CERTIFICATE_KEY.row(number))  # type: ignore[arg-type]  # a P-256 key
        await connection.execute(
            INSERT, number, project, staging, kind, domain, pair.fingerprint, pair.chain_pem, sealed
        )

    async def run(self, statement: str, *arguments: object) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(statement, *arguments)


@pytest.fixture
async def runtime(place: Place) -> AsyncIterator[Runtime]:
    runtime = await Runtime.open(Service.ACME, place.settings(AcmeSettings))
    yield runtime
    await runtime.close()


@pytest.fixture
def projects(runtime: Runtime) -> Projects:
    assert isinstance(runtime.settings, AcmeSettings)
    return Projects(runtime.database, runtime.settings.sealer)


@dataclass
class Replica:
    """A process with a live directory."""

    live: Live
    root: Path

    async def has(self, domain: str, pair: Pair | None) -> None:
        """Wait until a certificate is in use, or none."""
        wanted = version(pair) if pair else None

        async def is_so() -> bool:
            return served(self.root, domain) == wanted

        await eventually(is_so, f"{domain} in {self.root}")

    async def is_empty(self) -> None:
        """Wait until there is no key left."""

        async def is_so() -> bool:
            return not keys(self.root) and not left_over(self.root)

        await eventually(is_so, f"no key in {self.root}")


class Replicas:
    """Makes replicas, and ends them."""

    def __init__(self, place: Place, directory: Path, stack: AsyncExitStack) -> None:
        self._place = place
        self._directory = directory
        self._stack = stack

    async def make(self, name: str = "one", command: str | None = None) -> Replica:
        root = self._directory / name
        settings = self._place.settings(
            AcmeSettings, acme_live_dir=root, acme_reload_command=command
        )
        runtime = await Runtime.open(Service.ACME, settings)
        self._stack.push_async_callback(runtime.close)
        return Replica(Live(runtime, settings, settings.sealer), root)

    async def fill(self, replica: Replica) -> None:
        await self._stack.enter_async_context(filling(replica))


@asynccontextmanager
async def filling(replica: Replica) -> AsyncIterator[None]:
    """Let a replica fill its directory until the block ends."""
    task = asyncio.create_task(replica.live.fill())
    try:
        yield
    finally:
        if task.done():
            task.result()
        await cancel([task])


@pytest.fixture
async def replicas(place: Place, tmp_path: Path) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        yield Replicas(place, tmp_path, stack)


# --- What is on the disk --------------------------------------------------------------------------


async def test_what_there_is_at_the_start_is_written(
    projects: Projects, replicas: Replicas
) -> None:
    pairs = {domain: await projects.obtain(domain) for domain in (DOMAIN, WILDCARD)}
    pairs[OTHER] = await projects.obtain(OTHER, kind="custom")
    await projects.obtain("staging.example.com", staging=True)
    one = await replicas.make()
    await replicas.fill(one)
    for domain, pair in pairs.items():
        await one.has(domain, pair)
    assert live_directory.current(one.root).keys() == pairs.keys()
    for domain, pair in pairs.items():
        path = one.live.path_of(domain)
        assert path.read_text() == pair.chain_pem
        assert path.with_name("privkey.pem").read_text() == pair.key_pem
    assert await one.live.warnings() == []


async def test_two_replicas_follow_what_changes(projects: Projects, replicas: Replicas) -> None:
    one, two = [await replicas.make(name) for name in ("one", "two")]
    for replica in (one, two):
        await replicas.fill(replica)
    first = await projects.obtain()
    for replica in (one, two):
        await replica.has(DOMAIN, first)
    renewed, uploaded = await projects.obtain(), await projects.obtain(OTHER, kind="custom")
    for replica in (one, two):
        await replica.has(DOMAIN, renewed)
        await replica.has(OTHER, uploaded)
    await projects.run("DELETE FROM certificate WHERE domain = $1", OTHER)
    await projects.run("DELETE FROM project WHERE domain = $1", DOMAIN)
    for replica in (one, two):
        await replica.has(DOMAIN, None)
        await replica.has(OTHER, None)
        await replica.is_empty()


async def test_a_revoked_certificate_stays_until_it_is_removed(
    projects: Projects, replicas: Replicas
) -> None:
    one = await replicas.make()
    await replicas.fill(one)
    pair = await projects.obtain()
    await one.has(DOMAIN, pair)
    await projects.run("UPDATE certificate SET revoked_at = now()")
    other = await projects.obtain(OTHER)
    await one.has(OTHER, other)
    assert served(one.root, DOMAIN) == version(pair)
    # By a comparison, too.
    await one.live._compare()
    assert served(one.root, DOMAIN) == version(pair)


async def test_a_domain_that_another_project_takes_has_the_others_certificate(
    projects: Projects, replicas: Replicas
) -> None:
    one = await replicas.make()
    await replicas.fill(one)
    await one.has(DOMAIN, await projects.obtain())
    await projects.run("DELETE FROM project WHERE domain = $1", DOMAIN)
    await one.has(DOMAIN, await projects.obtain())


async def test_staging_touches_no_file(projects: Projects, replicas: Replicas) -> None:
    one = await replicas.make()
    await replicas.fill(one)
    pair = await projects.obtain()
    await one.has(DOMAIN, pair)
    await projects.obtain(staging=True)
    await projects.run("DELETE FROM certificate WHERE staging")
    await one.has(OTHER, await projects.obtain(OTHER))
    assert served(one.root, DOMAIN) == version(pair)


async def test_what_happened_while_no_process_ran_is_found(
    projects: Projects, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    domains = [f"n{number}.example.com" for number in range(10)]
    for domain in domains:
        await projects.obtain(domain)
    one = await replicas.make()
    async with filling(one):
        await one.has(domains[-1], await projects.obtain(domains[-1]))
    renewed = await projects.obtain(domains[0])
    await projects.run("DELETE FROM certificate WHERE domain = $1", domains[1])
    (one.root / "live" / domains[2] / "privkey.pem").unlink()
    shutil.rmtree(one.root / "archive" / domains[3])
    await projects.run("DELETE FROM certificate_change")  # nobody remembers
    again = await replicas.make()
    async with filling(again):
        await again.has(domains[0], renewed)
        await again.has(domains[1], None)

        async def are_whole() -> bool:
            current = live_directory.current(one.root)
            return len(current) == 9 and live_directory.NOT_WHOLE not in current.values()

        await eventually(are_whole, "all files are there")


async def test_files_that_went_missing_come_back_within_the_hour(
    projects: Projects, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.3)
    pair = await projects.obtain()
    one = await replicas.make()
    await replicas.fill(one)
    await one.has(DOMAIN, pair)
    shutil.rmtree(one.root)
    await one.has(DOMAIN, pair)


async def test_replicas_of_one_host_may_share_a_directory(
    projects: Projects, replicas: Replicas
) -> None:
    one, two = [await replicas.make("shared") for _ in range(2)]
    for replica in (one, two):
        await replicas.fill(replica)
    for _ in range(5):
        pairs = {domain: await projects.obtain(domain) for domain in (DOMAIN, OTHER)}
        await asyncio.gather(one.live.deliver(DOMAIN), two.live.deliver(DOMAIN))
        for domain, pair in pairs.items():
            await one.has(domain, pair)

    async def is_tidy() -> bool:  # once both have come to the end of it
        return not left_over(one.root) and len(keys(one.root)) <= 4  # the last two of each

    await eventually(is_tidy, "two versions of each are kept")


# --- Changes are not missed -----------------------------------------------------------------------


async def test_a_change_that_commits_late_is_not_missed(
    projects: Projects, replicas: Replicas
) -> None:
    """Its number is lower than that of one which has been seen already."""
    one = await replicas.make()
    await replicas.fill(one)
    await one.has(OTHER, await projects.obtain(OTHER))
    async with projects.database.transaction() as slow:
        late = issued(DOMAIN)
        await projects.replace(slow, DOMAIN, late)
        # Changes that come meanwhile are not kept waiting by it.
        await one.has(OTHER, await projects.obtain(OTHER))
        await one.has(WILDCARD, await projects.obtain(WILDCARD))
        assert served(one.root, DOMAIN) is None
    await one.has(DOMAIN, late)


async def test_changes_that_were_seen_early_are_looked_at_once(
    projects: Projects, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await replicas.make()
    looked_at: list[str] = []
    real = one.live._bring_up_to_date

    async def count(domain: str) -> None:
        looked_at.append(domain)
        await real(domain)

    monkeypatch.setattr(one.live, "_bring_up_to_date", count)
    await one.live._compare()
    async with projects.database.transaction() as slow:
        await slow.execute("SELECT pg_current_xact_id()")
        await projects.obtain()
        for _ in range(3):
            await one.live._follow()
    for _ in range(3):
        await one.live._follow()
    assert looked_at == [DOMAIN]
    await projects.obtain()
    await one.live._follow()
    assert looked_at == [DOMAIN, DOMAIN]
    assert not one.live._seen_early


async def test_a_transaction_that_is_rolled_back_changes_nothing(
    projects: Projects, replicas: Replicas
) -> None:
    one = await replicas.make()
    await replicas.fill(one)
    pair = await projects.obtain()
    await one.has(DOMAIN, pair)

    async def fail() -> None:
        async with projects.database.transaction() as connection:
            await projects.replace(connection, DOMAIN, issued(DOMAIN))
            raise RuntimeError("not after all")

    with pytest.raises(RuntimeError, match="not after all"):
        await fail()
    await one.has(OTHER, await projects.obtain(OTHER))
    assert served(one.root, DOMAIN) == version(pair)


async def test_more_changes_than_a_page_are_all_followed(
    projects: Projects, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await replicas.make()
    await one.live._compare()
    pairs = {}
    for number in range(10):
        domain = f"n{number}.example.com"
        pairs[domain] = await projects.obtain(domain)
    monkeypatch.setattr(module, "PAGE", 3)
    await one.live._follow()
    assert live_directory.current(one.root) == {
        domain: version(pair) for domain, pair in pairs.items()
    }


async def test_old_changes_are_forgotten(projects: Projects, replicas: Replicas) -> None:
    await projects.obtain(DOMAIN)
    await projects.run("UPDATE certificate_change SET changed_at = now() - interval '3 days'")
    await projects.obtain(OTHER)
    one = await replicas.make()
    await one.live._compare()
    async with projects.database.connection() as connection:
        rows = await connection.fetch("SELECT domain FROM certificate_change")
    assert [row["domain"] for row in rows] == [OTHER]


async def test_changes_are_noted_of_what_is_written(projects: Projects) -> None:
    await projects.obtain()
    await projects.obtain(staging=True)

    async def noted(statement: str) -> list[str]:
        await projects.run("DELETE FROM certificate_change")
        await projects.run(statement)
        async with projects.database.connection() as connection:
            rows = await connection.fetch("SELECT domain FROM certificate_change ORDER BY domain")
        return [row["domain"] for row in rows]

    update = "UPDATE certificate SET "
    assert await noted(update + "renew_at = now(), failures = 1") == []
    assert await noted(update + "sealed_key = sealed_key") == []
    assert await noted(update + "chain_pem = chain_pem || ' '") == [DOMAIN]
    renamed = f"domain = '{OTHER}' WHERE NOT staging"
    assert await noted(update + renamed) == [DOMAIN, OTHER]
    assert await noted("DELETE FROM certificate WHERE staging") == []
    assert await noted("DELETE FROM project") == [OTHER]


async def test_looking_for_changes_and_certificates_reads_only_what_is_found(
    projects: Projects,
) -> None:
    many = """
    INSERT INTO project (id, name, domain)
    SELECT 'p' || n, '', 'n' || n || '.example.com' FROM generate_series(1, 5000) AS n
    """
    await projects.run(many)
    await projects.run(
        "INSERT INTO certificate (project_id, type, domain, names, fingerprint, serial_hex,"
        " subject, issuer, not_before, not_after, chain_pem, sealed_key)"
        " SELECT id, 'custom', domain, '{}', '', '1', '', '', now(), now(), '', '' FROM project"
    )
    await projects.run("ANALYZE certificate")
    await projects.run("ANALYZE certificate_change")
    async with projects.database.connection() as connection:
        here = await store.here(connection)
        position = str(here.transaction), 0
        plan = await plan_of(connection, store.CHANGES, *position, 500)
        assert plan.rows_read == 0
        plan = await plan_of(connection, store.CHANGES, "0", 0, 500)
        assert plan.rows_read == 500
        plan = await plan_of(connection, store.KEPT, "n77.example.com")
        assert (plan.rows_read, plan.read_whole) == (1, set())
        plan = await plan_of(connection, store.VERSIONS, 1000, 500)
        assert plan.rows_read == 500


# --- Delivery by the replica that ended the order -------------------------------------------------


def counting(tmp_path: Path, body: str = "") -> tuple[str, Path]:
    """Return a reload command, and the file in which it leaves a line for each run."""
    count, script = tmp_path / "count", tmp_path / "reload"
    script.write_text(f"#!/bin/sh\necho run >> {count}\n{body}\n")
    script.chmod(0o755)
    count.touch()
    return shlex.quote(str(script)), count


def runs(count: Path) -> int:
    return len(count.read_text().splitlines())


async def test_a_certificate_is_delivered_at_once(
    projects: Projects, replicas: Replicas, tmp_path: Path
) -> None:
    command, count = counting(tmp_path)
    one = await replicas.make(command=command)
    pair = await projects.obtain()
    assert await one.live.deliver(DOMAIN) is None
    assert served(one.root, DOMAIN) == version(pair)
    assert runs(count) == 1
    # A second time, after a crash say, there is nothing left to do.
    assert await one.live.deliver(DOMAIN) is None
    assert runs(count) == 1


async def test_a_reload_that_a_crash_cut_off_is_run_again(
    projects: Projects, replicas: Replicas, tmp_path: Path
) -> None:
    pair = await projects.obtain()
    one = await replicas.make()
    put(one.root, pair, DOMAIN)  # and then it was killed
    command, count = counting(tmp_path)
    again = await replicas.make(command=command)
    assert await again.live.deliver(DOMAIN) is None
    assert runs(count) == 1
    put(one.root, issued(DOMAIN), DOMAIN)
    await replicas.fill(again)
    await again.has(DOMAIN, pair)

    async def is_told() -> bool:
        return live_directory.reload_due(again.root) is None

    await eventually(is_told, "the reload")
    assert runs(count) > 1


async def test_a_failed_reload_is_a_warning_and_is_tried_again(
    projects: Projects,
    replicas: Replicas,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fixed = tmp_path / "fixed"
    command, count = counting(tmp_path, f"test -e {fixed} || {{ echo no such file; exit 3; }}")
    one = await replicas.make(command=command)
    await projects.obtain()
    assert await one.live.deliver(DOMAIN) == RELOAD_FAILED
    assert RELOAD_FAILED == "Certificate renewed but nginx reload failed"
    assert await one.live.warnings() == ["the reload command failed with exit code 3"]
    await replicas.fill(one)

    async def was_tried() -> bool:
        return runs(count) >= 3

    await eventually(was_tried, "more runs")
    failures = [record for record in caplog.records if "reload command failed" in record.message]
    assert [record.__dict__["output"] for record in failures] == ["no such file\n"]
    fixed.touch()

    async def is_well() -> bool:
        return await one.live.warnings() == []

    await eventually(is_well, "no warning")
    assert live_directory.reload_due(one.root) is None


async def test_one_reload_serves_all_that_come_at_once(
    projects: Projects, replicas: Replicas, tmp_path: Path
) -> None:
    command, count = counting(tmp_path, "sleep 0.5")
    one = await replicas.make(command=command)
    domains = [f"n{number}.example.com" for number in range(8)]
    for domain in domains:
        await projects.obtain(domain)
    warnings = await asyncio.gather(*map(one.live.deliver, domains))
    assert warnings == [None] * 8
    assert runs(count) < 8
    assert live_directory.reload_due(one.root) is None


async def test_without_a_directory_nothing_is_done(place: Place, projects: Projects) -> None:
    settings = place.settings(AcmeSettings, acme_reload_command="/bin/false")
    runtime = await Runtime.open(Service.ACME, settings)
    live = Live(runtime, settings, settings.sealer)
    await projects.obtain()
    assert not live.is_kept
    where = "/etc/letsencrypt/live/app.example.com/fullchain.pem"
    assert str(live.path_of("app.example.com")) == where
    assert await live.deliver(DOMAIN) is None
    assert await live.warnings() == []
    await runtime.close()


# --- What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("place_of_trouble", ["root", "archive"])
async def test_a_disk_that_cannot_be_written_is_said_once_and_tried_again(
    projects: Projects,
    replicas: Replicas,
    caplog: pytest.LogCaptureFixture,
    place_of_trouble: str,
) -> None:
    caplog.set_level("INFO", module.LOG.name)
    one = await replicas.make()
    blocked = one.root if place_of_trouble == "root" else one.root / "archive"
    blocked.parent.mkdir(exist_ok=True)
    blocked.touch()  # a file in its place fails for root as well
    pairs = {domain: await projects.obtain(domain) for domain in (DOMAIN, OTHER)}
    assert await one.live.deliver(DOMAIN) == NOT_WRITTEN
    await replicas.fill(one)

    async def is_said() -> bool:
        return "1 more" in "".join(await one.live.warnings())

    await eventually(is_said, "a warning")
    (warning,) = await one.live.warnings()
    assert re.fullmatch(
        rf"{one.root} is not up to date for {DOMAIN} and 1 more: (Not a directory|File exists)",
        warning,
    )
    await asyncio.sleep(0.5)
    said = [record for record in caplog.records if "could not be written" in record.message]
    assert len(said) == 1
    blocked.unlink()
    for domain, pair in pairs.items():
        await one.has(domain, pair)

    async def is_well() -> bool:
        return await one.live.warnings() == []

    await eventually(is_well, "no warning")
    assert any("are written again" in record.message for record in caplog.records)


async def test_one_bad_certificate_does_not_keep_the_others_waiting(
    projects: Projects, replicas: Replicas
) -> None:
    """Its key is under a key-encryption key that this replica does not have."""
    stranger = Sealer.from_text(new_key())
    async with projects.database.transaction() as connection:
        await projects.replace(connection, DOMAIN, issued(DOMAIN), sealer=stranger)
    other = await projects.obtain(OTHER)
    one = await replicas.make()
    await replicas.fill(one)
    await one.has(OTHER, other)
    (warning,) = await one.live.warnings()
    assert f"is not up to date for {DOMAIN}: the secret `kek` lacks" in warning
    assert served(one.root, DOMAIN) is None
    assert await one.live.deliver(DOMAIN) == NOT_WRITTEN
    await one.has(DOMAIN, await projects.obtain())


async def test_a_key_that_is_not_the_certificates_is_never_written(
    projects: Projects, replicas: Replicas
) -> None:
    one = await replicas.make()
    good = await projects.obtain()
    await one.live.deliver(DOMAIN)
    wrong = Pair(issued(DOMAIN).chain_pem, good.key_pem, "")
    async with projects.database.transaction() as connection:
        await projects.replace(connection, DOMAIN, wrong)
    assert await one.live.deliver(DOMAIN) == NOT_WRITTEN
    assert served(one.root, DOMAIN) == version(good)


async def test_after_many_failures_in_a_row_the_rest_waits(
    projects: Projects, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(15):
        await projects.obtain(f"n{number}.example.com")
    one = await replicas.make()
    tried: list[str] = []

    async def fail(domain: str) -> None:
        tried.append(domain)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(one.live, "_bring_up_to_date", fail)
    await one.live._compare()
    assert len(tried) == module.TRIES_IN_A_ROW
    assert "and 14 more: No space left" in (await one.live.warnings())[0]


async def test_without_a_database_the_files_stay(
    projects: Projects, replicas: Replicas, postgres: PostgresServer
) -> None:
    one = await replicas.make()
    pair = await projects.obtain()
    await one.live.deliver(DOMAIN)
    postgres.stop()
    try:
        for work in (one.live.fill(), one.live.deliver(DOMAIN)):
            with pytest.raises(CertwireError):
                await work
        assert served(one.root, DOMAIN) == version(pair)
    finally:
        postgres.start()
    renewed = await projects.obtain()
    await replicas.fill(one)
    await one.has(DOMAIN, renewed)
