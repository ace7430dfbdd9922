"""The error tree: every error takes data and says what is wrong, where, and what to do.

MonitorkitError
├── ConfigError              the TOML file or an environment variable
├── DataError                a data file: file, line, column
├── FrameError               a data frame that cannot be compared
├── SchemaError              a feature schema that cannot be served
├── RegistryError            the MLflow registry
│   ├── RegistryUnavailable  no answer from the tracking server
│   ├── ModelNotFound        no such model, version or alias
│   └── ModelRefused         found, but it cannot or must not be served
├── ReferenceProblem         the frozen reference
│   ├── ReferenceMissing
│   ├── ReferenceExists
│   ├── ReferenceChanged     expected and found hash differ
│   └── ReferenceUnreadable  its files are not what bootstrap wrote
├── LogError                 the prediction log
│   ├── LogWriteFailed
│   ├── LogLocked            another process writes it
│   ├── LogUnreadable        verify-log cannot read it
│   ├── SegmentGone          a planned piece of it cannot be read any more
│   ├── ArchiveUnreachable   a further folder of it cannot be read
│   ├── ImportBusy           another import is under way
│   └── ImportFailed         imported rows cannot be written
├── ResultError              a result file that is not what was written
├── ResultsUnreadable        the folder of the results cannot be read
├── Overloaded               the prediction queue is full
├── TooManyListeners         no more pages may follow the dashboard
├── Stopping                 the service shuts down and takes no more rows
├── CutOff                   a request that takes longer than a stopping service waits
├── PredictionFailed         the model gave no usable answer for these rows
├── PluginError              a plugin that cannot be loaded or configured
├── WorkerError              work in another process
│   ├── WorkerTimeout
│   └── WorkerDied
├── CalibrationError         a monitor that cannot be calibrated
├── ReportError              a report that cannot be written
├── ClusterError             a Dask cluster that did not do its work
├── CycleBusy                another monitoring cycle holds the lock
├── AddressInUse             the host and port of the service
├── ServiceUnreachable       a running service that a command talks to
├── KeyRefused               the same service, which wants an API key
└── SimulationFailed         simulated rows that were not answered
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from monitorkit.redaction import redacted


def said(error: BaseException) -> str:
    """What an exception says, which may be nothing; somebody else's may fail even at that."""
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001 - it may raise anything
        return f"(what it says cannot be told: {type(another).__name__})"


def told(error: BaseException) -> str:
    """An exception of any kind in one line, for a reason in an event or a result."""
    text = said(error)
    return redacted(f"{type(error).__name__}: {text}" if text else type(error).__name__)


