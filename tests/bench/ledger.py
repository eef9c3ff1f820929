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
from contracts.events import CertificateIssued, CertificateRenewed, CertificateRevoked
from contracts.instance import RenewCertificate
from contracts.pki import RevokeCertificate, SignCsr
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service, audit_record

EVENT_SUBJECT = CertificateRenewed.nats_subject()
RECORD_SUBJECT = audit_record(Service.INSTANCE, str(RenewCertificate.ACTION))
SIGNING_SUBJECT = audit_record(Service.ISSUER, str(SignCsr.ACTION))
REVOCATION_SUBJECT = audit_record(Service.ISSUER, str(RevokeCertificate.ACTION))
MESSAGE_TIMEOUT_SECONDS = 10
MIRROR_LAG_SECONDS = 1

# All that these instances renewed, however often.
CERTIFICATES = """
SELECT serial_hex FROM issuer.certificate
WHERE owner_service = 'instance' AND owner_id = ANY($1::text[]) AND renews IS NOT NULL
"""
# Their current certificates.
INVENTORY = """
SELECT serial_hex FROM instance.certificate
WHERE instance_id = ANY($1::uuid[]) AND revoked_at IS NULL
"""
# Their renewals, as the audit service keeps them.
RECORDS = """
SELECT record::jsonb -> 'object' ->> 'name' FROM audit.record
WHERE service = 'instance' AND action = $2 AND outcome = $3 AND actor_id = ANY($1::text[])
"""
SIGNED = "SELECT serial_hex FROM issuer.certificate WHERE ca_id = $1 AND kind = 'server'"
SIGNING_RECORDS = """
SELECT record::jsonb -> 'detail' ->> 'serial_hex' FROM audit.record
WHERE service = 'issuer' AND action = 'cert_create' AND outcome = 'success'
    AND record::jsonb -> 'detail' ->> 'kind' = 'server'
    AND record::jsonb -> 'detail' ->> 'issuer' = $1
"""
SLUG = "SELECT slug FROM issuer.ca WHERE id = $1"
LISTED = "SELECT NOT EXISTS (SELECT FROM issuer.crl_waiting WHERE ca_id = $1)"
MADE = """
SELECT serial_hex, revoked_at IS NOT NULL FROM issuer.certificate WHERE ca_id = $1
"""
REVOCATION_RECORDS = """
SELECT record::jsonb -> 'detail' ->> 'serial_hex' FROM audit.record
WHERE service = 'issuer' AND action = $2 AND outcome = $3
    AND record::jsonb -> 'detail' ->> 'serial_hex' = ANY($1::text[])
"""
# Whether nothing is left to do: all revocations told, all records published, kept and verified.
SETTLED = """
SELECT NOT EXISTS (
        SELECT FROM instance.certificate WHERE revoked_at IS NOT NULL AND NOT revocation_told
    )
    AND NOT EXISTS (SELECT FROM issuer.outbox WHERE sequence IS NULL)
    AND NOT EXISTS (SELECT FROM instance.outbox WHERE sequence IS NULL)
    AND (SELECT published = sequence FROM issuer.relay)
    AND (SELECT published = sequence FROM instance.relay)
    AND (SELECT sequence FROM issuer.relay)
        = (SELECT coalesce(max(sequence), 0) FROM audit.record WHERE service = 'issuer')
    AND (SELECT sequence FROM instance.relay)
        = (SELECT coalesce(max(sequence), 0) FROM audit.record WHERE service = 'instance')
"""


