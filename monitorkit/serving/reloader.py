"""Keeps the served model up to date: the last good one first, then wherever the alias points."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from monitorkit import logs, model, registry
from monitorkit.config import Config
from monitorkit.errors import (
    ModelRefused,
    MonitorkitError,
    SchemaError,
    WorkerDied,
    WorkerTimeout,
)
from monitorkit.model import Tried
from monitorkit.serving import candidate, pauses
from monitorkit.serving.served import Served, Slot
from monitorkit.worker import AnswerStays, Worker

log = logs.get(__name__)

REFUSED_SECONDS = 300.0  # before a version that was refused is looked at again
READING_SECONDS = 300.0  # for a version to be read and tried out on the reference
_REFUSALS = ModelRefused, SchemaError  # by the version itself, not by whoever keeps it
GRACE = 0.5  # seconds that a start waits for the registry once the last good model is loaded


class Reloader:
    """Puts models into the slot. MLflow runs in a worker: it never slows or enlarges the service.

    Args:
        config: the whole configuration.
        worker: the process in which MLflow runs.
        slot: where requests find the model.
    """

    def __init__(self, config: Config, worker: Worker, slot: Slot) -> None:
        self._config = config
        self._worker = worker
        self._slot = slot
        self._address = registry.address(config)
        self._store = config.storage.models
        self._limiter = CapacityLimiter(2)
        self._loading = anyio.Lock()
        self._refused: tuple[str, float, MonitorkitError] | None = None
        self._trouble: str | None = None
        self._stopping = False
        self._confirmed = False  # whether the registry has said what the served version is made of

    async def start(self) -> None:
        """Load the first model.

        Raises:
            MonitorkitError: there is no last good model, and none can be had from the registry.
        """
        looked_up = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def look_up() -> None:
                await self._look_up_quietly()
                looked_up.set()

            last = registry.last_good(self._address, self._store)
            if last is not None:
                tasks.start_soon(look_up)
                await self._load_last_good(last)
                if self._slot.current is not None:
                    with anyio.move_on_after(GRACE):
                        await looked_up.wait()
                tasks.cancel_scope.cancel()
        if self._slot.current is None:
            await self._follow(await self._look_up())

    async def run(self) -> None:
        """Follow the alias until cancelled; in any trouble the model at hand goes on serving."""
        while True:
            await self._look_up_quietly()
            await anyio.sleep(self._config.registry.poll.total_seconds())

    def stop(self) -> None:
        """From now on trouble is no news: the worker is being closed."""
        self._stopping = True

    async def _look_up_quietly(self) -> None:
        """Look up the alias and follow it; trouble is one event as it begins, one as it ends."""
        try:
            await self._follow(await self._look_up())
        except Exception as error:  # whatever it is, the model at hand goes on serving
            if self._stopping:
                return
            self._confirmed = False  # it may have been made anew when it answers again
            reason = str(error) if isinstance(error, MonitorkitError) else repr(error)
            if reason != self._trouble:
                event = "model_refused" if isinstance(error, _REFUSALS) else "registry_trouble"
                expected = isinstance(error, MonitorkitError)
                log.warning(
                    event,
                    reason=reason,
                    serving=self._version(),
                    exc_info=None if expected else error,
                )
            self._trouble = reason
        else:
            if self._trouble is not None:
                log.info("registry_recovered", serving=self._version())
            self._trouble = None

    async def _look_up(self) -> str:
        call = partial(
            self._worker.call,
            "looking up the model's alias",
            self._config.registry.timeout.total_seconds(),
            registry.production_version,
            self._address,
        )
        return await to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)

    async def _follow(self, version: str) -> None:
        """Serve a version, if it is not served already."""
        # At first the number is not enough: a registry that was deleted counts from one again.
        if version == self._version() and self._confirmed:
            return
        if self._refused is not None:
            refused, until, error = self._refused
            if refused == version and time.monotonic() < until:
                raise error
        try:
            await self._fetch_and_load(version)
        except _REFUSALS as error:
            self._refused = (version, time.monotonic() + REFUSED_SECONDS, error)
            raise

    async def _fetch_and_load(self, version: str) -> None:
        call = partial(
            self._worker.call,
            f"fetching model version {version}",
            self._config.registry.timeout.total_seconds(),
            registry.fetch,
            self._address,
            version,
            self._store,
            self._config.registry.trust,
        )
        try:
            folder = await to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
        except WorkerDied as error:  # it was read there, too
            raise _too_much(
                f"model {self._address.model_name!r} version {version}", error
            ) from error
        async with self._loading:
            current = self._slot.current
            if current is None or current.model.card != model.read_card(folder):
                await self._load(folder)
        self._confirmed = True
        await to_thread.run_sync(registry.set_last_good, self._address, self._store, version)

    async def _load_last_good(self, version: str) -> None:
        folder = registry.stored(self._address, self._store, version)
        if folder is None:
            return
        async with self._loading:
            if self._slot.current is not None:  # the registry was faster
                return
            try:
                await self._load(folder)
            except MonitorkitError as error:
                log.warning("last_good_model_refused", reason=str(error))

    async def _load(self, folder: Path) -> None:
        served = await to_thread.run_sync(
            self._make, folder, limiter=self._limiter, abandon_on_cancel=True
        )
        before = self._version()
        self._slot.current = served
        pauses.settle()
        log.info(
            "model_loaded",
            model=served.model.card.name,
            version=served.model.card.version,
            replaces=before,
            engine=served.model.scorer.choice.name,
            max_difference=served.model.scorer.choice.max_difference,
        )

    def _make(self, folder: Path) -> Served:
        """The model as requests meet it; while another one serves, the worker tries it out.

        A thread here would hold the interpreter for most of a second, beside requests; what is left
        to do here takes 10 ms. A model that does not pickle pays that all the same.
        """
        read = partial(
            candidate.try_out,
            folder,
            self._config.registry.trust,
            self._config.storage.reference,
        )
        first = self._slot.current is None
        tried = read() if first else self._tried_out_elsewhere(folder, read)
        return Served.of(model.ready(tried), self._config.bounds(), self._slot.current)

    def _tried_out_elsewhere(self, folder: Path, read: Callable[[], Tried]) -> Tried:
        try:
            return self._worker.call("reading a model version", READING_SECONDS, read)
        except AnswerStays:  # as a cloudpickle with functions of its own
            return read()
        except (WorkerDied, WorkerTimeout) as error:  # not the registry's fault
            raise _too_much(model.read_card(folder).title(), error) from error

    def _version(self) -> str | None:
        current = self._slot.current
        return current.model.card.version if current is not None else None


def _too_much(title: str, error: WorkerDied | WorkerTimeout) -> ModelRefused:
    remedy = "Look whether there is memory enough for two models and the reference."
    return ModelRefused(title, f"it could not be read: {error}", remedy)
