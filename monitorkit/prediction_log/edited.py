"""`Before`: whether an unknown segment was read before, when another row was its first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from monitorkit.prediction_log.blocks import Cursor
from monitorkit.prediction_log.folder import Found
from monitorkit.units import timestamp

_NEAR = timedelta(seconds=1)
"""So far the time in an id of ours may be from its row's."""


class Before:
    """What a cursor knows of segments.

    A segment is known by its first row. When somebody deletes that row it is gone, and another one
    is there that holds what was read of it. Segments also go by retention or into an archive, and
    new ones come by rotation, from another instance or an import. But those begin after the newest
    row that was read (a batch's may be a moment earlier), or nothing is gone that they could have
    been. In doubt a segment was read before: that costs one reading, and the cursor after that
    knows of nothing that is gone.

    Args:
        cursor: up to where the log was read.
        here: the segments that there are.
        newest: the time of the newest row that was read; None: none was, or nobody asks.
    """

    def __init__(self, cursor: Cursor, here: Sequence[Found], newest: datetime | None) -> None:
        identities = {found.identity for found in here}
        self.gone = [identity for identity in cursor if identity not in identities]
        self._known = frozenset(cursor)
        self._here = here
        self._newest = timestamp(newest) if newest is not None else ""

    def had(self, found: Found) -> bool:
        """Whether rows of a segment may have been read, under the identity of one that is gone."""
        first = found.head.first_timestamp
        if not self.gone or found.identity in self._known:
            return False
        if first is None or first > self._newest:
            return False
        latest = max((begin for begin in self._begun_by(found) if begin <= first), default="")
        return any(_may_be(identity, latest, first) for identity in self.gone)

    def _begun_by(self, found: Found) -> Iterator[str]:
        """When the writer of a segment began those that are here and known."""
        for each in self._here:
            known = each.identity in self._known and each.name.instance == found.name.instance
            if known and each.head.first_timestamp is not None:
                yield each.head.first_timestamp


def _may_be(identity: str, latest: str, first: str) -> bool:
    """Whether a segment that is gone may be the one that begins with a row of some time.

    Args:
        identity: of the one that is gone.
        latest: when its writer had begun the last one before that row.
        first: the time of that row.
    """
    try:
        began = datetime.fromtimestamp(UUID(identity).int / 2**80 / 1000, UTC)
        earliest, last = timestamp(began - _NEAR), timestamp(began + _NEAR)
    except (ValueError, OverflowError, OSError):  # a row's hash, which says no time
        return True
    return latest <= last and earliest <= first
