"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pynvml import NVMLError

from trtkit.devices import gpus, usage

Outcome = Literal["ok", "bad-request", "overloaded", "failed", "client-gone"]

OUTCOMES: tuple[Outcome, ...] = ("ok", "bad-request", "overloaded", "failed", "client-gone")
"""bad-request: 4xx. overloaded: 503, refused without being run. failed: 5xx, the model could not be run.
client-gone: the client closed the connection before its answer."""

SECONDS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one service.

    Args:
        live: what is read when somebody asks: name -> (description, value now).
    """

    def __init__(self, live: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Live(live))
        registry.register(_Gpus())
        requests = Counter("trtkit_requests", "Requests by outcome.", ["outcome"], registry=registry)
        seconds = Histogram(
            "trtkit_request_seconds",
            "From the first byte read to the answer, by outcome.",
            ["outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        # All outcomes are there from the start, so a rate can be computed over the first of each.
        self._outcomes = {one: (requests.labels(one), seconds.labels(one)) for one in OUTCOMES}
        self._rows = Histogram("trtkit_batch_rows", "Rows of a run.", buckets=ROWS, registry=registry)
        self._runs = Histogram(
            "trtkit_inference_seconds", "A run of the model.", buckets=SECONDS, registry=registry
        )

    def request(self, outcome: Outcome, seconds: float) -> None:
        """A request came to its end."""
        count, duration = self._outcomes[outcome]
        count.inc()
        duration.observe(seconds)

    def run(self, rows: int, seconds: float) -> None:
        """The model was run; on any thread."""
        self._rows.observe(rows)
        self._runs.observe(seconds)

    def text(self) -> bytes:
        """All of them, in Prometheus's text format; asks the GPUs, so it may take some milliseconds."""
        return generate_latest(self._registry)


class _Live(Collector):
    def __init__(self, live: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        for name, (description, value) in self._live.items():
            yield GaugeMetricFamily(name, description, value())


class _Gpus(Collector):
    """Utilisation and memory of the GPUs; nothing where there is none."""

    def collect(self) -> Iterator[Metric]:
        busy = GaugeMetricFamily("trtkit_gpu_utilisation_ratio", "A kernel ran.", labels=["gpu", "name"])
        memory = GaugeMetricFamily("trtkit_gpu_memory_used_bytes", "By everybody.", labels=["gpu", "name"])
        with suppress(NVMLError):  # a GPU is lost: all else is still told
            for gpu in gpus():
                if now := usage(gpu):
                    busy.add_metric([gpu.uuid, gpu.name], now.utilisation / 100)
                    memory.add_metric([gpu.uuid, gpu.name], now.memory)
        yield from (busy, memory)
