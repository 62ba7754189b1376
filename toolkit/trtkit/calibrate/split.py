"""Which samples the ranges come from, and which are held out to compare INT8 with FP32 on."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.calibrate.options import CalibrateOptions
from trtkit.calibrate.report import SkippedFile
from trtkit.calibrate.samples import Batch, Sample, SampleSource, batch_axis, batches
from trtkit.errors import RequestError
from trtkit.tensors import TensorSpec

UNREADABLE_PERCENT = 10
"""More files than these that cannot be read: something is wrong with all of them."""


class Split:
    """The samples of `source`, as feeds and the number of rows that count in each.

    skipped: the files that could not be read so far, by name.
    """

    def __init__(
        self, source: SampleSource, inputs: tuple[TensorSpec, ...], options: CalibrateOptions
    ) -> None:
        self._source, self._options = source, options
        self._batch = batch_axis(inputs) or 1
        self.skipped: dict[str, SkippedFile] = {}

    def calibration(self) -> Iterator[Batch]:
        """Those to measure ranges on: the first.

        Raises:
            RequestError: there are none, or too many files cannot be read.
        """
        return self._read(0, self._options.samples)

    def held_out(self) -> Iterator[Batch]:
        """Those that follow the calibration samples."""
        return self._read(self._options.samples, self._options.samples + self._options.evaluate)

    def seen(self) -> Iterator[Batch]:
        """As many of the calibration samples as an evaluation takes."""
        return self._read(0, min(self._options.samples, self._options.evaluate))

    def calibration_sha256(self) -> str | None:
        """Of the files that calibration samples come from; None where they come from none."""
        return self._source.sha256(self._options.samples)

    def _read(self, start: int, stop: int) -> Iterator[Batch]:
        return batches(self._usable(start, stop), self._batch)

    def _usable(self, start: int, stop: int) -> Iterator[Sample]:
        total = self._source.total
        wanted = stop - start if total is None else min(stop, total) - start
        unreadable = 0
        usable = 0
        for one in self._source.read(start, stop):
            if isinstance(one, Sample):
                usable += 1
                yield one
                continue
            unreadable += 1
            self.skipped[one.name] = SkippedFile(name=one.name, reason=one.reason)
            if unreadable * 100 > wanted * UNREADABLE_PERCENT:
                raise self._too_many(unreadable, wanted)
        if start == 0 and not usable:
            raise RequestError(
                f"{self._options.data} holds no samples",
                ("because", "it gave none"),
                ("next", "500 to 1000 samples of what the network will see are usual"),
            )

    def _too_many(self, unreadable: int, wanted: int) -> RequestError:
        listed = [("file", f"{one.name}: {one.reason}") for one in list(self.skipped.values())[-5:]]
        return RequestError(
            f"too many samples in {self._options.data} cannot be read",
            ("because", f"{unreadable} of {wanted} so far; up to {UNREADABLE_PERCENT} % are left out"),
            *listed,
            ("next", "remove or replace these files"),
        )
