"""structlog without rich, for processes of our own: to be imported before anything that logs.

Where something else has installed rich, structlog imports it for tracebacks, which `logs` writes
otherwise: fifty modules, 5 MB and 35 ms of each process. Whoever uses monitorkit as a library may
want them, and does not import this.
"""

from __future__ import annotations

import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # to import it is an ImportError
    try:
        import structlog  # noqa: F401 - for whoever imports it next
    finally:
        del sys.modules["rich"]
