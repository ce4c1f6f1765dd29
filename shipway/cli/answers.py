"""Prints the answers of `shipway predict`: as tables if their JSON has a known shape."""

from collections.abc import Callable
from typing import Any, TypeGuard

from rich.table import Table

from shipway.cli.output import out

BAR_WIDTH = 20
"""Columns of a bar that shows 100%."""
CLASS_KEYS = ("class_id", "label", "probability")
SCALARS = (str, int, float, bool, type(None))
"""The other values of a class that the table can show, in a column each."""


def print_answer(answer: dict[str, Any]) -> None:
    """Prints the answer for one file: a table of classes, a summary of an embedding or a mask,
    or JSON."""
    out.print(answer["file"], style="bold")
    if "error" in answer:
        error = answer["error"]
        out.print(f"  {error['code']} {error['type']}: {error['message']}", style="red")
    else:
        _print_predictions(answer["predictions"])
    if "explained" in answer:
        _print_times(answer["explained"])


def _print_predictions(predictions: object) -> None:
    if _all_match(predictions, _is_class):
        out.print(_predictions_table(predictions))
    elif _all_match(predictions, _is_embedding):
        for embedding in predictions:
            out.print(_embedding_in_words(embedding))
    elif _is_embedding(predictions):
        out.print(_embedding_in_words(predictions))
    elif _is_mask(predictions):
        out.print(f"  a mask of {predictions['width']} × {predictions['height']} pixels")
        out.print(_predictions_table(predictions["classes"], share="share"))
    else:
        out.print_json(data=predictions)


def _all_match(value: object, matches: Callable[[object], bool]) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(map(matches, value))


def _is_class(value: object) -> bool:
    match value:
        case {"class_id": _, "label": _, "probability": int() | float(), **others}:
            # A box or a list has no place in a table.
            return all(isinstance(other, SCALARS) for other in others.values())
    return False


def _is_embedding(value: object) -> TypeGuard[dict[str, Any]]:
    match value:
        case {"embedding": [*numbers]}:
            return all(isinstance(number, int | float) for number in numbers)
    return False


def _is_mask(value: object) -> TypeGuard[dict[str, Any]]:
    match value:
        case {"width": int(), "height": int(), "classes": [*classes], "mask": {}}:
            return all(
                isinstance(each, dict)
                and each.keys() == {"class_id", "label", "share"}
                and isinstance(each["share"], int | float)
                for each in classes
            )
    return False


def _predictions_table(ranked: list[dict[str, Any]], share: str = "probability") -> Table:
    """`share` is the key of the number that is drawn as a bar."""
    keys = dict.fromkeys(key for prediction in ranked for key in prediction)
    others = [key for key in keys if key not in (*CLASS_KEYS, share)]
    table = Table("", "label", "class", share, "", *others, box=None, pad_edge=True)
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for rank, prediction in enumerate(ranked, start=1):
        probability = float(prediction[share])
        table.add_row(
            str(rank),
            str(prediction["label"]),
            str(prediction["class_id"]),
            f"{probability:.1%}",
            "█" * round(probability * BAR_WIDTH),
            *(str(prediction.get(key, "")) for key in others),
        )
    return table


def _embedding_in_words(answer: dict[str, Any]) -> str:
    numbers = answer["embedding"]
    start = ", ".join(f"{number:.4f}" for number in numbers[:4])
    if "tokens" not in answer:
        return f"  {len(numbers)} numbers: {start}, …"
    cut = ", truncated to the model's maximum length" if answer.get("truncated") else ""
    return f"  {len(numbers)} numbers: {start}, …  ({answer['tokens']} tokens{cut})"


def _print_times(explained: dict[str, Any]) -> None:
    took_ms, stages = explained["took_ms"], dict(explained["stages_ms"])
    if not stages:
        out.print(
            f"  {took_ms:.1f} ms in total; the handler does not report the times of its stages"
        )
        return
    handler_ms = stages.pop("total", sum(stages.values()))
    queue_ms = stages.pop("queue", 0.0)
    rows = {"network, server and queue": max(0.0, took_ms - handler_ms), **stages}
    if queue_ms:
        network_ms = max(0.0, took_ms - handler_ms - queue_ms)
        rows = {"queue": queue_ms, "network and server": network_ms, **stages}
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