@dataclass(eq=False)
class MonitorkitError(Exception):
    """Base of every error that monitorkit raises on purpose.

    Sub-classes are dataclasses, so that an error carries its data, and pickles across processes.
    """

    def __reduce__(self) -> tuple[type[MonitorkitError], tuple[object, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        """What everybody may read: passwords in addresses are left out."""
        return redacted(self.message())

    def message(self) -> str:
        """One line for a person: what, where, and the remedy."""
        return self.__class__.__name__


@dataclass(eq=False)
class ConfigError(MonitorkitError):
    """A key or value in the configuration that cannot be used."""

    source: str
    problems: tuple[str, ...]

    def message(self) -> str:
        """Name the source and every problem in it."""
        return f"{self.source}: " + "; ".join(self.problems)


@dataclass(eq=False)
class DataError(MonitorkitError):
    """A data file that cannot be used for training or as a reference."""

    path: str
    problem: str
    remedy: str
    line: int | None = None
    column: str | None = None

    def message(self) -> str:
        """Name file, line, column, problem and remedy."""
        where = self.path
        if self.line is not None:
            where += f", line {self.line}"
        if self.column is not None:
            where += f", column {self.column!r}"
        return f"{where}: {self.problem}. {self.remedy}"


@dataclass(eq=False)
class FrameError(MonitorkitError):
    """A data frame that cannot be compared."""

    frame: str
    problem: str
    remedy: str

    def message(self) -> str:
        """Name the frame, the problem and the remedy."""
        return f"{self.frame}: {self.problem}. {self.remedy}"


@dataclass(eq=False)
class SchemaError(MonitorkitError):
    """A feature schema that cannot be served."""

    feature: str
    problem: str
    remedy: str

    def message(self) -> str:
        """Name the feature, the problem and the remedy."""
        return f"feature {self.feature!r}: {self.problem}. {self.remedy}"


@dataclass(eq=False)
class RegistryError(MonitorkitError):
    """Something about the model registry."""


@dataclass(eq=False)
class RegistryUnavailable(RegistryError):
    """The tracking server does not answer, or answers nonsense."""

    tracking_uri: str
    reason: str

    def message(self) -> str:
        """Name the address and the reason."""
        return (
            f"the MLflow registry at {self.tracking_uri} cannot be used: {self.reason}. "
            "Check that it runs, and [registry] tracking_uri or MLFLOW_TRACKING_URI."
        )


@dataclass(eq=False)
class ModelNotFound(RegistryError):
    """The registry has no such model, version or alias."""

    what: str
    remedy: str

    def message(self) -> str:
        """Name what was looked for and the remedy."""
        return f"{self.what} is not in the registry. {self.remedy}"


@dataclass(eq=False)
class ModelRefused(RegistryError):
    """A model that cannot or must not be served."""

    model: str
    reason: str
    remedy: str

    def message(self) -> str:
        """Name the model, the reason and the remedy."""
        return f"{self.model} is refused: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class ReferenceProblem(MonitorkitError):
    """Something about the frozen reference."""

    path: str


@dataclass(eq=False)
class ReferenceMissing(ReferenceProblem):
    """There is no reference yet, or a part of it is gone."""

    reason: str = "there is no reference here"

    def message(self) -> str:
        """Name the path and the remedy."""
        if self.reason != ReferenceMissing.reason:
            return (
                f"{self.path}: {self.reason}. Put it back, or move the rest away and run "
                "`python -m monitorkit bootstrap` to freeze another reference."
            )
        return f"{self.path}: {self.reason}. Run `python -m monitorkit bootstrap` to freeze one."


@dataclass(eq=False)
class ReferenceExists(ReferenceProblem):
    """A reference is frozen once."""

    created_at: str

    def message(self) -> str:
        """Say since when it stands and how to replace it on purpose."""
        return (
            f"{self.path}: the reference was frozen at {self.created_at} and never changes. "
            "To start over with another one, move the reference folder away first."
        )


@dataclass(eq=False)
class ReferenceChanged(ReferenceProblem):
    """The bytes on disk are not the bytes that were frozen."""

    expected: str
    found: str

    def message(self) -> str:
        """Give both hashes."""
        return (
            f"{self.path}: expected SHA-256 {self.expected}, found {self.found}. "
            "Restore the original file; monitoring stays off until `python -m monitorkit verify` "
            "passes."
        )


@dataclass(eq=False)
class ReferenceUnreadable(ReferenceProblem):
    """Something stands where the reference belongs, and it is not one."""

    problem: str

    def message(self) -> str:
        """Name the path, the problem and the remedy."""
        return (
            f"{self.path}: {self.problem}. Restore the original files, or move the reference "
            "folder away and run `python -m monitorkit bootstrap` to freeze another one."
        )


@dataclass(eq=False)
class LogError(MonitorkitError):
    """Something about the prediction log."""

    path: str


@dataclass(eq=False)
class LogWriteFailed(LogError):
    """Rows could not be written, so they were not answered."""

    reason: str

    def message(self) -> str:
        """Name the file and the operating system's reason."""
        return (
            f"the prediction log {self.path} cannot be written: {self.reason}. Nothing was answered"
            " for these rows; free space or restore the folder, then send them again."
        )


@dataclass(eq=False)
class LogLocked(LogError):
    """Two processes must never write one segment."""

    def message(self) -> str:
        """Name the lock and the remedy."""
        return (
            f"{self.path}: another process writes this prediction log. Stop it, or give this one "
            "an [log] instance of its own (both may use the folder then) or another [storage] root."
        )


@dataclass(eq=False)
class LogUnreadable(LogError):
    """The log cannot be verified, because a part of it cannot be read."""

    reason: str

    def message(self) -> str:
        """Name the folder, the reason and the remedy."""
        return (
            f"{self.path}: the log cannot be verified: {self.reason}. See to it that this user may"
            " read the folder and what [log] archives names, then try again."
        )


@dataclass(eq=False)
class SegmentGone(LogError):
    """A segment was deleted, moved away or cut after its pieces were planned."""

    def message(self) -> str:
        """Name the file and the remedy."""
        return (
            f"{self.path}: this segment of the prediction log is gone, or was cut, since its pieces"
            " were planned. Plan the reading again."
        )


@dataclass(eq=False)
class ArchiveUnreachable(LogError):
    """A folder in [log] archives cannot be read."""

    reason: str

    def message(self) -> str:
        """Name the key, the folder, the reason and the remedy."""
        return (
            f"[log] archives: {self.path} cannot be read: {self.reason}. Look whether it is spelt "
            "right and can be reached from here, or take it out of the list (s3:// needs "
            "`pip install 'monitorkit[s3]'`)."
        )


@dataclass(eq=False)
class ImportBusy(LogError):
    """One import at a time."""

    def message(self) -> str:
        """Name the lock and the remedy."""
        return f"{self.path}: another import is under way. Try again when it is done."


@dataclass(eq=False)
class ImportFailed(LogError):
    """Imported rows cannot be made part of the log."""

    reason: str

    def message(self) -> str:
        """Name the folder, the operating system's reason and the remedy."""
        return (
            f"{self.path}: rows cannot be imported: {self.reason}. Free space or restore the "
            "folder, then import the file again; what is in the log already is left out then."
        )


@dataclass(eq=False)
class ResultError(MonitorkitError):
    """A result file that is damaged, or of another version."""

    path: str
    problem: str

    def message(self) -> str:
        """Name the file, the problem and the remedy."""
        return f"{self.path}: {self.problem}. Move it away; the log can be judged again."


@dataclass(eq=False)
class ResultsUnreadable(MonitorkitError):
    """The folder of the results cannot be read; those in it may all be well."""

    path: str
    reason: str

    def message(self) -> str:
        """Name the folder, the operating system's reason and the remedy."""
        return (
            f"the results in {self.path} cannot be read: {self.reason}. See to it that this is a "
            "folder that this user may read, and that the process may open further files."
        )


@dataclass(eq=False)
class Overloaded(MonitorkitError):
    """More rows wait than the queue may hold."""

    waiting: int
    limit: int

    def message(self) -> str:
        """Give the numbers."""
        return (
            f"{self.waiting} rows wait already, the limit is {self.limit}. Send them again later."
        )


@dataclass(eq=False)
class TooManyListeners(MonitorkitError):
    """More pages want to follow the dashboard than are served."""

    limit: int

    def message(self) -> str:
        """Give the number, and say what to do."""
        return (
            f"{self.limit} pages follow the dashboard, which is the limit. Close some; this one "
            "shows what there was when it was loaded."
        )


@dataclass(eq=False)
class Stopping(MonitorkitError):
    """The service shuts down; answers under way finish, new rows are refused."""

    def message(self) -> str:
        """Say what to do."""
        return "The service is stopping and takes no more rows. Send them again to the next one."


@dataclass(eq=False)
class CutOff(MonitorkitError):
    """The service shuts down, and a request takes longer than that waits."""

    def message(self) -> str:
        """Say what may have happened."""
        return (
            "The service stopped before it could answer. Rows may have been logged all the same: "
            "look for them before you send them again."
        )


@dataclass(eq=False)
class PredictionFailed(MonitorkitError):
    """The model raised, or gave no probabilities; nothing was logged or answered."""

    model: str
    reason: str

    def message(self) -> str:
        """Name the model, what it did and the remedy."""
        return (
            f"{self.model} gave no answer for these rows: {self.reason}. Nothing was logged for "
            "them; if others fail as well, promote another version."
        )


@dataclass(eq=False)
class PluginError(MonitorkitError):
    """A plugin that cannot be loaded or configured."""

    source: str
    problem: str

    def message(self) -> str:
        """Name the plugin and the problem."""
        return f"plugin {self.source}: {self.problem}"


@dataclass(eq=False)
class WorkerError(MonitorkitError):
    """Work in another process that gave no answer."""

    task: str


@dataclass(eq=False)
class WorkerTimeout(WorkerError):
    """It took longer than it may; the worker was stopped and a new one takes its place."""

    seconds: float

    def message(self) -> str:
        """Name the task and its limit."""
        return f"{self.task} took longer than {self.seconds:g} s and was stopped"


@dataclass(eq=False)
class WorkerDied(WorkerError):
    """The worker's process ended in the middle of the work."""

    reason: str

    def message(self) -> str:
        """Name the task and what is known of the end."""
        return f"{self.task} ended its worker process ({self.reason})"


@dataclass(eq=False)
class ClusterError(MonitorkitError):
    """The log could not be summed up on a Dask cluster."""

    scheduler: str
    reason: str
    remedy: str

    def message(self) -> str:
        """Name the cluster, the reason and the remedy."""
        return f"the Dask cluster on {self.scheduler}: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class CalibrationError(MonitorkitError):
    """A monitor cannot be calibrated."""

    reason: str
    remedy: str

    def message(self) -> str:
        """Say why, and what to do."""
        return f"{self.reason}: {self.remedy}"


@dataclass(eq=False)
class ReportError(MonitorkitError):
    """A report cannot be made, or not be written."""

    reason: str
    remedy: str

    def message(self) -> str:
        """Say why, and what to do."""
        return f"{self.reason}: {self.remedy}"


@dataclass(eq=False)
class CycleBusy(MonitorkitError):
    """One monitoring cycle at a time."""

    seconds: float

    def message(self) -> str:
        """Say how long it waited."""
        since = f" has been running for the last {self.seconds:g} s" if self.seconds else " runs"
        return f"another monitoring cycle{since}. Try again when it is done."


@dataclass(eq=False)
class AddressInUse(MonitorkitError):
    """The service cannot have its host and port."""

    host: str
    port: int
    reason: str
    remedy: str = (
        "Choose another with --port or [serving] port (0 picks a free one), or stop what uses it."
    )

    def message(self) -> str:
        """Name the address, the reason and the remedy."""
        return f"{self.host}:{self.port} cannot be used: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class ServiceUnreachable(MonitorkitError):
    """A command needs a running service and found none."""

    url: str
    reason: str

    def message(self) -> str:
        """Name the address and the remedy."""
        return (
            f"no monitorkit service answers at {self.url} ({self.reason}). "
            "Start one with `python -m monitorkit run`."
        )


@dataclass(eq=False)
class KeyRefused(MonitorkitError):
    """A running service wants an API key, or another one; the key is not told."""

    url: str
    reason: str

    def message(self) -> str:
        """Name the address, the reason and the remedy."""
        return (
            f"{self.url} refuses ({self.reason}). Set MONITORKIT_KEY to a key with the scopes "
            "`read` and `predict`."
        )


@dataclass(eq=False)
class SimulationFailed(MonitorkitError):
    """Not every simulated row was answered."""

    url: str
    sent: int
    answered: int
    failed: dict[str, int]

    def message(self) -> str:
        """Give the numbers, and what the others ended with."""
        reasons = ", ".join(f"{count} x {reason}" for reason, count in self.failed.items())
        return (
            f"{self.url} answered {self.answered} of {self.sent} rows; the others ended with "
            f"{reasons}. Look at its /health and its log."
        )
