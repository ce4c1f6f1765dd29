"""Which rows run together, and in what shape, so that all are done soonest.

n = rows to run, L = tokens of the longest row of a run, 0 for inputs of one shape.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

LENGTH_STEPS = ((64, 8), (128, 16), (256, 32), (1 << 62, 128))
"""(most tokens, step): texts of up to so many tokens are padded to a multiple of the step. Runtimes
prepare for each new shape, so there should be few, and padding should cost little."""


_PLANNED_RUNS = 4
"""Of the largest size: so many of the last rows are cut in the best way of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a program: which rows, and the shape it runs in."""

    rows: tuple[int, ...]
    """Their places among the rows that were given to `plan`."""
    size: int
    """Rows of the batch, padding included."""
    length: int
    """Tokens to which each text is padded; 0 for inputs of a fixed shape."""


class Costs:
    """The time of a run by rows and length: measured, and interpolated in between."""

    def __init__(
        self,
        measured_ms: Mapping[tuple[int, int], float],
        *,
        sizes: Sequence[int],
    ) -> None:
        """`measured_ms` is by (rows, length), a full grid; if empty, time is proportional to rows.

        `sizes` are the numbers of rows that a run may have, ascending.
        """
        most_rows = sizes[-1]
        grid = dict(measured_ms) or {(1, 0): 1.0, (most_rows, 0): float(most_rows)}
        self._rows = sorted({rows for rows, _ in grid})
        self._lengths = sorted({length for _, length in grid})
        self._grid = grid
        self.sizes = tuple(sizes)
        # All for the sizes of a run and the few lengths to which texts are padded.
        self._best = lru_cache(maxsize=None)(self._find_best)
        self._row_ms = lru_cache(maxsize=None)(self._least_row_ms)
        self._milliseconds = lru_cache(maxsize=None)(self._interpolated)

    @property
    def most_rows(self) -> int:
        """The rows of the largest run."""
        return self.sizes[-1]

    def best(self, rows: int, length: int) -> tuple[float, int]:
        """Milliseconds of the fastest run of at least `rows` rows, and its size in rows."""
        return self._best(rows, length)

    def _find_best(self, rows: int, length: int) -> tuple[float, int]:
        return min(
            (self.milliseconds(size, length), size)
            for size in self.sizes[bisect_left(self.sizes, rows) :]
        )

    def row_ms(self, length: int) -> float:
        """The time of a row in a run of the size that is best for each."""
        return self._row_ms(length)

    def _least_row_ms(self, length: int) -> float:
        return min(self.milliseconds(size, length) / size for size in self.sizes)

    def milliseconds(self, rows: int, length: int) -> float:
        """The time of one run, interpolated between the measured rows and lengths."""
        return self._milliseconds(rows, length)

    def _interpolated(self, rows: int, length: int) -> float:
        by_length = [
            _between(self._rows, [self._grid[each, measured] for each in self._rows], rows)
            for measured in self._lengths
        ]
        return _between(self._lengths, by_length, length)


def _between(places: Sequence[int], values: Sequence[float], at: int) -> float:
    """Linear between measured places; below them the first value, above them in proportion."""
    if at <= places[0] or not places[-1]:
        return values[0]
    if at >= places[-1]:
        return values[-1] * at / places[-1]
    after = bisect_left(places, at)
    share = (at - places[after - 1]) / (places[after] - places[after - 1])
    return values[after - 1] + share * (values[after] - values[after - 1])


def plan(lengths: Sequence[int], costs: Costs) -> list[Run]:
    """The runs that take least time together, of all ways to cut the rows, sorted by length.

    `lengths` are the rows' tokens, or zeros for inputs of a fixed shape. Dynamic programming,
    O(n * most rows of a run).
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if not any(lengths):
        cuts = _cut_alike(len(order), costs)
    else:
        cuts = _cut([padded_length(lengths[row]) for row in order], costs)
    return [
        Run(rows=tuple(order[first:last]), size=size, length=length)
        for first, last, size, length in cuts
    ]


def padded_length(length: int) -> int:
    """The next length of LENGTH_STEPS; 0 stays 0."""
    step = next(step for most, step in LENGTH_STEPS if length <= most)
    return -(-length // step) * step


def _cut_alike(n: int, costs: Costs) -> tuple[tuple[int, int, int, int], ...]:
    """The same for rows of one shape. Of many rows all but the last go into runs of the size that
    takes least time for each: to find the best cuts costs time, and memory to remember them."""
    most = costs.most_rows
    if n <= _PLANNED_RUNS * most:
        return _cut_rest(n, costs)
    rows = min(range(1, most + 1), key=lambda each: costs.best(each, 0)[0] / each)
    alike = max(0, n - _PLANNED_RUNS * most) // rows
    size = costs.best(rows, 0)[1]
    cuts = [(each * rows, (each + 1) * rows, size, 0) for each in range(alike)]
    done = alike * rows
    rest = _cut_rest(n - done, costs)
    cuts += [(first + done, last + done, size, length) for first, last, size, length in rest]
    return tuple(cuts)


@lru_cache(maxsize=1024)
def _cut_rest(n: int, costs: Costs) -> tuple[tuple[int, int, int, int], ...]:
    return _cut([0] * n, costs)


def _cut(lengths: Sequence[int], costs: Costs) -> tuple[tuple[int, int, int, int], ...]:
    """(first, last + 1, size, length) of each run; `lengths` ascend."""
    n = len(lengths)
    least = [0.0] + [float("inf")] * n
    start = [0] * (n + 1)
    for last in range(1, n + 1):
        length = lengths[last - 1]
        for rows in range(1, min(last, costs.most_rows) + 1):
            total = least[last - rows] + costs.best(rows, length)[0]
            if total < least[last]:
                least[last], start[last] = total, last - rows
    cuts = []
    last = n
    while last:
        first, length = start[last], lengths[last - 1]
        cuts.append((first, last, costs.best(last - first, length)[1], length))
        last = first
    return tuple(reversed(cuts))
