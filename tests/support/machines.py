"""Machines with `certwire agent`, and whether what is on their disks is good for anything."""

import asyncio
import contextlib
import json
import signal
import stat
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.cli.agent_files import RENEWAL, AgentDirectory
from shared.clock import utc_now
from tests.support.agent_platform import public_key
from tests.support.agents import AGENTS, with_token
from tests.support.client import TRANSPORT_ERRORS, Client, Workload, fingerprint_of, registered
from tests.support.command_line import Done
from tests.support.eventually import eventually
from tests.support.lossy import Way
from tests.support.platform import Platform, running_platform

TIME_FLIES = """
CREATE FUNCTION instance.time_flies() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.renewed_at := NEW.renewed_at - interval '1 hour'; RETURN NEW; END $$;
CREATE TRIGGER time_flies BEFORE UPDATE ON instance.instance FOR EACH ROW
    WHEN (NEW.renewed_at IS DISTINCT FROM OLD.renewed_at) EXECUTE FUNCTION instance.time_flies();
CREATE FUNCTION registry.time_flies() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.created_at := NEW.created_at - interval '26 seconds'; RETURN NEW; END $$;
CREATE TRIGGER time_flies BEFORE INSERT ON registry.claim FOR EACH ROW
    EXECUTE FUNCTION registry.time_flies();
"""
"""An hour between two renewals of an instance, and most of the half minute after which the registry
gives up a certificate that was not made."""
RENEWED, FAILED = "renewed: serial", "could not renew"
"""What `certwire agent run` says."""
PATIENCE_SECONDS = 40
"""Of tests with machines that compete for a processor."""


@dataclass(eq=False)
class Machine:
    """A machine: an agent, or the instance that `workload` is."""

    platform: Platform = field(repr=False)
    way: Way = field(repr=False)
    path: Path
    name: str
    token: str = field(repr=False)
    workload: Workload | None = field(default=None, repr=False)
    _runs: list[asyncio.subprocess.Process] = field(default_factory=list, repr=False)

    # --- What its person does --------------------------------------------------------------------

    async def join(self) -> Done:
        """Exchange the token for the first certificate."""
        words = ["--url", self.way.url, "--ca", str(self.platform.ca_file), "--token", self.token]
        if self.workload is None:
            return await self.certwire("enroll", *words, "--label", self.name)
        words += ["--instance", self.name, "--wg-public-key", self.workload.wg_public_key]
        return await self.certwire("bootstrap", *words, "--vpn-ip", self.workload.vpn_ip)

    async def certwire(self, command: str, *words: str, before: tuple[str, ...] = ()) -> Done:
        """Run a command of the agent to its end; `before` is what runs it."""
        words = ("agent", command, "--directory", str(self.path), *words)
        return await self.platform.line.run(*words, seconds=90, before=before)

    async def run(self, *words: str) -> asyncio.subprocess.Process:
        """Start `certwire agent run`."""
        words = ("agent", "run", "--directory", str(self.path), *words)
        with self.log.open("ab") as log:
            process = await self.platform.line.start(*words, output=log)
        self._runs.append(process)
        return process

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> list[int]:
        """Signal what runs, once it minds a SIGTERM; return the exit codes."""
        runs, self._runs = self._runs, []
        for process in runs:
            if number is signal.SIGTERM:
                await eventually(partial(_minds, process, number), "it has begun")
            if process.returncode is None:
                process.send_signal(number)
        return [await process.wait() for process in runs]

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def said(self) -> str:
        """Return what `certwire agent run` said so far."""
        return self.log.read_text() if self.log.exists() else ""

    async def says(self, text: str, after: int = 0) -> None:
        """Wait until it says something, `after` so many characters."""

        async def said() -> bool:
            return text in self.said[after:]

        await eventually(said, f"{self.name} says {text!r}", seconds=PATIENCE_SECONDS)

    # --- What is on its disk ---------------------------------------------------------------------

    @property
    def directory(self) -> AgentDirectory:
        return AgentDirectory(self.path)

    def pair(self) -> str:
        """Return certificate and key in use. They belong together, and are not out of date."""
        version = (self.path / "current").resolve(strict=True)
        key_pem = (version / "client.key").read_bytes()
        certificate_pem = (version / "client.crt").read_bytes()
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = load_pem_private_key(key_pem, None)
        assert key.public_key() == certificate.public_key(), self
        assert (version / "client.pem").read_bytes() == key_pem + certificate_pem, self
        assert certificate.not_valid_before_utc <= utc_now(), self
        assert utc_now() < certificate.not_valid_after_utc, (self, self.said)
        for private in ("client.key", "client.pem"):
            assert stat.S_IMODE((version / private).stat().st_mode) == 0o600
        return (certificate_pem + key_pem).decode()

    @property
    def fingerprint(self) -> str:
        """Return the one of the certificate in use."""
        return fingerprint_of((self.path / "current" / "client.crt").read_text())

    def secrets(self) -> object:
        """Return an instance's secrets."""
        assert stat.S_IMODE(self.directory.secrets.stat().st_mode) == 0o600
        return json.loads(self.directory.secrets.read_text())

    # --- What the platform says of that --------------------------------------------------------

    async def is_accepted(self) -> bool:
        """Return whether the platform takes the machine for what it is."""
        try:
            async with Client(self.platform, self.pair()) as itself:
                return (await self._asks(itself)).status_code == 200
        except TRANSPORT_ERRORS:
            return False

    async def _asks(self, itself: Client) -> httpx2.Response:
        if self.workload is None:
            return await itself.call("GET", f"{AGENTS}/me", trouble=True)
        return await itself.refresh(self.workload, trouble=True)

    async def is_safe(self) -> bool:
        """Return whether it is accepted, or gets what was signed for the key that waits.

        The second is for instances: their old certificate ends with the renewal (the rulings').
        """
        if await self.is_accepted():
            return True
        pending = self.directory.pending(RENEWAL)
        if self.workload is None or pending is None:
            return False
        async with Client(self.platform, self.pair()) as itself:
            answer = await itself.renew(self.workload, csr_pem=pending.csr_pem)
        if answer.status_code != 200:
            return False
        signed = x509.load_pem_x509_certificate(answer.json()["cert_pem"].encode())
        return public_key(signed) == pending.public_key

    async def becomes_accepted(self) -> None:
        """Wait until the platform accepts it; one that renews just now is between two of them."""
        what = f"{self.name} is accepted"
        await eventually(self.is_accepted, what, seconds=PATIENCE_SECONDS)

    async def signed(self) -> list[str]:
        """Return the fingerprints of what was ever signed for it."""
        column, value = ("owner_id", self.name) if self.workload else ("subject", self.subject)
        query = f"SELECT fingerprint FROM issuer.certificate WHERE {column} = $1"  # noqa: S608 - a column of ours
        return await self.platform.values(query, value)

    @property
    def subject(self) -> str:
        return f"CN=agent:{self.name}"


