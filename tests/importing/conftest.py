from __future__ import annotations

from import_place import place, stored

__all__ = ["place", "stored"]
