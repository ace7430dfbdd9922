"""What a person who sits before the browser reads where there is no page to show."""

from __future__ import annotations

from monitorkit.dashboard import pages

RELOAD = 5
"""Seconds after which the browser asks again, where that may help."""


def html(model_name: str, title: str, text: str, *, back: str | None, again: bool) -> bytes:
    """The page, with its style in it, as `report.POLICY` allows.

    Args:
        model_name: the heading.
        title: what is the matter.
        text: where, and what to do.
        back: the address of the dashboard; None: this is the dashboard's.
        again: the browser asks again after a while.
    """
    return pages.self_contained(
        "trouble.html",
        model_name=model_name,
        title=title,
        text=text,
        back=back,
        reload=RELOAD if again else None,
    )