class Ledger:
    """Open connections to one platform, to compare it with what its clients saw."""

    def __init__(
        self, runner: asyncio.Runner, database: "asyncpg.Connection[asyncpg.Record]", client: Client
    ) -> None:
        self._runner = runner
        self._database = database
        self._client = client
        self._streams = client.jetstream()

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
                    inbox_prefix=operator["inbox_prefix"].encode(),
                )
            )
            try:
                yield cls(runner, database, client)
            finally:
                runner.run(client.close())
                runner.run(database.close())

    def settled(self) -> bool:
        """Whether all that follows from earlier requests is done."""
        return bool(self._runner.run(self._database.fetchval(SETTLED)))

    def slug(self, ca_id: int) -> str:
        """The CA's name in URLs."""
        return str(self._runner.run(self._database.fetchval(SLUG, ca_id)))

    def listed(self, ca_id: int) -> bool:
        """Whether the CA's CRL lists all that is revoked."""
        return bool(self._runner.run(self._database.fetchval(LISTED, ca_id)))

    def discrepancies(self, serials: Sequence[int], instance_ids: Sequence[str]) -> list[str]:
        """Where the record differs from one renewal by each instance, with these serials."""
        return self._runner.run(self._discrepancies(serials, instance_ids))

    def signing_discrepancies(
        self, serials: Sequence[int], ca_id: int, ca_subject: str
    ) -> list[str]:
        """Where the record differs from one certificate of this CA for each of these serials."""
        return self._runner.run(self._signing_discrepancies(serials, ca_id, ca_subject))

    def revocation_discrepancies(self, serials: Sequence[int], ca_id: int) -> list[str]:
        """Where the record differs from one revocation of each of this CA's certificates here."""
        return self._runner.run(self._revocation_discrepancies(serials, ca_id))

    async def _revocation_discrepancies(self, serials: Sequence[int], ca_id: int) -> list[str]:
        await asyncio.sleep(MIRROR_LAG_SECONDS)
        expected = [f"{serial:x}" for serial in serials]
        made = await self._database.fetch(MADE, ca_id)
        ours = {serial for serial, _ in made}
        action, success = RevokeCertificate.ACTION, Outcome.SUCCESS
        events = await self._messages(EVENTS_STREAM, CertificateRevoked.nats_subject())
        records = await self._messages(AUDIT_STREAM, REVOCATION_SUBJECT)
        stored = await self._database.fetch(REVOCATION_RECORDS, list(ours), action, success)
        told = [event["serial_hex"] for event in events]
        audited = [r["detail"]["serial_hex"] for r in records if r["outcome"] == success]
        found = [
            compare("revoked certificate of the issuer", expected, [s for s, gone in made if gone]),
            compare("event", expected, [serial for serial in told if serial in ours]),
            compare("audit record on the stream", expected, [s for s in audited if s in ours]),
            compare("audit record in the audit service", expected, [row[0] for row in stored]),
        ]
        return [line for line in found if line]

    async def _signing_discrepancies(
        self, serials: Sequence[int], ca_id: int, ca_subject: str
    ) -> list[str]:
        await asyncio.sleep(MIRROR_LAG_SECONDS)
        expected = [f"{serial:x}" for serial in serials]
        events = await self._messages(EVENTS_STREAM, CertificateIssued.nats_subject())
        records = await self._messages(AUDIT_STREAM, SIGNING_SUBJECT)
        signed = await self._database.fetch(SIGNED, ca_id)
        stored = await self._database.fetch(SIGNING_RECORDS, ca_subject)
        told = [e for e in events if (e["issuer"], e["kind"]) == (ca_subject, "server")]
        details = [record["detail"] for record in records if record["outcome"] == Outcome.SUCCESS]
        audited = [d for d in details if (d["issuer"], d["kind"]) == (ca_subject, "server")]
        found = [
            compare("certificate of the issuer", expected, [row[0] for row in signed]),
            compare("event", expected, [event["serial_hex"] for event in told]),
            compare("audit record on the stream", expected, [d["serial_hex"] for d in audited]),
            compare("audit record in the audit service", expected, [row[0] for row in stored]),
        ]
        return [line for line in found if line]

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
        await asyncio.sleep(MIRROR_LAG_SECONDS)
        ours = set(ids)
        expected = [f"{serial:x}" for serial in serials]
        events = await self._messages(EVENTS_STREAM, EVENT_SUBJECT)
        records = await self._messages(AUDIT_STREAM, RECORD_SUBJECT)
        action = RenewCertificate.ACTION
        stored = await self._database.fetch(RECORDS, ids, action, Outcome.SUCCESS)
        certificates = await self._database.fetch(CERTIFICATES, ids)
        inventory = await self._database.fetch(INVENTORY, ids)
        found = [
            compare("certificate of the issuer", expected, [row[0] for row in certificates]),
            compare("current certificate", expected, [row[0] for row in inventory]),
            compare("event", expected, [e["serial_hex"] for e in events if e["owner"] in ours]),
            compare(
                "audit record on the stream",
                expected,
                [
                    record["object"]["name"]
                    for record in records
                    if record["outcome"] == Outcome.SUCCESS and record["actor"]["id"] in ours
                ],
            ),
            compare("audit record in the audit service", expected, [row[0] for row in stored]),
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
