"""The candidates of an export as a table, and their accuracy as lines of text."""

from typing import TYPE_CHECKING

from rich.table import Table

from shipway.export.intervals import CONFIDENCE

if TYPE_CHECKING:
    from shipway.artifact.certificate import Candidate, Certificate, Share
    from shipway.export.pipeline import Exported


def candidates_table(exported: "Exported") -> Table:
    """A row for each candidate with its measurements; the chosen one is marked."""
    # numpy and pydantic take half a second to import.
    from shipway.tasks import TASKS

    certificate, manifest = exported.certificate, exported.manifest
    labelled = certificate.evaluation.labelled
    classes = TASKS.get(manifest.task).classifies
    table = Table(
        title=f"{manifest.name} {manifest.version}: {certificate.evaluation.rows} held-out inputs, "
        f"{certificate.host.cores} cores, latency in ms",
        title_justify="left",
        title_style="bold",
        caption="error: relative error of the outputs, ‖candidate − eager‖ / ‖eager − its mean‖",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    table.add_column("format", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    for shape in certificate.shapes:
        title = f"batch {shape}" if shape.isdigit() else shape.replace("x", "×")
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    third = "accuracy" if labelled else "top-1" if classes else "cosine"
    table.add_column(third, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if certificate.eager:
        eager = (
            f"{min(each.median_ms for each in certificate.eager[shape].values()):.1f}"
            for shape in certificate.shapes
        )
        accuracy = _eager_accuracy(certificate)
        table.add_row("eager", "fp32", "", *eager, "", accuracy, "reference", style="dim")
    for name, each in certificate.candidates.items():
        worst = max(each.agreement, key=lambda found: found.relative_error, default=None)
        latency = (_number(each.best_ms(shape)) for shape in certificate.shapes)
        verdict = "passed" if each.passed else _refusal(each.verdict)
        chosen = name == manifest.chosen
        table.add_row(
            name,
            each.precision,
            f"{each.bytes / 1e6:.1f}" if each.bytes else "–",
            *latency,
            f"{worst.relative_error:.1e}" if worst else "–",
            _faithfulness(each),
            "chosen" if chosen else verdict,
            style="bold green" if chosen else None if each.passed else "red",
        )
    return table


def accuracy_lines(exported: "Exported") -> list[str]:
    """Accuracy with 95% intervals, if the evaluation inputs have labels; otherwise no lines.

    The lines are for eager PyTorch, the chosen program, and every candidate of lower precision,
    including refused ones.
    """
    chosen = exported.manifest.chosen
    known = {
        name: each.accuracy
        for name, each in exported.certificate.candidates.items()
        if each.accuracy and (name == chosen or each.precision != "fp32")
    }
    if not known:
        return []
    eager = known[chosen].eager
    width = max(map(len, known))
    return [
        f"accuracy on {eager.rows} labelled inputs, and its change compared with eager "
        f"PyTorch (paired by input, {CONFIDENCE:.0%} confidence intervals)",
        f"  {'eager':{width}}  {_percent(eager)}",
        *(
            f"  {name:{width}}  {_percent(each.candidate)}  {100 * each.change:+.2f} points "
            f"({100 * each.change_low:+.2f} to {100 * each.change_high:+.2f})"
            for name, each in known.items()
        ),
    ]


def loss_lines(exported: "Exported") -> list[str]:
    """What every compared candidate of lower precision loses, and whether that keeps the budget."""
    certificate = exported.certificate
    losses = {
        name: each.loss
        for name, each in certificate.candidates.items()
        if each.loss and each.precision != "fp32"
    }
    if not losses:
        return []
    first = next(iter(losses.values()))
    groups = "" if first.clusters == first.rows else f" in {first.clusters} groups"
    width = max(map(len, losses))
    return [
        f"points of {first.unit} lost on {first.rows} held-out inputs{groups}, and the upper "
        f"{CONFIDENCE:.0%} confidence bound, which must keep the budget of {certificate.budget:g}",
        *(
            f"  {name:{width}}  {loss.value + 0.0:5.2f}  bound {loss.bound:5.2f}"
            + (f"  agrees on {loss.agreement:.1%}" if loss.agreement is not None else "")
            for name, loss in losses.items()
        ),
    ]


def _percent(share: "Share") -> str:
    return f"{100 * share.value:.2f}% ({100 * share.low:.2f} to {100 * share.high:.2f})"


def _number(latency_ms: float | None) -> str:
    return (
        "–"
        if latency_ms is None
        else f"{latency_ms:.1f}"
        if latency_ms >= 1
        else f"{latency_ms:.2g}"
    )


def _eager_accuracy(certificate: "Certificate") -> str:
    known = (each.accuracy for each in certificate.candidates.values() if each.accuracy)
    first = next(known, None)
    return f"{first.eager.value:.1%}" if first else ""


def _faithfulness(candidate: "Candidate") -> str:
    if not candidate.agreement:
        return "–"
    if candidate.accuracy:
        return f"{candidate.accuracy.candidate.value:.1%}"
    if candidate.agreement[0].top1_agreement is None:
        cosines = [each.cosine for each in candidate.agreement if each.cosine is not None]
        return f"{min(cosines):.4f}" if cosines else "–"
    return f"{min(each.top1_agreement or 0 for each in candidate.agreement):.0%}"


def _refusal(verdict: str) -> str:
    return "skipped" if verdict.startswith("skipped") else "refused"
