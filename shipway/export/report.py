"""`report.html` in the artifact: what was measured, for people; one file that loads nothing.

The numbers are certificate.json's and manifest.json's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt
from pathlib import Path
from shlex import quote
from statistics import geometric_mean

from jinja2 import Environment
from markupsafe import Markup

from shipway.artifact.certificate import Agreement, Candidate, Certificate, Latency
from shipway.artifact.manifest import Manifest
from shipway.export import charts
from shipway.export.choice import latency_ms, points_lost, rows_of
from shipway.export.kernels import SHARE_NEEDED
from shipway.export.recipe_file import is_in_project
from shipway.export.techniques import TECHNIQUES, onnx_int8
from shipway.export.verdicts import Explanation, explain
from shipway.recipe import Axis, TensorSpec, Tolerance
from shipway.report import svg
from shipway.report.page import HALF, NARROW, WIDE, at_widths, environment, exact, rounded
from shipway.tasks import TASKS

REPORT = "report.html"
SHOWN_LAYERS = 15
"""The most sensitive ones get a bar; all are in the table."""

_KINDS: dict[svg.Kind, str] = {
    "chosen": "chosen",
    "front": "on the front",
    "beaten": "beaten by another",
    "refused": "refused",
    "reference": "eager PyTorch, the reference",
}
_TASKS = {
    "image_classification": "image classification",
    "text_embedding": "text embedding",
    "text_classification": "text classification",
    "tabular_classification": "classification of table rows",
}


def write_report(
    folder: Path, manifest: Manifest, certificate: Certificate, budget: float | None = None
) -> Path:
    """Writes report.html into the artifact's folder and returns its path.

    `budget` is the accuracy budget that the choice was made with, in points, where it is known.
    """
    path = folder / REPORT
    page = _environment().get_template("report.html.j2")
    view = View(manifest=manifest, certificate=certificate, budget=budget)
    path.write_text(page.render(view=view, manifest=manifest, certificate=certificate))
    return path


def _environment() -> Environment:
    made = environment(Path(__file__).parent)
    made.filters |= {
        "points": points,
        "decibels": decibels,
        "megabytes": megabytes,
        "batch": batch_in_words,
    }
    made.globals |= {
        "shown_layers": SHOWN_LAYERS,
        "share_needed": SHARE_NEEDED,
        "static_int8": onnx_int8.TECHNIQUE.name,
    }
    return made


def points(value: float) -> Markup:
    """Already a hundred times a share."""
    return exact(value, f"{value + 0.0:.2f}")


def decibels(value: float) -> Markup:
    # verify.NO_NOISE_DB stands for no noise at all.
    return exact(value, f"{value:.1f}" if value < 900 else "∞")


def megabytes(size: int) -> Markup:
    return exact(size, f"{size / 1e6:.1f}" if size >= 1e6 else f"{size / 1e6:.2f}")


def batch_in_words(shape: str) -> str:
    """ "8x128" is batch 8 × 128 tokens."""
    rows, _, tokens = shape.partition("x")
    return f"batch {rows}" + (f" × {tokens} tokens" if tokens else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Candidates that were refused or skipped for the same kind of reason."""

    explanation: Explanation
    reasons: tuple[tuple[str, str], ...]
    """Candidate and its verdict."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What the template asks for beyond the two records themselves."""

    manifest: Manifest
    certificate: Certificate
    budget: float | None

    @property
    def chosen(self) -> Candidate:
        return self.certificate.candidates[self.manifest.chosen]

    @property
    def task(self) -> str:
        return _TASKS.get(self.manifest.task, self.manifest.task)

    @property
    def labelled(self) -> bool:
        return any(each.accuracy for each in self.certificate.candidates.values())

    @property
    def ranked(self) -> bool:
        """Whether outputs are classes' logits, of which the largest counts."""
        return TASKS.get(self.manifest.task).classifies

    @property
    def objective(self) -> str:
        return {
            "latency": "the lowest latency",
            "throughput": "the most rows per second",
            "size": "the smallest file",
        }[self.manifest.objective]

    @property
    def lost_in_words(self) -> str:
        """What a point lost is."""
        if self.labelled:
            return "percentage points of accuracy, on the same labelled rows as eager's"
        if self.ranked:
            return "the percentage of rows whose largest output is another class than eager's"
        return "100 × (1 − cosine), for the row whose embedding moved the furthest from eager's"

    @property
    def lost_in_short(self) -> str:
        if self.labelled:
            return "points of accuracy lost"
        return "points of agreement lost" if self.ranked else "points of cosine lost"

    @property
    def shapes_in_words(self) -> str:
        return " and ".join(map(batch_in_words, self.certificate.shapes))

    def state(self, name: str) -> str:
        """ "chosen", "passed", "refused" or "skipped"."""
        if name == self.manifest.chosen:
            return "chosen"
        candidate = self.certificate.candidates[name]
        if candidate.passed:
            return "passed"
        return "skipped" if candidate.verdict.startswith("skipped") else "refused"

    @property
    def counts(self) -> list[tuple[int, str]]:
        """How many passed, were refused, were skipped; those there are."""
        states = [self.state(name) for name in self.certificate.candidates]
        passed = states.count("passed") + states.count("chosen")
        counts = [(passed, "passed")]
        counts += [(states.count(each), each) for each in ("refused", "skipped")]
        return [each for each in counts if each[0]]

    def lost(self, candidate: Candidate) -> float | None:
        if not candidate.agreement and candidate.accuracy is None:
            return None
        lost = points_lost(candidate)
        return lost if isfinite(lost) else None

    def best(self, by_threads: Mapping[int, Latency]) -> tuple[int, Latency]:
        """The number of threads with the lowest median, and that latency."""
        return min(by_threads.items(), key=lambda each: each[1].median_ms)

    def eager_ms(self, shape: str) -> float | None:
        found = self.certificate.eager.get(shape)
        return self.best(found)[1].median_ms if found else None

    def speed(self, candidate: Candidate, shape: str) -> float | None:
        """How many times eager's speed."""
        eager, ours = self.eager_ms(shape), candidate.best_ms(shape)
        return eager / ours if eager and ours else None

    @property
    def agreement(self) -> list[tuple[str, Candidate]]:
        return [
            (name, each) for name, each in self.certificate.candidates.items() if each.agreement
        ]

    def over(self, agreement: Agreement, tolerance: Tolerance | None) -> set[str]:
        """The fields that are out of tolerance."""
        if tolerance is None:
            return set()
        found = set()
        if not agreement.relative_error <= tolerance.relative_error:
            found.add("relative_error")
        if not agreement.cosine >= tolerance.cosine:
            found.add("cosine")
        top1 = agreement.top1_agreement
        if top1 is not None and top1 < tolerance.top1_agreement:
            found.add("top1_agreement")
        return found

    @property
    def threads(self) -> list[int]:
        """Every number of threads that something was measured at on a compared shape."""
        tables = [self.certificate.eager] + [
            each.latency for each in self.certificate.candidates.values()
        ]
        return sorted(
            {
                threads
                for table in tables
                for shape in self.certificate.shapes
                for threads in table.get(shape, {})
            }
        )

    @property
    def timed(self) -> list[tuple[str, dict[str, dict[int, Latency]]]]:
        """Eager and every candidate that was measured."""
        eager = [("eager", self.certificate.eager)] if self.certificate.eager else []
        return eager + [
            (name, each.latency)
            for name, each in self.certificate.candidates.items()
            if each.latency
        ]

    @property
    def left_out(self) -> list[LeftOut]:
        found: dict[str, LeftOut] = {}
        for name, each in self.certificate.candidates.items():
            if each.passed:
                continue
            explanation = explain(each.verdict)
            known = found.get(explanation.title)
            found[explanation.title] = LeftOut(
                explanation=explanation,
                reasons=(known.reasons if known else ()) + ((name, each.verdict),),
            )
        return list(found.values())

    @property
    def sweep(self) -> list[tuple[int, Latency]]:
        """The chosen program by batch size, at the length and the threads that it is served at."""
        tokens = self.certificate.shapes[-1].partition("x")[2]
        return sorted(
            (rows_of(shape), by_threads[self.manifest.serving.threads])
            for shape, by_threads in self.chosen.latency.items()
            if shape.partition("x")[2] == tokens and self.manifest.serving.threads in by_threads
        )

    @property
    def sensitivity_in_words(self) -> str:
        """How much of the damage the worst few layers do."""
        squares = [each.relative_error**2 for each in self.certificate.sensitivity]
        total = sum(squares)
        if not total:
            return "No layer changes the outputs at all."
        few = next(
            count for count in range(1, len(squares) + 1) if sum(squares[:count]) >= total / 2
        )
        layers = "One layer does" if few == 1 else f"{few} layers do"
        return (
            f"{layers} {sum(squares[:few]) / total:.0%} of the damage of all {len(squares)}, "
            "counted in squared error, as errors that have nothing to do with each other add up. "
            f"All together that would be a relative error of {rounded(sqrt(total), 2)}"
        )

    @property
    def static_int8_error(self) -> float | None:
        """What the whole static int8 program was measured to be off by."""
        found = self.certificate.candidates.get(onnx_int8.TECHNIQUE.name)
        return (
            max((each.relative_error for each in found.agreement), default=None) if found else None
        )

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """What it takes to do it again: what for, and the command by words not to be broken."""
        manifest = self.manifest
        own = not is_in_project(manifest.name)
        export = ["shipway export", "YOUR_RECIPE.py" if own else manifest.name]
        export += [f"--version {quote(manifest.version)}", f"--objective {manifest.objective}"]
        if self.budget is not None:
            export.append(f"--accuracy-budget {self.budget:g}")
        if set(self.certificate.candidates) != set(TECHNIQUES.all()):
            export += [f"--only {quote(name)}" for name in self.certificate.candidates]
        folder = f"{manifest.name}-{manifest.version}"
        pins = [quote(f"{package}=={found}") for package, found in manifest.packages.items()]
        return [
            ("the same packages", ["pip install", *pins]),
            ("the same export", export),
            (
                "that no file of this artifact has changed",
                [f"cd {folder}", "&&", "sha256sum -c SHA256SUMS"],
            ),
            ("the choice alone, on another host", ["shipway export", f"--rechoose {folder}"]),
        ]

    def shape_of(self, spec: TensorSpec) -> str:
        axes = (
            f"{axis.name} {axis.min}–{axis.max}" if isinstance(axis, Axis) else str(axis)
            for axis in spec.shape
        )
        return " × ".join(axes)

    @cached_property
    def dots(self) -> list[charts.Dot]:
        """Everything that has a place in the plane of loss and latency."""
        front = {point.program for point in self.manifest.pareto}
        dots = []
        for name, each in self.certificate.candidates.items():
            lost = self.lost(each)
            if lost is None or not all(each.best_ms(shape) for shape in self.certificate.shapes):
                continue
            kind: svg.Kind = "beaten"
            if name == self.manifest.chosen:
                kind = "chosen"
            elif not each.passed:
                kind = "refused"
            elif name in front:
                kind = "front"
            dots.append(
                charts.Dot(
                    label=name,
                    latency_ms=latency_ms(each, self.certificate.shapes),
                    points_lost=max(0.0, lost),
                    kind=kind,
                )
            )
        eager = [self.eager_ms(shape) for shape in self.certificate.shapes]
        if eager and all(eager):
            mean = geometric_mean(each for each in eager if each)
            dots.append(
                charts.Dot(label="eager", latency_ms=mean, points_lost=0.0, kind="reference")
            )
        return dots

    @property
    def legend(self) -> list[tuple[svg.Kind, str]]:
        """The kinds of marks in the plot, and what they stand for."""
        there = {each.kind for each in self.dots}
        return [(kind, meaning) for kind, meaning in _KINDS.items() if kind in there]

    @property
    def pareto_chart(self) -> Markup:
        dots = self.dots
        if not dots:
            return Markup("")
        described = "; ".join(
            f"{each.label} {rounded(each.latency_ms)} ms, {each.points_lost:.2g} lost"
            for each in sorted(dots, key=lambda each: each.latency_ms)
        )
        mean_of = "geometric mean of " if len(self.certificate.shapes) > 1 else ""

        def draw(name: str, width: int) -> str:
            long = width > NARROW
            return charts.pareto(
                dots,
                name=name,
                width=width,
                height=440 if long else 400,
                title="Points lost against latency",
                description=described,
                x_title=f"ms per run, {mean_of}{self.shapes_in_words}, log scale"
                if long
                else "ms per run, log scale",
                y_title=self.lost_in_short,
                budget=self.budget,
            )

        return at_widths("pareto", draw, WIDE)

    def comparison_chart(self, shape: str) -> Markup:
        rows = []
        for name, latency in self.timed:
            if shape not in latency:
                continue
            threads, found = self.best(latency[shape])
            state: svg.Kind = "reference"
            if name in self.certificate.candidates:
                kinds: dict[str, svg.Kind] = {"chosen": "chosen", "passed": "front"}
                state = kinds.get(self.state(name), "refused")
            rows.append(
                svg.Bar(
                    label=name,
                    value=found.median_ms,
                    text=f"{rounded(found.median_ms)} ms",
                    kind=state,
                    low=found.low_ms,
                    high=found.high_ms,
                    note=f"{threads} thread" + ("s" if threads != 1 else ""),
                )
            )
        rows.sort(key=lambda each: each.value)
        described = "; ".join(f"{each.label} {each.text}" for each in rows)
        return at_widths(
            f"compared-{shape}",
            lambda name, width: svg.bars(
                rows,
                name=name,
                width=width,
                title=f"Median latency at {batch_in_words(shape)}",
                description=described,
                x_title="ms per run",
            ),
            HALF,
        )

    @property
    def sweep_charts(self) -> list[Markup]:
        def by_batch(
            name: str, title: str, y_title: str, value: Callable[[int, Latency], charts.Step]
        ) -> Markup:
            places = [value(rows, each) for rows, each in self.sweep]
            return at_widths(
                name,
                lambda name, width: charts.steps(
                    places,
                    name=name,
                    width=width,
                    height=280,
                    title=title,
                    description="; ".join(f"batch {each.name}: {each.text}" for each in places),
                    x_title="rows in the batch",
                    y_title=y_title,
                ),
                HALF,
            )

        served = self.manifest.serving.batch_size

        def one_run(rows: int, each: Latency) -> charts.Step:
            return charts.Step(
                name=str(rows),
                value=each.median_ms,
                text=rounded(each.median_ms),
                marked=rows == served,
                low=each.low_ms,
                high=each.high_ms,
            )

        def rate(rows: int, each: Latency) -> charts.Step:
            per_second = 1000 * rows / each.median_ms
            return charts.Step(
                name=str(rows),
                value=per_second,
                text=rounded(per_second),
                marked=rows == served,
            )

        return [
            by_batch("sweep-latency", "Latency by batch size", "ms per run", one_run),
            by_batch("sweep-rate", "Rows per second by batch size", "rows per second", rate),
        ]

    @property
    def sensitivity_chart(self) -> Markup:
        rows = [
            svg.Bar(
                label=each.layer,
                value=each.relative_error,
                text=rounded(each.relative_error),
                kind="front",
                note=each.operator,
            )
            for each in self.certificate.sensitivity[:SHOWN_LAYERS]
        ]
        return at_widths(
            "sensitivity",
            lambda name, width: svg.bars(
                rows,
                name=name,
                width=width,
                title="Relative error of the outputs with one layer quantized",
                description="; ".join(f"{each.label} {each.text}" for each in rows),
                x_title="relative error of the outputs",
            ),
            WIDE,
        )
