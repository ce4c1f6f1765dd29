"""The view model of the export report: what its template shows beyond the two records."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from shlex import quote

from shipway.artifact.certificate import (
    Agreement,
    Candidate,
    Certificate,
    Latency,
    LossUnit,
    Speedup,
)
from shipway.artifact.manifest import Manifest
from shipway.artifact.measures import ROW_FACTOR
from shipway.artifact.samples import allowed_error
from shipway.export.choice import rows_of
from shipway.export.intervals import CONFIDENCE
from shipway.export.noise import notice, runs_in_words
from shipway.export.recipe_file import is_in_project
from shipway.export.speedup import speedup
from shipway.export.techniques import TECHNIQUES
from shipway.export.verdicts import Explanation, explain
from shipway.recipe import Axis, TensorSpec, Tolerance
from shipway.report.page import rounded
from shipway.tasks import TASKS


def batch_in_words(shape: str) -> str:
    """The shape "8x128" as "batch 8 × 128 tokens"."""
    rows, _, tokens = shape.partition("x")
    return f"batch {rows}" + (f" × {tokens} tokens" if tokens else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Candidates that were refused or skipped for the same kind of reason."""

    explanation: Explanation
    reasons: tuple[tuple[str, str], ...]
    """Pairs of a candidate and its verdict."""