async def _minds(process: asyncio.subprocess.Process, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal (proc_pid_status(5)), or has ended."""
    if process.returncode is not None:
        return True
    status = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


async def new_agent(admin: Client, platform: Platform, way: Way, below: Path) -> Machine:
    """Return a machine that may enrol."""
    agent = await with_token(admin)
    return Machine(platform, way, below / agent.label, agent.label, agent.token)


async def new_instance(admin: Client, platform: Platform, way: Way, below: Path) -> Machine:
    """Return a machine that may bootstrap, and renew from then on."""
    workload = await registered(admin)
    assert (await admin.move(workload.id, "running")).status_code == 200
    return Machine(platform, way, below / workload.id, workload.id, workload.token, workload)


NewMachine = Callable[[Client, Platform, Way, Path], Coroutine[Any, Any, Machine]]
KINDS: tuple[NewMachine, ...] = (new_agent, new_instance)


@contextlib.contextmanager
def hasty_platform(**variables: str) -> Iterator[Platform]:
    """Run a platform on which time flies, and which gives up earlier than others do."""
    with running_platform(
        CERTWIRE_INSTANCE_SECRETS_REFRESHES_PER_HOUR="100000",
        CERTWIRE_INSTANCE_CLAIM_LIFETIME_SECONDS="4",
        CERTWIRE_DEADLINE_SECONDS="4",
        **variables,
    ) as platform:
        asyncio.run(_let_time_fly(platform))
        yield platform


async def _let_time_fly(platform: Platform) -> None:
    async with platform.superuser() as connection:
        await connection.execute(TIME_FLIES)


async def has_one_certificate(machine: Machine) -> None:
    """Wait until the one on its disk is the only one that counts."""
    counting = (
        "SELECT fingerprint FROM issuer.certificate WHERE revoked_at IS NULL"
        " AND fingerprint = ANY($1)"
    )

    async def only_that() -> bool:
        found = await machine.platform.values(counting, await machine.signed())
        return found == [machine.fingerprint]

    await eventually(only_that, f"{machine.name} has one certificate", seconds=PATIENCE_SECONDS)
