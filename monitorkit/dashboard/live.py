"""Keeps the page's parts up to date, once for everybody, and tells who listens when one changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping

import anyio
from anyio import CapacityLimiter, to_thread

from monitorkit import delivered, logs, reference
from monitorkit.dashboard import glance, pages
from monitorkit.dashboard.index import RECENT, History, Index
from monitorkit.dashboard.pages import Facts, Pages
from monitorkit.dashboard.sources import Sources
from monitorkit.disk_space import free_and_total
from monitorkit.errors import ReferenceProblem, ResultsUnreadable, told

MOST_LISTENERS = 64
"""Connections that wait for events; more are refused."""

POLL = 1.0
HEARTBEAT = 15.0
_HELPING = 0.5  # seconds of reading old results at a time
_REST = 0.02
_STALE = 3 * POLL

log = logs.get(__name__)


class Live:
    """The state of the page. It reads nothing before somebody asks.

    Args:
        sources: what there is to show.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._index = Index(sources.results)
        self._pages = Pages(sources)
        # Threads of its own: it waits for nobody, and nobody for it.
        self._one, self._others = CapacityLimiter(1), CapacityLimiter(2)
        self._history = History()
        self._seen: tuple[object, ...] | None = None
        self._fragments: dict[str, tuple[str, bytes]] = {}
        self._refreshed = 0.0
        self._reference: tuple[str | None, reference.Metadata | None] = ("", None)
        self._wanted = anyio.Event()
        self._changed = anyio.Event()
        self._listeners = 0
        self._stopping = False

    @property
    def full(self) -> bool:
        """Whether no more listeners are taken."""
        return self._listeners >= MOST_LISTENERS or self._stopping

    async def run(self) -> None:
        """Follow the results while somebody listens, or until all were read, until cancelled."""
        trouble = ""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            while self._listeners or not self._history.complete:
                try:
                    await self._refresh(_HELPING)
                    trouble = ""
                except Exception as error:  # noqa: BLE001 - a disk that is gone may come back
                    if trouble != (trouble := told(error)):
                        log.error("dashboard_failed", reason=trouble)  # noqa: TRY400 - says it all
                    await anyio.sleep(POLL)
                await anyio.sleep(POLL if self._history.complete else _REST)

    def stop(self) -> None:
        """End every stream of events, so that they hold up nobody's end."""
        self._stopping = True
        self._changed.set()

    async def page(self, before: str | None = None) -> bytes:
        """The page, as it is now."""
        if self._sources.locked:
            return self._pages.page({}, before)
        await self.fresh()
        fragments = dict(self._fragments)
        if before is not None:
            fragments["cycles"] = ("", await self.older(before))
        return self._pages.page(fragments, before)

    async def older(self, before: str) -> bytes:
        """The cycles' part, of those before one."""
        await self.fresh()
        history = self._history
        return await to_thread.run_sync(
            lambda: self._pages.older(history, before, self._delivered()), limiter=self._others
        )

    async def fragment(self, name: str) -> tuple[str, bytes]:
        """One part, and its digest."""
        await self.fresh()
        return self._fragments[name]

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events: the digests of all parts, at first and whenever one changed."""
        self._listeners += 1
        try:
            await self.fresh()
            sent: Mapping[str, str] = {}
            while not self._stopping:
                digests = {name: digest for name, (digest, _) in self._fragments.items()}
                if digests != sent:
                    yield b"data: %b\n\n" % json.dumps(digests).encode()
                    sent = digests
                changed = self._changed
                with anyio.move_on_after(HEARTBEAT) as waiting:
                    await changed.wait()
                if waiting.cancelled_caught:
                    yield b": still here\n\n"
        finally:
            self._listeners -= 1

    async def fresh(self) -> None:
        """What is shown is not older than a moment; whoever asks first waits for the newest.

        Raises:
            ResultsUnreadable: nobody can say what there is.
        """
        self._wanted.set()
        if not self._fragments:
            await self._refresh(0.0, at_least=RECENT)
        elif time.monotonic() - self._refreshed > _STALE:
            await self._refresh(0.0)

    async def _refresh(self, seconds: float, at_least: int = 1) -> None:
        fragments, trouble = await to_thread.run_sync(
            self._read, seconds, at_least, limiter=self._one
        )
        self._refreshed = time.monotonic()
        if fragments != self._fragments:
            self._fragments = fragments
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
        if trouble is not None:
            raise trouble

    def _read(
        self, seconds: float, at_least: int
    ) -> tuple[dict[str, tuple[str, bytes]], ResultsUnreadable | None]:
        """In a thread: what is new on the disk, and the parts that it changes.

        While results cannot be read a page shows those that it had, and what the service says.

        Raises:
            ResultsUnreadable: there is no page yet.
        """
        facts = self._facts()
        trouble = None
        try:
            self._history = self._index.read_on(seconds, at_least=at_least) or self._history
        except ResultsUnreadable as error:
            if not self._fragments:
                raise
            trouble = error
        history = self._history
        seen = (
            history.latest.run_id if history.latest is not None else None,
            len(history.recent),
            history.recent[0][0].run_id if history.recent else None,
        )
        stale = set(pages.FRAGMENTS)
        if seen == self._seen:
            stale -= {"changes", "score", "features"}
        self._seen = seen
        made = dict(self._fragments)
        for name in pages.FRAGMENTS:
            if name in stale or name not in made:
                html = self._pages.fragment(name, history, facts)
                made[name] = (hashlib.sha256(html).hexdigest()[:16], html)
        return made, trouble

    def _facts(self) -> Facts:
        status = self._sources.monitoring()
        return Facts(
            health=self._sources.health(),
            watching=glance.watching(status.last_cycle, enabled=status.enabled),
            next_cycle_at=status.next_cycle_at,
            cycles=status.cycles,
            disk=free_and_total(self._sources.root),
            reference=self._metadata(status.reference_hash),
            undelivered=status.undelivered,
            delivered=self._delivered(),
        )

    def _delivered(self) -> delivered.Delivered:
        return delivered.read(self._sources.config.storage.state, quietly=True)

    def _metadata(self, known_hash: str | None) -> reference.Metadata | None:
        """Of the reference, read when another one is in force."""
        if self._reference[0] != known_hash:
            try:
                metadata = reference.verify(self._sources.config.storage.reference)
            except ReferenceProblem:  # /health says what is wrong with it
                metadata = None
            self._reference = (known_hash, metadata)
        return self._reference[1]
