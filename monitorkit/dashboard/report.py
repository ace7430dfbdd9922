"""One result as a page of its own that needs nothing else: to send, to keep, to print."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

from monitorkit import durable, logs
from monitorkit.config import Config
from monitorkit.contracts import Outcome, RunResult
from monitorkit.dashboard import glance, pages, picture
from monitorkit.dashboard.columns import columns
from monitorkit.dashboard.formats import NOTHING
from monitorkit.errors import ReportError
from monitorkit.results import Results

_HASH = b64encode(hashlib.sha256(pages.asset("dashboard.css")).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""For the page when it is served: its own style and nothing else."""

_NAMED = 3

log = logs.get(__name__)


def html(result: RunResult) -> bytes:
    """The page: UTF-8, no script, nothing from elsewhere."""
    rows = pages.rows(result)
    return pages.self_contained(
        "report.html",
        result=result,
        sentence=glance.drifting(result, columns(result)),
        changed=pages.changed(rows),
        score=next((row for row in rows if row.column.is_score), None),
        features=[row for row in rows if not row.column.is_score],
        drifted={outcome.name: _drifted(outcome) for outcome in result.outcomes},
    )


def _drifted(outcome: Outcome) -> str:
    names = list(
        dict.fromkeys(
            finding.column or finding.measure for finding in outcome.findings if finding.drift
        )
    )
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more if names else NOTHING


def run(settings: Config, run_id: str, output: Path | None, png: Path | None) -> list[Path]:
    """Write the report of one result.

    Args:
        settings: says where results are.
        run_id: of the result, or `latest`.
        output: the HTML file; None: `<run_id>.html` here, unless only a PNG is wanted.
        png: a PNG file.

    Returns:
        The files.

    Raises:
        ReportError: there is no such result; `png` is no PNG; or a file cannot be written.
    """
    if png is not None and png.suffix.lower() != ".png":
        problem = f"{png} does not end in .png, and the picture is a PNG file"
        raise ReportError(problem, "name a file that does with --png")
    if png is not None and output is not None and png.resolve() == output.resolve():
        raise ReportError(f"{png} cannot be both of them", "name two files")
    results = Results(settings.storage.results)
    found = results.latest() if run_id == "latest" else results.result(run_id)
    if found is None:
        raise ReportError(
            f"there is no result {run_id!r} in {results.folder}",
            "name one of its files, without `.json`; `monitorkit monitor --once` makes one",
        )
    if output is None and png is None:
        output = Path(f"{found.run_id}.html")
    if output is not None:
        _write(output, html(found))
    if png is not None:
        _write(png, picture.png(found))
    return [path for path in (output, png) if path is not None]


def _write(path: Path, content: bytes) -> None:
    try:
        durable.replace_file(path, content)
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror}"
        raise ReportError(reason, "name a file in a folder that can be written to") from error
    log.info("report_written", file=str(path), bytes=len(content))
