"""The servers that are compared: how each is started, and where it keeps its rows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import environments

PEERS = Path(__file__).with_name("peers")
MODELS = ("logistic_regression", "hist_gradient_boosting", "random_forest")
STARTING_SECONDS = 120.0
UVICORN = ("--no-access-log", "--timeout-keep-alive", "75")
"""So that no connection of a slow peer ends while it waits for its next request."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server with one model.

    Attributes:
        name: as the table has it.
        command: starts it; `{port}` is filled in.
        path: of its endpoint.
        ready: a path that answers 200 once it serves.
        folder: it runs here.
        environment: beyond ours.
        rows: how many it has logged; None: it logs nothing.
        body: turns a row's JSON into what this server reads.
        settle: seconds after its start in which its worker processes still import.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    path: str = "/predict"
    ready: str = "/ready"
    environment: Mapping[str, str] = field(default_factory=dict)
    rows: Callable[[], int] | None = None
    body: Callable[[str], str] = str
    settle: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """A started server."""

    pid: int
    address: str


@contextmanager
def started(server: Server, log: Path) -> Iterator[Running]:
    """Start a server, wait until it answers, and stop it and all its processes at the end.

    Raises:
        RuntimeError: it does not start; names the file that says why.
    """
    port = _free_port()
    command = [part.format(port=port) for part in server.command]
    address = f"http://127.0.0.1:{port}"
    # `mlflow models serve` starts the uvicorn that it finds.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=server.folder,
            env={**os.environ, "PATH": path, "DO_NOT_TRACK": "1", **server.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, address + server.ready, log)
        yield Running(process.pid, address)
    finally:
        _stop(process)


def _free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code in (404, 405):  # it answers; this peer has no such path
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start; {log} says why")
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    # Workers of some peers outlive their parent.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def bare(name: str) -> Server:
    """A Starlette application on the same uvicorn: `nothing` or `validated`."""
    command = [sys.executable, "-m", "uvicorn", "bare:app", "--port", "{port}"]
    options = ["--loop", "uvloop", "--http", "httptools", *UVICORN]
    label = {"nothing": "Starlette, no-op", "validated": "Starlette + pydantic"}[name]
    return Server(label, (*command, *options), PEERS, environment={"BARE": name})


def monitorkit(folder: Path, *, durability: str = "os", name: str = "monitorkit, os") -> Server:
    """The service in a folder where a model was trained."""
    return Server(
        name,
        (sys.executable, "-m", "monitorkit", "run", "--port", "{port}"),
        folder,
        environment={"MONITORKIT_LOG__DURABILITY": durability},
        rows=lambda: logged(folder),
        settle=6.0,
    )


def logged(folder: Path) -> int:
    """Rows in all segments of a folder's prediction log."""
    total = 0
    for path in (folder / "monitoring" / "predictions").glob("predictions*.csv"):
        with path.open("rb") as file:
            total += sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1
    return total


def mlflow_serve(folder: Path) -> Server:
    """`mlflow models serve` with the registered model."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    model = ["-m", "models:/credit-risk-model@production", "-p", "{port}"]
    store = folder / "monitoring" / "mlflow" / "mlflow.db"
    return Server(
        "mlflow models serve",
        (*command, *model),
        folder,
        path="/invocations",
        ready="/ping",
        environment={"MLFLOW_TRACKING_URI": f"sqlite:///{store}"},
        body=lambda row: f'{{"dataframe_records":[{row}]}}',
    )


def pandas_append(folder: Path) -> Server:
    """FastAPI and a pandas append for each request."""
    csv = folder / "appended.csv"
    csv.unlink(missing_ok=True)

    def rows() -> int:
        return len(csv.read_bytes().splitlines()) - 1 if csv.exists() else 0

    command = [sys.executable, "-m", "uvicorn", "pandas_append:app", "--port", "{port}"]
    environment = {"MODEL": str(folder / "model.joblib"), "LOG": str(csv)}
    return Server(
        "FastAPI + pandas append",
        (*command, *UVICORN),
        PEERS,
        environment=environment,
        rows=rows,
    )


def bentoml(folder: Path, environment: Path) -> Server:
    """BentoML, from a virtual environment of its own."""
    command = [str(environment / "bin" / "bentoml"), "serve", "bento_service:Credit"]
    return Server(
        "BentoML",
        (*command, "--port", "{port}", "--host", "127.0.0.1"),
        PEERS,
        ready="/readyz",
        environment={
            "MODEL": str(folder / "model.joblib"),
            "BENTOML_HOME": str(folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
        },
    )


def litserve(folder: Path, environment: Path) -> Server:
    """LitServe, from a virtual environment of its own."""
    return Server(
        "LitServe, batching",
        (str(environment / "bin" / "python"), "lit_service.py", "{port}"),
        PEERS,
        ready="/health",
        environment={"MODEL": str(folder / "model.joblib")},
    )


def prepare(folder: Path, estimator: str) -> None:
    """Train and register a model in a folder, freeze its reference, and give it to the peers."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "monitorkit.toml").write_text(
        f'[training]\nestimator = "{estimator}"\n', encoding="utf-8"
    )
    for command in ("train", "bootstrap"):
        subprocess.run(
            [sys.executable, "-m", "monitorkit", command],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    store = folder / "monitoring" / "mlflow" / "mlflow.db"
    export = (
        "import joblib, mlflow; mlflow.set_tracking_uri({uri!r}); "
        "model = mlflow.sklearn.load_model('models:/credit-risk-model@production'); "
        "joblib.dump(model, 'model.joblib')"
    )
    subprocess.run(
        [sys.executable, "-c", export.format(uri=f"sqlite:///{store}")],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def forget(folder: Path) -> None:
    """Begin a new prediction log, and a monitoring that knows of none."""
    for name in ("predictions", "metrics", "reports"):
        shutil.rmtree(folder / "monitoring" / name, ignore_errors=True)


def environment_for(package: str, folder: Path) -> Path | str:
    """A virtual environment with a peer and our scikit-learn; why not, when it does not install."""
    import sklearn  # noqa: PLC0415 - for its version

    needs = [package, "pandas", f"scikit-learn=={sklearn.__version__}"]
    return environments.make(folder / package, needs)
