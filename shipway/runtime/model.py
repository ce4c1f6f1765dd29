"""An artifact opened on this host: any number of rows in, the outputs of each row out.

B = rows of one run, T = tokens.
"""

import logging
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shipway.artifact.bundle import PLUGINS, Artifact
from shipway.plugins import load_plugins
from shipway.recipe import Axis, TensorSpec
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Backend, Outputs, Overlapping
from shipway.runtime.backends.errors import device_error
from shipway.runtime.batches import served_sizes
from shipway.runtime.choice import choose_program
from shipway.runtime.errors import WrongRows
from shipway.runtime.host import available_cores
from shipway.runtime.measured import measured_ms
from shipway.runtime.planning import Costs, Run, padded_length, plan
from shipway.runtime.program import open_program

logger = logging.getLogger(__name__)

WARM_TOKENS = 512
"""Runs of texts with up to this many tokens, padding included, are warmed up. Above it, preparing
for a new shape takes a tenth of the run or less."""

PACE_WEIGHT = 0.1
"""Of the newest run in the running mean."""

Zeros = Callable[[tuple[int, ...], str], np.ndarray]
Row = tuple[np.ndarray, ...] | int
"""One array for each input, without the batch axis; or the place of the row in `Model.staging`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One run of the program: its rows share this object."""

    rows: int
    """How many rows it answered."""
    size: int
    """Rows that were computed, padding included."""
    length: int
    """Tokens of each text, padding included; 0 for inputs of a fixed shape."""
    padding: float
    """The share of the run, from 0 to 1, that was padding: rows that were not requested, tokens
    that no text has."""
    preprocess_ms: float
    """Assembling the rows into arrays."""
    host_to_device_ms: float
    """Copying them to a GPU; 0 on a CPU."""
    inference_ms: float
    """The run itself, with copying the outputs back."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """The outputs of one row, or its error."""

    batch: Batch
    """The run that computed it."""
    outputs: tuple[np.ndarray, ...] = ()
    """One array per output, without the batch axis."""
    error: Exception | None = None


class Model:
    """An artifact's program, open on this host.

    Not safe to call from two threads at once, except to write to different rows of `staging`.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        workers: int = 1,
        threads: int | None = None,
        most_rows: int | None = None,
        staged: bool = True,
        device_index: int = 0,
    ) -> None:
        """Imports the artifact's plugins and opens the program that fits this host.

        `workers` is how many processes share the host's cores. `threads` compute one run; None
        for the artifact's number, or fewer if the share is smaller. `most_rows` bounds a run below
        the artifact's own bound. `staged` if tasks write rows into `staging`, which
        they may do for one batch at a time only. `device_index` is the GPU, for a program that runs
        on one. Raises PluginError, NoProgramFits, UnknownFormat, BrokenProgram, DeviceUnusable, or
        UnknownName for a runtime that is not registered.
        """
        self.artifact, self.manifest = artifact, artifact.manifest
        load_plugins(self.manifest.plugins, artifact.path / PLUGINS)
        self.program_name, self.fell_back_because = choose_program(self.manifest, device_index)
        if self.fell_back_because:
            logger.warning(
                "%s %s: running %s, since %s does not fit this host: %s",
                self.manifest.name,
                self.manifest.version,
                self.program_name,
                self.manifest.chosen,
                self.fell_back_because,
            )
        self.described = self.manifest.programs[self.program_name]
        share = max(1, available_cores() // max(1, workers))
        self.threads = threads or min(self.manifest.serving.threads, share)
        self._program = open_program(
            artifact, self.program_name, threads=self.threads, device_index=device_index
        )
        self._overlapping = self._program if isinstance(self._program, Overlapping) else None
        most = min(most_rows or self.manifest.max_batch, self.manifest.max_batch)
        self._pad_values = self.manifest.preprocessing.pad_values
        candidate = artifact.certificate.candidates[self.program_name]
        self._costs = Costs(measured_ms(candidate, self.threads), sizes=self._sizes(most))
        self._pace = 1.0
        """How long runs take here, divided by what the certificate says."""
        fixed = not any(isinstance(axis, Axis) for shape in self._shapes() for axis in shape)
        # Tasks write rows into the first; the second holds rows that do not lie in order there.
        zeros = self._overlapping.zeros if self._overlapping else np.zeros
        rows = self.most_rows if staged else 0
        self.staging = self._buffers(rows, zeros) if fixed else ()
        self._gathered = self._buffers(self.most_rows, np.zeros) if fixed else ()

    @property
    def backend(self) -> Backend:
        """The runtime backend that opened the program."""
        return BACKENDS.get(self.described.runtime)

    @property
    def most_rows(self) -> int:
        """The most rows of one run, and the places in `staging`."""
        return self._costs.most_rows

    def warm_up(self) -> None:
        """Runs every shape once (for texts the usual ones), so that no client waits for the first
        run of a shape. With a runtime that prepares for no shape it runs the largest, which
        allocates the memory."""
        sizes = self._costs.sizes
        if self.backend.warms == "largest" and self.described.device == "cpu":
            sizes = sizes if self._pad_values else sizes[-1:]
        for size in sizes:
            if self._pad_values is None:
                self._program.run([self._blank(spec, size) for spec in self.manifest.inputs])
                continue
            for length in sorted(
                {self._clamped(tokens) for tokens in range(8, WARM_TOKENS + 1, 8)}
            ):
                if size * length <= WARM_TOKENS:
                    ones_BT = np.ones((size, length), np.int64)
                    self._program.run([ones_BT for _ in self.manifest.inputs])

    def run(self, rows: Sequence[Row]) -> list[RowResult]:
        """Runs the rows in the batches that take least time together; returns their results in
        order.

        A batch that fails is run again in halves, until the failing row is alone. Raises
        DeviceLost if this process cannot use its GPU any more.
        """
        results: list[RowResult | None] = [None] * len(rows)
        runs = self._runs(rows)
        if self._overlapping is not None and len(runs) > 1:
            runs = self._run_overlapping(self._overlapping, runs, rows, results)
        for run in runs:
            self._run(run, rows, results)
        return [result for result in results if result is not None]

    def expected_ms(self, rows: Sequence[Row]) -> float:
        """How long the rows will take, each in a run of the best size: from the certificate's costs
        and recent runs."""
        return sum(map(self._row_ms, rows))

    def rows_within(self, rows: Sequence[Row], within_ms: float) -> int:
        """How many of the rows, from the first on, take about that long; at least one."""
        total = 0.0
        for count, row in enumerate(rows):
            total += self._row_ms(row)
            if total > within_ms and count:
                return count
        return len(rows)

    def _row_ms(self, row: Row) -> float:
        length = 0 if self._pad_values is None else self._clamped(_arrays(row)[0].shape[0])
        return self._pace * self._costs.row_ms(length)

    def describe(self) -> dict[str, Any]:
        """What runs here, for people and for monitoring."""
        return {
            "name": self.manifest.name,
            "version": self.manifest.version,
            "artifact": self.artifact.digest,
            "program": self.program_name,
            "precision": self.described.precision,
            "device": self.described.device,
            "fell_back_because": self.fell_back_because,
            "threads": self.threads,
            "batch_size": self.most_rows,
        }

    def _run_overlapping(
        self,
        program: Overlapping,
        runs: list[Run],
        rows: Sequence[Row],
        results: list[RowResult | None],
    ) -> list[Run]:
        """Runs all batches, or those before the first that fails; returns the rest."""
        times: deque[tuple[float, float]] = deque()

        def batches() -> Iterator[list[np.ndarray]]:
            for run in runs:
                start = time.perf_counter()
                inputs = self._gather(run, [rows[place] for place in run.rows])
                times.append((start, time.perf_counter()))
                yield inputs

        done = 0
        try:
            for outputs in program.run_all(batches()):
                _check_rows(outputs, runs[done].size)
                self._answer(runs[done], rows, results, *times.popleft(), outputs)
                done += 1
        except Exception as failure:
            device_error(failure)
            logger.exception("one of %d runs failed", len(runs))
        return runs[done:]

    def _run(self, run: Run, rows: Sequence[Row], results: list[RowResult | None]) -> None:
        start = gathered = time.perf_counter()
        outputs: Outputs = []
        error: Exception | None = None
        try:
            inputs = self._gather(run, [rows[place] for place in run.rows])
            gathered = time.perf_counter()
            outputs = self._program.run(inputs)
            _check_rows(outputs, run.size)
        except Exception as failure:
            error = device_error(failure)
            logger.exception("a run of %d rows failed", run.size)
            if len(run.rows) > 1:
                # There were too many for the memory, or the program cannot take one of them. The
                # others are still to be answered.
                for half in self._halves(run):
                    self._run(half, rows, results)
                return
        self._answer(run, rows, results, start, gathered, outputs, error)

    def _answer(
        self,
        run: Run,
        rows: Sequence[Row],
        results: list[RowResult | None],
        start: float,
        gathered: float,
        outputs: Outputs,
        error: Exception | None = None,
    ) -> None:
        if error is None:
            expected_ms = self._costs.milliseconds(run.size, run.length)
            took_ms = 1000 * (time.perf_counter() - start)
            self._pace += PACE_WEIGHT * (took_ms / max(expected_ms, 1e-6) - self._pace)
        outputs = self._owned(outputs)
        copied_ms = 0.0
        if self._overlapping is not None and error is None:
            copied_ms = self._overlapping.host_to_device_ms
        batch = Batch(
            rows=len(run.rows),
            size=run.size,
            length=run.length,
            padding=self._padding(run, rows),
            preprocess_ms=1000 * (gathered - start),
            host_to_device_ms=copied_ms,
            inference_ms=1000 * (time.perf_counter() - gathered) - copied_ms,
        )
        for place, row in enumerate(run.rows):
            if error is None:
                results[row] = RowResult(batch, tuple(output[place] for output in outputs))
            else:
                results[row] = RowResult(batch, error=error)

    def _owned(self, outputs: Outputs) -> Outputs:
        """The outputs, copied where they may lie in memory that the next rows are written to.

        A program may return an input or a view of one.
        """
        buffers = (*self.staging, *self._gathered)
        return [
            output.copy() if any(np.may_share_memory(output, each) for each in buffers) else output
            for output in outputs
        ]

    def _padding(self, run: Run, rows: Sequence[Row]) -> float:
        if self._pad_values is None:
            return 1 - len(run.rows) / run.size
        tokens = sum(_arrays(rows[place])[0].shape[0] for place in run.rows)
        return 1 - tokens / (run.size * self._clamped(run.length))

    def _halves(self, run: Run) -> list[Run]:
        middle = len(run.rows) // 2
        sizes = self._costs.sizes
        return [
            Run(rows=part, size=sizes[bisect_left(sizes, len(part))], length=run.length)
            for part in (run.rows[:middle], run.rows[middle:])
        ]

    def _runs(self, rows: Sequence[Row]) -> list[Run]:
        if self.staging:
            return plan([0] * len(rows), self._costs)
        if self._pad_values is not None:
            return plan([_arrays(row)[0].shape[0] for row in rows], self._costs)
        # Rows of different shapes, which a model for tensors may take, cannot share a run.
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            alike[tuple(array.shape for array in _arrays(row))].append(place)
        return [
            Run(rows=tuple(places[index] for index in run.rows), size=run.size, length=run.length)
            for places in alike.values()
            for run in plan([0] * len(places), self._costs)
        ]

    def _gather(self, run: Run, rows: list[Row]) -> list[np.ndarray]:
        first = rows[0]
        if isinstance(first, int) and rows == list(range(first, first + run.size)):
            return [buffer[first : first + run.size] for buffer in self.staging]
        if self._pad_values is not None:
            return self._padded(run, [_arrays(row) for row in rows])
        parts = [
            tuple(buffer[row] for buffer in self.staging) if isinstance(row, int) else row
            for row in rows
        ]
        parts += parts[:1] * (run.size - len(rows))
        if self._gathered:
            if run.size == 1 and all(map(_is_like, parts[0], self._gathered)):
                return [row[None] for row in parts[0]]
            for buffer, column in zip(self._gathered, zip(*parts, strict=True), strict=True):
                np.stack(column, out=buffer[: run.size])
            return [buffer[: run.size] for buffer in self._gathered]
        return [np.stack(column) for column in zip(*parts, strict=True)]

    def _padded(self, run: Run, parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        assert self._pad_values is not None
        length = self._clamped(run.length)
        inputs = [
            np.full((run.size, length), pad, spec.dtype)
            for spec, pad in zip(self.manifest.inputs, self._pad_values, strict=True)
        ]
        for place in range(run.size):
            for buffer, row_T in zip(inputs, parts[place % len(parts)], strict=True):
                buffer[place, : len(row_T)] = row_T
        return inputs

    def _clamped(self, length: int) -> int:
        axis = self.manifest.inputs[0].shape[1]
        assert isinstance(axis, Axis)
        return max(axis.min, min(padded_length(length), axis.max))

    def _sizes(self, most: int) -> list[int]:
        """The rows that a run may have: any number, but few for programs that prepare for each
        shape."""
        prepares = self.backend.prepares or self.described.device == "cuda"
        return served_sizes(most, few=prepares or self._pad_values is not None)

    def _shapes(self) -> list[tuple[int | Axis, ...]]:
        return [spec.shape[1:] for spec in self.manifest.inputs]

    def _buffers(self, rows: int, zeros: Zeros) -> tuple[np.ndarray, ...]:
        return tuple(self._blank(spec, rows, zeros) for spec in self.manifest.inputs)

    def _blank(self, spec: TensorSpec, rows: int, zeros: Zeros = np.zeros) -> np.ndarray:
        shape = (rows, *(axis.min if isinstance(axis, Axis) else axis for axis in spec.shape[1:]))
        return zeros(shape, spec.dtype)


def _check_rows(outputs: Outputs, expected: int) -> None:
    """Raises WrongRows unless each output has the expected number of rows."""
    found = [len(output) for output in outputs]
    if any(rows != expected for rows in found):
        raise WrongRows(found, expected)


def _is_like(row: np.ndarray, buffer: np.ndarray) -> bool:
    """Whether the row can be given to a program as it is, in place of a copy in the buffer."""
    return row.dtype == buffer.dtype and row.flags.c_contiguous and row.flags.writeable


def _arrays(row: Row) -> tuple[np.ndarray, ...]:
    assert not isinstance(row, int), "only rows of a fixed shape are staged"
    return row
