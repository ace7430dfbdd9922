"""What our own processes do without; imported before anything that would bring it."""

from __future__ import annotations

import sys


def import_structlog() -> None:
    """Import structlog without rich.

    Where something else has installed rich, structlog imports it for tracebacks, which `logs`
    writes otherwise: fifty modules, 5 MB and 35 ms of each process. Whoever uses monitorkit as a
    library may want them, and has not imported this.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # to import it is an ImportError
    try:
        import structlog  # noqa: F401, PLC0415
    finally:
        del sys.modules["rich"]
