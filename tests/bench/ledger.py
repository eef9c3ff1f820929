"""What the platform has on record of the renewals: rows in Postgres, events, audit records.

Reads as an operator may: Postgres as the inspecting role, the streams in the READERS account.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
from nats.aio.client import Client

from contracts.audit import Outcome
from contracts.events import CertificateRenewed
from contracts.instance import RenewCertificate
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service, audit_record

EVENT_SUBJECT = CertificateRenewed.nats_subject()
RECORD_SUBJECT = audit_record(Service.INSTANCE, str(RenewCertificate.ACTION))
MESSAGE_TIMEOUT_SECONDS = 10

# Each answers: of these serials (hex), or instances, how often which.
CERTIFICATES = "SELECT serial_hex FROM issuer.certificate WHERE serial_hex = ANY($1::text[])"
INVENTORY = """
SELECT serial_hex FROM instance.certificate WHERE instance_id = ANY($1::uuid[])
"""
RECORDS = """
SELECT record ->> 'object_id' FROM audit.record
WHERE service = 'instance' AND action = $2 AND outcome = $3 AND object_id = ANY($1::text[])
"""


class Ledger:
    """Open connections to one platform; `has` and `discrepancies` compare it with its clients."""

    def __init__(
        self, runner: asyncio.Runner, database: "asyncpg.Connection[asyncpg.Record]", client: Client
    ) -> None:
        self._runner = runner
        self._database = database
        self._client = client
        self._streams = client.jetstream()
        self._at_start = runner.run(self._published())

    @classmethod
    @contextmanager
    def opened(cls, bootstrap: Path) -> Iterator["Ledger"]:
        """With the credentials that `certwire up` leaves in its bootstrap directory."""
        operator = json.loads((bootstrap / "nats-operator.json").read_text())
        url = (bootstrap / "postgres-inspect.url").read_text().strip()
        with asyncio.Runner() as runner:
            database = runner.run(asyncpg.connect(url))
            client = runner.run(
                nats.connect(
                    operator["url"],
                    nkeys_seed=str(bootstrap / operator["nkey"]),
                    inbox_prefix=operator["inbox_prefix"],
                )
            )
            try:
                yield cls(runner, database, client)
            finally:
                runner.run(client.close())
                runner.run(database.close())

    def has(self, renewals: int) -> bool:
        """Whether that many renewals since `opened` are published as events and audit records."""
        now = self._runner.run(self._published())
        return all(n - before >= renewals for n, before in zip(now, self._at_start, strict=True))

    def discrepancies(self, serials: Sequence[int], instance_ids: Sequence[str]) -> list[str]:
        """Where the record differs from one renewal of each instance with these serials."""
        return self._runner.run(self._discrepancies(serials, instance_ids))

    async def _published(self) -> tuple[int, int]:
        return (
            await self._count(EVENTS_STREAM, EVENT_SUBJECT),
            await self._count(AUDIT_STREAM, RECORD_SUBJECT),
        )

    async def _count(self, stream: str, subject: str) -> int:
        info = await self._streams.stream_info(stream, subjects_filter=subject)
        return (info.state.subjects or {}).get(subject, 0)

    async def _messages(self, stream: str, subject: str) -> list[dict[str, Any]]:
        count = await self._count(stream, subject)
        subscription = await self._streams.subscribe(subject, stream=stream, ordered_consumer=True)
        try:
            return [
                json.loads((await subscription.next_msg(MESSAGE_TIMEOUT_SECONDS)).data)
                for _ in range(count)
            ]
        finally:
            await subscription.unsubscribe()

    async def _discrepancies(self, serials: Sequence[int], ids: Sequence[str]) -> list[str]:
        ours = set(ids)
        expected = [f"{serial:x}" for serial in serials]
        events = await self._messages(EVENTS_STREAM, EVENT_SUBJECT)
        records = await self._messages(AUDIT_STREAM, RECORD_SUBJECT)
        action = RenewCertificate.ACTION
        stored = await self._database.fetch(RECORDS, ids, action, Outcome.SUCCESS)
        certificates = await self._database.fetch(CERTIFICATES, expected)
        found = [
            compare("certificate row", expected, [row[0] for row in certificates]),
            compare("event", expected, [e["serial_hex"] for e in events if e["owner"] in ours]),
            compare(
                "audit record on the stream",
                ids,
                [
                    record["object"]["id"]
                    for record in records
                    if record["outcome"] == Outcome.SUCCESS and record["object"]["id"] in ours
                ],
            ),
            compare("audit record in the audit service", ids, [row[0] for row in stored]),
        ]
        return [line for line in found if line]


def compare(what: str, expected: Sequence[str], actual: Sequence[str]) -> str:
    """A line for the person at the terminal, or nothing where both are the same once each."""
    wanted, had = Counter(expected), Counter(actual)
    if wanted == had and len(wanted) == len(expected):
        return ""
    missing, extra = (wanted - had).total(), (had - wanted).total()
    twice = len(expected) - len(wanted)
    return (
        f"certwire: {what}: {len(actual)} for {len(expected)} replies"
        f" ({missing} missing, {extra} too many, {twice} replies alike)"
    )
