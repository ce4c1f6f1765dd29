"""The charts of the export report, each drawn for wide and for narrow pages."""

from functools import cached_property
from statistics import geometric_mean

from markupsafe import Markup

from shipway.export.choice import latency_ms
from shipway.export.report_view import View, batch_in_words
from shipway.report import charts
from shipway.report.page import HALF, NARROW, WIDE, at_widths, rounded

SHOWN_LAYERS = 15
"""Layers with a bar in the chart, the most sensitive ones; the table has all of them."""

_KINDS: dict[charts.Kind, str] = {
    "chosen": "chosen",
    "front": "on the Pareto front",
    "beaten": "not on the Pareto front",
    "refused": "refused",
    "reference": "eager PyTorch, the reference",
}


class ReportCharts:
    """Draws the charts of one report."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._manifest, self._certificate = view.manifest, view.certificate

    @cached_property
    def dots(self) -> list[charts.Dot]:
        """Every candidate with a latency and a loss, and eager."""
        shapes = self._certificate.shapes
        dots = []
        for name, candidate in self._certificate.candidates.items():
            lost = self._view.lost(candidate)
            if lost is None or not all(candidate.best_ms(shape) for shape in shapes):
                continue
            dots.append(
                charts.Dot(
                    label=name,
                    latency_ms=latency_ms(candidate, shapes),
                    points_lost=max(0.0, lost),
                    kind=self._kind_in_plane(name),
                )
            )
        eager_ms = [self._view.eager_ms(shape) for shape in shapes]
        if eager_ms and all(eager_ms):
            mean = geometric_mean(each for each in eager_ms if each)
            dots.append(
                charts.Dot(label="eager", latency_ms=mean, points_lost=0.0, kind="reference")
            )
        return dots

    def _kind_in_plane(self, name: str) -> charts.Kind:
        if name == self._manifest.chosen:
            return "chosen"
        if not self._certificate.candidates[name].passed:
            return "refused"
        front = {point.program for point in self._manifest.pareto}
        return "front" if name in front else "beaten"

    @property
    def legend(self) -> list[tuple[charts.Kind, str]]:
        """The kinds of marks in the plot, and their meanings."""
        used = {dot.kind for dot in self.dots}
        return [(kind, meaning) for kind, meaning in _KINDS.items() if kind in used]

    @property
    def pareto(self) -> Markup:
        """Points lost against latency; empty if nothing was measured."""
        dots = self.dots
        if not dots:
            return Markup("")
        description = "; ".join(
            f"{dot.label} {rounded(dot.latency_ms)} ms, {dot.points_lost:.2g} lost"
            for dot in sorted(dots, key=lambda dot: dot.latency_ms)
        )
        mean_of = "geometric mean of " if len(self._certificate.shapes) > 1 else ""
        measured = f"{mean_of}{self._view.shapes_in_words}, log scale"

        def draw(name: str, width: int) -> str:
            wide = width > NARROW
            return charts.pareto(
                dots,
                name=name,
                width=width,
                height=440 if wide else 400,
                title="Points lost against latency",
                description=description,
                x_title=f"ms per run, {measured}" if wide else "ms per run, log scale",
                y_title=self._view.lost_in_short,
                budget=self._view.budget,
            )

        return at_widths("pareto", draw, WIDE)

    def comparison(self, shape: str) -> Markup:
        """Bars: the latency of every candidate, and of eager, at one shape."""
        bars = []
        for name, latency in self._view.timed:
            if shape not in latency:
                continue
            threads, best = self._view.best(latency[shape])
            bars.append(
                charts.Bar(
                    label=name,
                    value=best.median_ms,
                    text=f"{rounded(best.median_ms)} ms",
                    kind=self._kind_of_bar(name),
                    low=best.low_ms,
                    high=best.high_ms,
                    note=f"{threads} thread" + ("s" if threads != 1 else ""),
                )
            )
        bars.sort(key=lambda bar: bar.value)
        return _bars(
            f"compared-{shape}",
            bars,
            title=f"Median latency at {batch_in_words(shape)}",
            x_title="ms per run",
            wide=HALF,
        )

    def _kind_of_bar(self, name: str) -> charts.Kind:
        if name not in self._certificate.candidates:
            return "reference"
        kinds: dict[str, charts.Kind] = {"chosen": "chosen", "passed": "front"}
        return kinds.get(self._view.state(name), "refused")

    @property
    def by_batch_size(self) -> list[Markup]:
        """The latency and the rows per second of the chosen program, by batch size."""
        sweep = self._view.sweep
        served = self._manifest.serving.batch_size
        latencies = [
            charts.SizePoint(
                size=str(rows),
                value=latency.median_ms,
                text=rounded(latency.median_ms),
                marked=rows == served,
                low=latency.low_ms,
                high=latency.high_ms,
            )
            for rows, latency in sweep
        ]
        per_second = [(rows, 1000 * rows / latency.median_ms) for rows, latency in sweep]
        rates = [
            charts.SizePoint(size=str(rows), value=rate, text=rounded(rate), marked=rows == served)
            for rows, rate in per_second
        ]
        return [
            _by_size("sweep-latency", latencies, "Latency by batch size", "ms per run"),
            _by_size("sweep-rate", rates, "Rows per second by batch size", "rows per second"),
        ]

    @property
    def sensitivity(self) -> Markup:
        """Bars: what quantizing each of the most sensitive layers costs."""
        bars = [
            charts.Bar(
                label=layer.layer,
                value=layer.relative_error,
                text=rounded(layer.relative_error),
                kind="front",
                note=layer.operator,
            )
            for layer in self._certificate.sensitivity[:SHOWN_LAYERS]
        ]
        return _bars(
            "sensitivity",
            bars,
            title="Relative error of the outputs with one layer quantized",
            x_title="relative error of the outputs",
            wide=WIDE,
        )


def _bars(name: str, bars: list[charts.Bar], *, title: str, x_title: str, wide: int) -> Markup:
    description = "; ".join(f"{bar.label} {bar.text}" for bar in bars)
    return at_widths(
        name,
        lambda name, width: charts.bars(
            bars, name=name, width=width, title=title, description=description, x_title=x_title
        ),
        wide,
    )


def _by_size(name: str, points: list[charts.SizePoint], title: str, y_title: str) -> Markup:
    description = "; ".join(f"batch {point.size}: {point.text}" for point in points)
    return at_widths(
        name,
        lambda name, width: charts.by_size(
            points,
            name=name,
            width=width,
            height=280,
            title=title,
            description=description,
            x_title="rows in the batch",
            y_title=y_title,
        ),
        HALF,
    )
