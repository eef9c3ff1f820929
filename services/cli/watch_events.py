"""Hears of certificates on the event stream, in a thread of its own, for whoever works in another.

What is heard is only that it is time to look: an event that is lost, or heard twice, does not
matter. Nor does a NATS that is away: that is said once, and it is tried again.
"""

import asyncio
import json
import queue
import threading
from collections.abc import Collection
from contextlib import aclosing
from typing import Final

from contracts.events import (
    CertificateEvent,
    CertificateIssued,
    CertificateRemoved,
    CertificateRenewed,
    CertificateRevoked,
    CertificateUploaded,
)
from contracts.subjects import EVENTS_STREAM, events_of
from services.cli.errors import CliError
from services.cli.operator_access import OperatorAccess
from services.cli.stream_tail import Delivered, Start, StreamTail

FIRST_RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 60.0
HEARD: Final[frozenset[str]] = frozenset(
    event.nats_subject()
    for event in (
        CertificateIssued,
        CertificateRenewed,
        CertificateUploaded,
        CertificateRemoved,
        CertificateRevoked,
    )
)


class Events:
    """Which projects there is news of."""

    def __init__(self, access: OperatorAccess, projects: Collection[str]) -> None:
        self._projects = frozenset(projects)
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._tail = StreamTail(
            access,
            EVENTS_STREAM,
            events_of(CertificateEvent.NOUN),
            consumer=access.consumer,
            say=self._say,
            connected=self._connected,
        )
        self.come = False
        """Whether events come: else it is up to the watcher to look."""

    def start(self) -> None:
        """Begin to listen; it ends with the process."""
        threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Return when there is news, and by then at the latest."""
        self._wake.wait(seconds)
        self._wake.clear()

    def news(self) -> set[str]:
        """Return the projects that something was heard of since the last time."""
        return set(_taken(self._news))

    def said(self) -> list[str]:
        """Return what there is to say of the connection."""
        return _taken(self._said)

    async def _listen(self) -> None:
        delay, said = FIRST_RETRY_SECONDS, ""
        while True:
            try:
                async with aclosing(self._tail.follow(Start())) as items:
                    async for item in items:
                        delay, said = FIRST_RETRY_SECONDS, ""
                        if isinstance(item, Delivered):
                            self._take(item)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread is to go on
                self._connected(False)
                text = str(error) if isinstance(error, CliError) else repr(error)
                if text != said:
                    said = text
                    self._say(f"{said}; projects are looked at every few minutes meanwhile")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)

    def _take(self, delivered: Delivered) -> None:
        if delivered.subject not in HEARD:
            return
        try:
            event = json.loads(delivered.payload)
        except ValueError:
            return
        owner = event.get("owner") if isinstance(event, dict) else None
        if isinstance(owner, str) and owner in self._projects:
            self._news.put(owner)
            self._wake.set()

    def _connected(self, connected: bool) -> None:  # noqa: FBT001 - of a callback
        """Look at everything after each time that nothing was heard."""
        self.come = connected
        if connected:
            for project in self._projects:
                self._news.put(project)
        self._wake.set()

    def _say(self, text: str) -> None:
        self._said.put(text)
        self._wake.set()


def _taken(waiting: "queue.SimpleQueue[str]") -> list[str]:
    taken: list[str] = []
    try:
        while True:
            taken.append(waiting.get_nowait())
    except queue.Empty:
        return taken
