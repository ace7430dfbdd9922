"""`Traffic`: requests by endpoint and status, and how long their answers took, for /metrics.

Counted in plain lists: an `observe` of the client library costs as much as all of this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds; a single row takes some 0.2 ms when nobody else asks."""

NOWHERE = ""
"""What a path is that leads nowhere: paths that clients think up are no label."""


class Requests:
    """Those of one endpoint."""

    __slots__ = ("_by_status", "_total")

    def __init__(self) -> None:
        # Of each status: how many within each of the bounds, and beyond the last.
        self._by_status: defaultdict[int, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self._total = 0.0

    def note(self, status: int, seconds: float) -> None:
        """One more.

        Args:
            status: of the answer.
            seconds: from the head of the request to that of its answer.
        """
        self._by_status[status][bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def add_to(
        self, counts: CounterMetricFamily, durations: HistogramMetricFamily, endpoint: str
    ) -> None:
        """Their samples; none before the first."""
        if not self._by_status:
            return
        for status, within in self._by_status.items():
            counts.add_metric([endpoint, str(status)], sum(within))
        all_of_them = map(sum, zip(*self._by_status.values(), strict=True))
        bounds = map(floatToGoString, (*BOUNDS, float("inf")))
        buckets = list(zip(bounds, map(float, accumulate(all_of_them)), strict=True))
        durations.add_metric([endpoint], buckets, self._total)


class Traffic(Collector):
    """The requests of every endpoint that was asked for."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Requests] = {}

    def of(self, endpoint: str) -> Requests:
        """The requests of one endpoint.

        Args:
            endpoint: the path of its route.
        """
        found = self._endpoints.get(endpoint)
        if found is None:
            found = self._endpoints[endpoint] = Requests()
        return found

    def collect(self) -> Iterator[Metric]:
        """Both families."""
        counts = CounterMetricFamily(
            "monitorkit_http_requests",
            "Requests that were answered, by the path of their endpoint ('' for one that leads "
            "nowhere) and the status of their answer.",
            labels=["endpoint", "status"],
        )
        durations = HistogramMetricFamily(
            "monitorkit_http_request_duration_seconds",
            "From the head of a request to the head of its answer.",
            labels=["endpoint"],
        )
        for endpoint, requests in self._endpoints.items():
            requests.add_to(counts, durations, endpoint)
        yield counts
        yield durations
