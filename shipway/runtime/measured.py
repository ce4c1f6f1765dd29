"""The latencies in a certificate, as planning takes them."""

from collections import defaultdict

from shipway.artifact.certificate import Candidate


def measured_ms(candidate: Candidate, threads: int) -> dict[tuple[int, int], float]:
    """Median milliseconds of one run by (rows, length), the largest full grid that was measured.

    Taken at `threads` if as much was measured there as at any other number, otherwise at the
    number with most shapes: planning compares costs only with each other. Empty where nothing was
    measured.
    """
    by_threads: dict[int, dict[tuple[int, int], float]] = defaultdict(dict)
    for shape, latencies in candidate.latency.items():
        rows, _, length = shape.partition("x")
        for count, latency in latencies.items():
            by_threads[count][int(rows), int(length or 0)] = latency.median_ms
    measured = max(
        by_threads.items(), key=lambda item: (len(item[1]), item[0] == threads), default=(0, {})
    )[1]
    rows_at: dict[int, set[int]] = defaultdict(set)
    for row_count, length_ in measured:
        rows_at[length_].add(row_count)
    # The shapes at which programs were compared may lie beside the grid.
    grids = [
        [
            (row_count, length_)
            for length_, available in rows_at.items()
            if swept <= available
            for row_count in swept
        ]
        for swept in rows_at.values()
    ]
    return {shape: measured[shape] for shape in max(grids, key=len, default=[])}