_UNITS: dict[LossUnit, tuple[str, str]] = {
    "accuracy": (
        "percentage points of accuracy, compared with eager on the same labelled rows",
        "points of accuracy lost",
    ),
    "belief": (
        "100 × the mean over the rows of p(eager’s class) − p(the candidate’s class), by the "
        "probabilities of eager: an equal answer loses nothing, and another one little where eager "
        "was undecided",
        "points of belief lost",
    ),
    "cosine": ("100 × (1 − cosine to eager’s), the mean over the rows", "points of cosine lost"),
    "variance": (
        "100 × the mean squared error by the variance of eager’s outputs over the rows",
        "points of variance lost",
    ),
    "agreement": ("the percentage of outputs that differ from eager’s", "points lost"),
}
"""The definition of a point, and the title of an axis, by the unit of a loss."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What the template shows beyond the two records themselves."""

    manifest: Manifest
    certificate: Certificate
    budget: float | None

    @property
    def chosen(self) -> Candidate:
        """The candidate to serve."""
        return self.certificate.candidates[self.manifest.chosen]

    @property
    def task(self) -> str:
        """The task in words."""
        return self.manifest.task.replace("_", " ")

    @property
    def labelled(self) -> bool:
        """Whether the true classes of the evaluation rows are known."""
        return any(each.accuracy for each in self.certificate.candidates.values())

    @property
    def ranked(self) -> bool:
        """Whether the outputs are logits of classes, which are compared by their order too."""
        return TASKS.get(self.manifest.task).classifies

    @property
    def embeds(self) -> bool:
        """Whether an output is an embedding."""
        return any(measure.kind == "embedding" for measure in self.certificate.outputs)

    @property
    def directed(self) -> bool:
        """Whether cosines were compared."""
        return any(each.cosine is not None for _, one in self.compared for each in one.agreement)

    @property
    def equal(self) -> bool:
        """Whether classes, or integers and booleans, were compared for being equal."""
        return any(
            each.top1_agreement is not None for _, one in self.compared for each in one.agreement
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one output."""
        return len(self.certificate.outputs) > 1

    @property
    def objective(self) -> str:
        """The objective in words."""
        return {
            "latency": "the lowest latency",
            "throughput": "the most rows per second",
            "size": "the smallest file",
        }[self.manifest.objective]

    @property
    def loss_unit(self) -> LossUnit | None:
        """What losses are measured in, or None if no candidate was compared."""
        losses = (each.loss for each in self.certificate.candidates.values())
        return next((loss.unit for loss in losses if loss), None)

    @property
    def lost_in_words(self) -> str:
        """The definition of a point lost."""
        return _UNITS[self.loss_unit or "belief"][0]

    @property
    def lost_in_short(self) -> str:
        """The same as the title of an axis."""
        return _UNITS[self.loss_unit or "belief"][1]

    @property
    def bound_in_words(self) -> str:
        """What the confidence bound of a loss takes into account; empty if there is none."""
        losses = (each.loss for each in self.certificate.candidates.values())
        loss = next((loss for loss in losses if loss), None)
        if loss is None:
            return ""
        groups = "" if loss.clusters == loss.rows else f" in {loss.clusters} groups"
        return (
            f"The bound is the upper {CONFIDENCE:.0%} confidence bound for {loss.rows} rows"
            f"{groups}, corrected for {loss.compared} compared "
            f"candidate{'' if loss.compared == 1 else 's'}"
        )

    @property
    def shapes_in_words(self) -> str:
        """The compared shapes."""
        return " and ".join(map(batch_in_words, self.certificate.shapes))

    def state(self, name: str) -> str:
        """The state of a candidate: chosen, passed, refused or skipped."""
        if name == self.manifest.chosen:
            return "chosen"
        candidate = self.certificate.candidates[name]
        if candidate.passed:
            return "passed"
        return "skipped" if candidate.verdict.startswith("skipped") else "refused"

    @property
    def counts(self) -> list[tuple[int, str]]:
        """The numbers of passed, refused and skipped candidates, without zeros."""
        states = [self.state(name) for name in self.certificate.candidates]
        passed = states.count("passed") + states.count("chosen")
        counts = [(passed, "passed")]
        counts += [(states.count(state), state) for state in ("refused", "skipped")]
        return [(count, state) for count, state in counts if count]

    def lost(self, candidate: Candidate) -> float | None:
        """Points lost; None if the candidate was not compared, or its outputs are not finite."""
        return None if candidate.loss is None else candidate.loss.value

    def best(self, by_threads: Mapping[int, Latency]) -> tuple[int, Latency]:
        """The number of threads with the lowest median, and that latency."""
        return min(by_threads.items(), key=lambda each: each[1].median_ms)

    def eager_ms(self, shape: str) -> float | None:
        """Eager's median latency at its best number of threads, or None if not measured."""
        by_threads = self.certificate.eager.get(shape)
        return self.best(by_threads)[1].median_ms if by_threads else None

    def speedup(self, candidate: Candidate, shape: str) -> Speedup | None:
        """The speedup over eager PyTorch, or None if one of the two was not measured."""
        return speedup(candidate, self.certificate.eager, shape)

    @property
    def notice(self) -> str | None:
        """What to know first, if the machine was not quiet."""
        return notice(self.certificate, self.manifest.chosen)

    @property
    def quiet_runs(self) -> str:
        """How many of all runs at the compared shapes were quiet; empty if that is not known."""
        return runs_in_words(
            latency
            for _, table in self.timed
            for shape in self.certificate.shapes
            for latency in table.get(shape, {}).values()
        )

    @property
    def compared(self) -> list[tuple[str, Candidate]]:
        """The candidates that were compared with eager."""
        return [
            (name, each) for name, each in self.certificate.candidates.items() if each.agreement
        ]

    def over(self, agreement: Agreement, tolerance: Tolerance | None) -> set[str]:
        """The names of the fields that are out of tolerance."""
        if tolerance is None:
            return set()
        over = set()
        measure = next(each for each in self.certificate.outputs if each.name == agreement.output)
        if not agreement.relative_error <= allowed_error(measure, tolerance):
            over.add("relative_error")
        limit = ROW_FACTOR * tolerance.relative_error
        if measure.kind != "labels" and not agreement.row_error <= limit:
            over.add("row_error")
        if measure.kind == "embedding" and not (agreement.cosine or 0.0) >= tolerance.cosine:
            over.add("cosine")
        top1 = agreement.top1_agreement
        if top1 is not None and top1 < tolerance.top1_agreement:
            over.add("top1_agreement")
        return over

    @property
    def threads(self) -> list[int]:
        """All numbers of threads that were measured at a compared shape."""
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
        """The latencies of eager and of every candidate that was measured."""
        eager = [("eager", self.certificate.eager)] if self.certificate.eager else []
        return eager + [
            (name, each.latency)
            for name, each in self.certificate.candidates.items()
            if each.latency
        ]

    @property
    def left_out(self) -> list[LeftOut]:
        """The refused and skipped candidates, grouped by the kind of reason."""
        groups: dict[str, LeftOut] = {}
        for name, each in self.certificate.candidates.items():
            if each.passed:
                continue
            explanation = explain(each.verdict)
            group = groups.get(explanation.title)
            groups[explanation.title] = LeftOut(
                explanation=explanation,
                reasons=(group.reasons if group else ()) + ((name, each.verdict),),
            )
        return list(groups.values())

    @property
    def sweep(self) -> list[tuple[int, Latency]]:
        """The chosen program's latency by batch size, with the threads that it is served with.

        For texts, at the longest compared length.
        """
        tokens = self.certificate.shapes[-1].partition("x")[2]
        return sorted(
            (rows_of(shape), by_threads[self.manifest.serving.threads])
            for shape, by_threads in self.chosen.latency.items()
            if shape.partition("x")[2] == tokens and self.manifest.serving.threads in by_threads
        )

    @property
    def sensitivity_in_words(self) -> str:
        """The share of the total error that comes from the worst few layers."""
        squares = [each.relative_error**2 for each in self.certificate.sensitivity]
        total = sum(squares)
        if not total:
            return "Quantizing any single layer leaves the outputs unchanged"
        few = next(
            count for count in range(1, len(squares) + 1) if sum(squares[:count]) >= total / 2
        )
        layers = "One layer causes" if few == 1 else f"{few} layers cause"
        return (
            f"{layers} {sum(squares[:few]) / total:.0%} of the total squared error of all "
            f"{len(squares)}. If the errors of the layers are independent, they add up to a "
            f"relative error of {rounded(sqrt(total), 2)}"
        )

    @property
    def ranked_program(self) -> str:
        """The technique whose program the ranking of layers is about."""
        techniques = TECHNIQUES.all()
        rankings = (
            techniques[name].layer_ranking
            for name in self.certificate.candidates
            if name in techniques
        )
        return next((ranking.program for ranking in rankings if ranking), "")

    @property
    def ranked_program_error(self) -> float | None:
        """The measured relative error of that whole program, or None if it was not compared."""
        candidate = self.certificate.candidates.get(self.ranked_program)
        agreements = candidate.agreement if candidate else ()
        return max((agreement.relative_error for agreement in agreements), default=None)

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands that reproduce the export: the purpose, and parts that may not be broken."""
        manifest = self.manifest
        recipe = manifest.name if is_in_project(manifest.name) else "YOUR_RECIPE.py"
        export = ["shipway export", recipe]
        export += [f"--version {quote(manifest.version)}", f"--objective {manifest.objective}"]
        if self.budget is not None:
            export.append(f"--accuracy-budget {self.budget:g}")
        if set(self.certificate.candidates) != set(TECHNIQUES.all()):
            export += [f"--only {quote(name)}" for name in self.certificate.candidates]
        folder = f"{manifest.name}-{manifest.version}"
        pins = [quote(f"{package}=={version}") for package, version in manifest.packages.items()]
        return [
            ("Install the same packages", ["pip install", *pins]),
            ("Export again", export),
            (
                "Check that no file of this artifact has changed",
                [f"cd {folder}", "&&", "sha256sum -c SHA256SUMS"],
            ),
            ("Choose again on another host", ["shipway export", f"--rechoose {folder}"]),
        ]

    def shape_of(self, spec: TensorSpec) -> str:
        """A tensor's shape, dynamic axes with their names and limits."""
        axes = (
            f"{axis.name} {axis.min}–{axis.max}" if isinstance(axis, Axis) else str(axis)
            for axis in spec.shape
        )
        return " × ".join(axes)
