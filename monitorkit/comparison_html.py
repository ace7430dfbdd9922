"""A comparison as HTML for a notebook: no script, nothing from elsewhere, dark and light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 120, 28

WHOLE = "(the whole)"

# Colours of the reader's own theme where possible; scoped, for a notebook has other tables.
STYLE = """
.monitorkit{font:14px/1.4 system-ui,sans-serif;overflow-x:auto}
.monitorkit table{border-collapse:collapse}
.monitorkit caption{text-align:left;padding:4px 0;font-weight:600}
.monitorkit th,.monitorkit td{text-align:left;padding:4px 12px 4px 0;vertical-align:top;
border-bottom:1px solid rgba(128,128,128,.35);background:none}
.monitorkit .number{text-align:right;font-variant-numeric:tabular-nums}
.monitorkit .drift{font-weight:700;color:#c2410c}
.monitorkit svg{display:block}
"""


def page(comparison: Mapping[str, Any]) -> str:
    """The page of `Comparison.to_dict()`."""
    columns: Sequence[Mapping[str, Any]] = comparison["columns"]
    whole = judged_whole(comparison)
    entries = [*columns, *whole]
    measures = list(
        dict.fromkeys(
            finding["measure"]
            for entry in entries
            for finding in entry["findings"]
            if finding["value"] is not None
        )
    )
    titles = "".join(
        f'<th scope="col" class="number">{escape(name.replace("_", " "))}</th>' for name in measures
    )
    head = (
        '<th scope="col">column</th><th scope="col">verdict</th>'
        f'<th scope="col">reference and current</th>{titles}<th scope="col">what changed</th>'
    )
    rows = "".join(_row(entry, measures) for entry in entries)
    drifted = len(comparison["drifted"])
    caption = (
        f"{drifted} of {len(columns)} columns drifted"
        f"{', and the whole' if any(each['drift'] for each in whole) else ''}: "
        f"{comparison['rows']:,} rows against "
        f"{comparison['reference_rows']:,} of the reference"
    )
    skipped = "".join(
        f"<li><b>{escape(name)}</b>: {escape(why)}</li>"
        for name, why in comparison["skipped"].items()
    )
    left_out = f"<details><summary>Not compared</summary><ul>{skipped}</ul></details>"
    return (
        f'<div class="monitorkit"><style>{STYLE}</style><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"{left_out if skipped else ''}</div>"
    )


def judged_whole(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is said of no column alone, as an entry with a name; none when nothing is judged."""
    whole = comparison["whole"]
    if whole["drift"] is None:
        return []
    judged = [finding for finding in whole["findings"] if finding["drift"] is not None]
    return [{**whole, "column": WHOLE, "findings": judged}]


def _row(column: Mapping[str, Any], measures: Sequence[str]) -> str:
    # The same measure may come from two monitors; the first that has a value is shown.
    found: dict[str, Mapping[str, Any]] = {}
    for finding in column["findings"]:
        if finding["value"] is not None:
            found.setdefault(finding["measure"], finding)
    cells = "".join(_cell(found.get(measure)) for measure in measures)
    says = [
        finding["says"] for finding in column["findings"] if finding["drift"] and finding["says"]
    ]
    name = escape(column["column"])
    return (
        f'<tr><th scope="row">{name}</th>'
        f'<td class="{"drift" if column["drift"] else ""}">{column["verdict"]}</td>'
        f"<td>{_bars(column['histogram'], name)}</td>{cells}"
        f"<td>{'<br>'.join(map(escape, says))}</td></tr>"
    )


def _cell(finding: Mapping[str, Any] | None) -> str:
    if finding is None:
        return "<td></td>"
    drift = " drift" if finding["drift"] else ""
    return f'<td class="number{drift}">{finding["value"]:.3g}</td>'


def _bars(histogram: Mapping[str, Any] | None, name: str) -> str:
    """Two histograms over each other: grey the reference, blue the current frame."""
    if histogram is None:
        return ""
    parts = []
    shares = {
        which: [count / max(sum(histogram[which]), 1) for count in histogram[which]]
        for which in ("reference", "window")
    }
    highest = max(max(values) for values in shares.values()) or 1.0
    for which, colour in (("reference", "#888"), ("window", "#2563eb")):
        step = WIDTH / len(shares[which])
        for place, share in enumerate(shares[which]):
            tall = HEIGHT * share / highest
            parts.append(
                f'<rect x="{place * step:.1f}" y="{HEIGHT - tall:.1f}" width="{step * 0.9:.1f}" '
                f'height="{tall:.1f}" fill="{colour}" fill-opacity="0.55"/>'
            )
    label = f"distribution of {name}: grey the reference, blue the current frame"
    return (
        f'<svg role="img" aria-label="{label}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    )
