"""How `shipway predict` prints an answer: a table where its JSON has a known shape."""

from typing import Any

from rich.table import Table

from shipway.cli.output import out

BAR_WIDTH = 20
"""Columns of a bar that shows 100%."""


def print_answer(answer: dict[str, Any]) -> None:
    """Prints the answer for one file: a table of classes, an embedding in short, or its JSON."""
    out.print(answer["file"], style="bold")
    match answer:
        case {"error": {"code": code, "type": kind, "message": message}}:
            out.print(f"  {code} {kind}: {message}", style="red")
        case {"predictions": [{"class_id": _, "label": _, "probability": _}, *_] as ranked}:
            out.print(_predictions_table(ranked))
        case {"predictions": {"embedding": _} as embedding}:
            out.print(_embedding_in_words(embedding))
        case {"predictions": [{"embedding": _}, *_] as embeddings}:
            for embedding in embeddings:
                out.print(_embedding_in_words(embedding))
        case {"predictions": anything}:
            out.print_json(data=anything)
    if "explained" in answer:
        _print_times(answer["explained"])


def _predictions_table(ranked: list[dict[str, Any]]) -> Table:
    table = Table("", "label", "class", "probability", "", box=None, pad_edge=True)
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for rank, prediction in enumerate(ranked, start=1):
        probability = float(prediction["probability"])
        table.add_row(
            str(rank),
            str(prediction["label"]),
            str(prediction["class_id"]),
            f"{probability:.1%}",
            "█" * round(probability * BAR_WIDTH),
        )
    return table


def _embedding_in_words(answer: dict[str, Any]) -> str:
    numbers = answer["embedding"]
    start = ", ".join(f"{number:.4f}" for number in numbers[:4])
    cut = ", truncated to the model's length" if answer.get("truncated") else ""
    return f"  {len(numbers)} numbers: {start}, …  ({answer.get('tokens')} tokens{cut})"


def _print_times(explained: dict[str, Any]) -> None:
    took_ms, stages = explained["took_ms"], dict(explained["stages_ms"])
    if not stages:
        out.print(f"  {took_ms:.1f} ms; this handler does not report the times of its stages")
        return
    handler_ms = stages.pop("total", sum(stages.values()))
    queue_ms = stages.pop("queue", 0.0)
    rows = {"network, server and waiting": max(0.0, took_ms - handler_ms), **stages}
    if queue_ms:
        network_ms = max(0.0, took_ms - handler_ms - queue_ms)
        rows = {"waiting": queue_ms, "network and server": network_ms, **stages}
    table = Table("", "ms", "", box=None, pad_edge=True)
    table.columns[1].justify = "right"
    start_ms = 0.0
    for stage, stage_ms in rows.items():
        before = round(BAR_WIDTH * start_ms / took_ms)
        width = round(BAR_WIDTH * stage_ms / took_ms)
        table.add_row(stage, f"{stage_ms:.2f}", " " * before + ("█" * width or "▏"))
        start_ms += stage_ms
    table.add_row("total", f"{took_ms:.2f}", "", style="bold")
    out.print(table)
    out.print(
        f"  {explained['program']} of version {explained['version']}, artifact "
        f"{explained['artifact'][:12]}…, in a batch of {explained['batch']} "
        f"row{'s' if explained['batch'] != '1' else ''}",
        style="dim",
    )
