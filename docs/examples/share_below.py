"""A monitor of your own: alarms when too many rows lie below a limit."""

from dataclasses import dataclass

from monitorkit import Finding, Judgement, Monitor, Options, hookimpl


class ShareBelowOptions(Options):
    column: str
    limit: float
    at_most: float = 0.01


@dataclass(frozen=True)
class Below:
    rows: int
    below: int


class ShareBelow(Monitor[ShareBelowOptions, Below]):
    options_type = ShareBelowOptions

    def summarise(self, chunk):
        values = chunk.features[:, chunk.columns.index(self.options.column)]
        return Below(len(chunk), int((values < self.options.limit).sum()))

    def merge(self, left, right):
        return Below(left.rows + right.rows, left.below + right.below)

    def judge(self, timeline, previous):
        share = timeline.all().below / timeline.all().rows
        limit, column = self.options.at_most, self.options.column
        drift = share > limit
        return Judgement([Finding("share_below", share, column, threshold=limit, drift=drift)])


@hookimpl
def monitorkit_monitors():
    return {"share_below": ShareBelow}
