"""A training loop for small models: AdamW, a cosine schedule, keeps the best validation epoch.

B = rows of a batch, K = classes.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save as serialized
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from shipway.artifact.certificate import Share
from shipway.export.verify import share
from shipway.files import atomic_write
from shipway.recipe import Rows

WEIGHTS = Path(__file__).parents[1] / "recipes" / "weights"
"""The folder from which the recipes load the checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Labelled rows in three parts without overlap."""

    train: Rows
    """For fitting the weights and for calibrating int8."""
    validation: Rows
    """For choosing the best epoch."""
    test: Rows
    """For measuring the accuracy once, at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The hyperparameters of a training."""

    epochs: int
    batch_size: int
    learning_rate: float
    """At the start; it falls to zero along a cosine."""
    weight_decay: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of a training."""

    state: dict[str, Tensor]
    """The state_dict of the epoch with the best accuracy, then the lowest loss."""
    epoch: int
    validation: Share
    """The accuracy on the validation rows."""
    test: Share
    """The accuracy on the test rows."""


def split_rows(rows: Rows, *, validation: float, test: float, seed: int) -> Split:
    """Splits labelled rows in three, with the same share of every class in each part."""
    targets = rows.targets
    assert targets is not None
    rest, tested = train_test_split(
        np.arange(len(rows)), test_size=test, stratify=targets, random_state=seed
    )
    trained, validated = train_test_split(
        rest, test_size=validation / (1 - test), stratify=targets[rest], random_state=seed
    )

    def part(chosen: np.ndarray) -> Rows:
        return Rows(tuple(each[chosen] for each in rows.arrays), targets[chosen])

    return Split(train=part(trained), validation=part(validated), test=part(tested))


def fit(
    build: Callable[[], nn.Module],
    split: Split,
    schedule: Schedule,
    *,
    augment: Callable[[Tensor, torch.Generator], Tensor] = lambda inputs, random: inputs,
    console: Console | None = None,
) -> Trained:
    """Trains the module that `build` returns on the inputs of requests.

    The same seed gives the same bytes on one machine. `console` shows the progress and the outcome.
    """
    with _reproducible(schedule.seed), _shown(console, schedule.epochs) as report:
        random = torch.Generator().manual_seed(schedule.seed)
        module = build()
        steps = schedule.epochs * math.ceil(len(split.train) / schedule.batch_size)
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, best_epoch, best_state = (-1.0, 0.0), 0, {}
        for epoch in range(1, schedule.epochs + 1):
            module.train()
            for inputs, targets_B in _batches(split.train, schedule.batch_size, random):
                logits_BK = module(augment(inputs, random))
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits_BK, targets_B).backward()
                optimizer.step()
                falling.step()
            right, loss = evaluate(module, split.validation)
            if (right.value, -loss) > best:
                best, best_epoch = (right.value, -loss), epoch
                best_state = copy.deepcopy(module.state_dict())
            report(right)
        module.load_state_dict(best_state)
        validation, test = (evaluate(module, part)[0] for part in (split.validation, split.test))
    if console:
        console.print(f"best validation accuracy {_in_words(validation)}, after epoch {best_epoch}")
        console.print(f"[bold]test accuracy {_in_words(test)}[/]")
    return Trained(state=best_state, epoch=best_epoch, validation=validation, test=test)


def evaluate(module: nn.Module, rows: Rows) -> tuple[Share, float]:
    """The share of rows whose largest output is their target, and the mean loss."""
    inputs, targets_B = _tensors(rows)
    with torch.no_grad():
        logits_BK = module.eval()(inputs)
    loss = nn.functional.cross_entropy(logits_BK, targets_B)
    return share((logits_BK.argmax(1) == targets_B).numpy()), float(loss)


def save(state: dict[str, Tensor], out: Path, console: Console) -> None:
    """Writes a state_dict as .safetensors, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, serialized({name: tensor.contiguous() for name, tensor in state.items()}))
    console.print(f"wrote {out}, {out.stat().st_size / 1000:.0f} kB")


def first(rows: Rows, count: int) -> Rows:
    """The first rows without targets, for calibration: a random sample if rows are shuffled."""
    return Rows(tuple(each[:count] for each in rows.arrays))


def _batches(rows: Rows, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    inputs, targets_B = _tensors(rows)
    for chosen in torch.randperm(len(rows), generator=random).split(size):
        yield inputs[chosen], targets_B[chosen]


def _tensors(rows: Rows) -> tuple[Tensor, Tensor]:
    (inputs,), targets_B = rows.arrays, rows.targets
    assert targets_B is not None
    return torch.from_numpy(inputs), torch.from_numpy(targets_B)


def _in_words(found: Share) -> str:
    right = round(found.value * found.rows)
    return (
        f"{found.value:.1%} ({right:,} of {found.rows:,}; "
        f"95% interval {found.low:.1%} to {found.high:.1%})"
    )


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Deterministic algorithms on one thread: with more, sums round differently."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(threads)


@contextmanager
def _shown(console: Console | None, epochs: int) -> Iterator[Callable[[Share], None]]:
    """A progress bar over the epochs, with the last validation accuracy."""
    progress = Progress(
        TextColumn("epoch {task.completed} of {task.total}"),
        BarColumn(bar_width=24),
        TextColumn("validation {task.fields[validation]}"),
        TimeElapsedColumn(),
        console=console,
        disable=console is None,
    )
    with progress:
        task = progress.add_task("", total=epochs, validation="–")
        yield lambda found: progress.update(task, advance=1, validation=f"{found.value:.1%}")
