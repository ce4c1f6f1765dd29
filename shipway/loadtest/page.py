"""The HTML page of a report: one file that loads nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote

from markupsafe import Markup

from shipway.loadtest.report import Report
from shipway.loadtest.result import BUSIEST, LATEST, Result
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.report import charts
from shipway.report.page import NARROW, WIDE, at_widths, environment

MOST_CURVES = 5
"""More curves than this cannot be told apart in the chart of percentiles."""


def render(report: Report, earlier: Mapping[str, Report]) -> str:
    """The page of a report. `earlier` are reports to compare it with, by file name."""
    page = environment(Path(__file__).parent).get_template("report.html.j2")
    several = len(earlier) > 1
    before = [
        Earlier(called=f"before ({place})" if several else "before", name=name, report=each)
        for place, (name, each) in enumerate(earlier.items(), start=1)
    ]
    view = View(report=report, earlier=before)
    return page.render(view=view, report=report, busiest=BUSIEST, latest=LATEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A report to compare with."""

    called: str
    """A short name for charts and tables."""
    name: str
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A load, or the knee, in this report and in an earlier one."""

    what: str
    earlier: Earlier
    now: Result
    before: Result


@dataclass(frozen=True, kw_only=True)
class View:
    """What the template needs besides the report."""

    report: Report
    earlier: Sequence[Earlier]

    @cached_property
    def knee(self) -> Result | None:
        """The load beyond which latency rises steeply."""
        return self.report.knee

    @property
    def alone(self) -> Result | None:
        """The result of a single client."""
        loads = (each for each in self.report.results if each.load == ClosedLoop(clients=1))
        return next((each for each in loads if each.latency), None)

    @property
    def fastest(self) -> Result | None:
        """The load with the most answers a second."""
        answered = [each for each in self.report.results if each.latency]
        return max(answered, key=lambda each: each.rate, default=None)

    @property
    def failed(self) -> int:
        """Failed requests of all loads."""
        return sum(each.failed for each in self.report.results)

    @property
    def requests(self) -> int:
        """Requests of all loads, failed ones included."""
        return self.failed + sum(each.answered for each in self.report.results)

    @property
    def bottlenecks(self) -> list[Result]:
        """Loads under which the generator was the bottleneck."""
        return [each for each in self.report.results if each.generator.was_bottleneck]

    @property
    def shares_a_machine(self) -> bool:
        """Whether generator and server ran on the same machine."""
        return any(host in self.report.subject.url for host in ("//127.", "//localhost", "//[::1]"))

    @property
    def opened(self) -> bool:
        """Whether there is an open load."""
        return any(each.load.is_open for each in self.report.results)

    @property
    def explanations(self) -> list[str]:
        """What the shapes of the loads say of themselves, each sentence once."""
        sentences = dict.fromkeys(each.load.explanation for each in self.report.results)
        return [sentence for sentence in sentences if sentence]

    @property
    def compared(self) -> list[Compared]:
        """Loads that an earlier report has too, and the knees."""
        found = []
        for one in self.earlier:
            before = {str(each.load): each for each in one.report.results if each.latency}
            for each in self.report.results:
                if each.latency and (other := before.get(str(each.load))):
                    found.append(Compared(what=str(each.load), earlier=one, now=each, before=other))
            if self.knee and (knee := one.report.knee):
                found.append(Compared(what="the knee", earlier=one, now=self.knee, before=knee))
        return found

    @property
    def errors(self) -> list[tuple[str, str, int]]:
        """Kind, first message and count of errors over all loads, the most frequent first."""
        counts: dict[str, int] = {}
        messages: dict[str, str] = {}
        for each in self.report.results:
            for error in each.errors:
                counts[str(error)] = counts.get(str(error), 0) + error.count
                messages.setdefault(str(error), error.message)
        ranked = sorted(counts.items(), key=lambda each: -each[1])
        return [(kind, messages[kind], count) for kind, count in ranked]

    @property
    def durations(self) -> list[tuple[float, float]]:
        """Pairs of warm-up and measured seconds, each pair once."""
        return list(dict.fromkeys((each.warm_up_s, each.seconds) for each in self.report.results))

    @property
    def command(self) -> list[str]:
        """The command that repeats these loads, as words that are not broken across lines."""
        subject = self.report.subject
        if subject.task is None:
            words = ["shipway bench", f"--url {quote(subject.url)}"]
        else:
            grpc = ["--grpc"] if subject.url.startswith("grpc:") else []
            words = ["shipway bench", quote(subject.model), *grpc]
        options = (result.load.bench_option() for result in self.report.results)
        return [*words, *(option for option in options if option)]

    @cached_property
    def curves(self) -> list[tuple[Result, str]]:
        """The loads in the chart of percentiles with their styles. Of many loads, one client, the
        lowest and highest rate, the knee and the last one."""
        answered = [each for each in self.report.results if each.latency]
        if len(answered) > MOST_CURVES:
            opened = [each for each in answered if each.load.is_open]
            telling = (self.alone, *opened[:1], self.knee, *opened[-1:], answered[-1])
            answered = [each for each in answered if any(each is other for other in telling)]
        return [(each, f"c{place}") for place, each in enumerate(answered)]

    @property
    def percentile_chart(self) -> Markup:
        """Latency by percentile, of the loads in `curves`."""
        drawn = [
            charts.Curve(label=str(each.load), points=each.latency.curve(), style=style)
            for each, style in self.curves
            if each.latency
        ]
        for one in self.earlier:
            before = {str(each.load): each for each in one.report.results}
            for each, style in self.curves:
                if (other := before.get(str(each.load))) and other.latency:
                    label = f"{each.load}, {one.called}"
                    points = other.latency.curve()
                    drawn.append(charts.Curve(label=label, points=points, style=f"{style} earlier"))
        return at_widths(
            "percentiles",
            lambda name, width: charts.by_percentile(
                drawn,
                name=name,
                width=width,
                height=420 if width > NARROW else 380,
                title="Latency by percentile",
                description="; ".join(
                    f"{each.load}: p50 {each.latency.p50_ms:.3g}, p99 {each.latency.p99_ms:.3g} ms"
                    for each, _ in self.curves
                    if each.latency
                ),
            ),
            WIDE,
        )

    @property
    def time_chart(self) -> Markup:
        """p50 and p99 of every second, load after load."""
        stretches = [
            charts.Stretch(
                label=str(place),
                p50_ms=[second.p50_ms for second in each.timeline],
                p99_ms=[second.p99_ms for second in each.timeline],
                errors=[second.errors for second in each.timeline],
            )
            for place, each in enumerate(self.report.results, start=1)
            if each.timeline
        ]
        return at_widths(
            "time",
            lambda name, width: charts.over_time(
                stretches,
                name=name,
                width=width,
                height=360 if width > NARROW else 340,
                title="Latency over time",
                description="p50 and p99 of the requests of every second, load after load",
            ),
            WIDE,
        )

    @property
    def throughput_chart(self) -> Markup:
        """Latency against throughput."""
        knee = self.knee

        def spots(report: Report, *, ours: bool) -> list[charts.Spot]:
            found = []
            for each in sorted(report.results, key=_offered):
                if each.latency is None:
                    continue
                kind: charts.Kind = "front" if each.load.is_open else "reference"
                label = str(each.load)
                if each is knee:
                    kind, label = "chosen", f"knee: {each.load}"
                found.append(
                    charts.Spot(
                        label=label if ours else "",
                        rate=each.rate,
                        p50_ms=each.latency.p50_ms,
                        p99_ms=each.latency.p99_ms,
                        kind=kind if ours else "beaten",
                        joined=each.load.is_open,
                    )
                )
            return found

        now = spots(self.report, ours=True)
        before = [spots(each.report, ours=False) for each in self.earlier]
        return at_widths(
            "throughput",
            lambda name, width: charts.throughput(
                now,
                earlier=before,
                name=name,
                width=width,
                height=440 if width > NARROW else 400,
                title="Latency against throughput",
                description="; ".join(
                    f"{each.label}: {each.rate:.3g} requests/s, p99 {each.p99_ms:.3g} ms"
                    for each in now
                ),
            ),
            WIDE,
        )

    @property
    def error_chart(self) -> Markup:
        """Errors by kind."""
        rows = [
            charts.Bar(label=kind, value=count, text=f"{count:,}", kind="refused")
            for kind, _, count in self.errors
        ]
        return at_widths(
            "errors",
            lambda name, width: charts.bars(
                rows,
                name=name,
                width=width,
                title="Errors by kind",
                description="; ".join(f"{each.label} {each.text}" for each in rows),
                x_title="requests",
            ),
            WIDE,
        )


def _offered(result: Result) -> float:
    return result.load.offered_rate() or 0.0
