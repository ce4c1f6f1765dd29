"""What must be true of eager PyTorch itself before a program can be compared with it.

Its answers must not depend on chance, on earlier requests, or on the other rows of a batch.

N = rows.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import torch
from torch import nn

from shipway.artifact.measures import allowed_change
from shipway.errors import ShipwayError
from shipway.export.errors import BadInputs
from shipway.export.loaded_code import content_of
from shipway.runtime.batches import Arrays

ROWS = 4
"""Rows that are run alone and in company."""
ALLOWED = 1e-4
"""By how much a number may change between runs, relative to the largest distance from the mean:
threads add in another order."""
LOW_PRECISION = 64
"""For modules in half precision: as many units in the last place."""

Run = Callable[[Arrays], Sequence[np.ndarray]]


def check_eager(module: nn.Module, run: Run, arrays: Arrays, names: Sequence[str]) -> None:
    """Runs the module twice on some rows, and each of them alone. Raises BadInputs with the reason.

    `run` gives its outputs, called `names`, each (N, …), for `arrays`.
    """
    rows = min(ROWS, len(arrays[0]))
    company = tuple(array[:rows] for array in arrays)
    state = dict(_digests(module))
    torch.manual_seed(0)
    first = _run(run, company, names, rows)
    changed = [name for name, digest in _digests(module) if state.get(name) != digest]
    if changed:
        raise BadInputs(
            f"The module changes its own state in each call ({', '.join(changed[:3])}), so its "
            "answers would depend on earlier requests. Change nothing in forward in eval mode."
        )
    _check_again(run, company, names, first)
    _check_alone(run, company, names, first)


def _check_again(
    run: Run, company: Arrays, names: Sequence[str], first: Sequence[np.ndarray]
) -> None:
    second = _run(run, company, names, len(company[0]))
    name, change = _most_changed(names, first, second)
    if name is None:
        return
    torch.manual_seed(0)
    seeded = _run(run, company, names, len(company[0]))
    if _most_changed(names, first, seeded)[0] is None:
        raise BadInputs(
            f"Two runs on the same inputs differ by {change:.2g} in {name}, and are the same for "
            "the same random seed. Something random, such as F.dropout without "
            "`training=self.training`, is active in eval mode. Turn it off."
        )
    raise BadInputs(
        f"Two runs on the same inputs differ by {change:.2g} in {name}, whatever the random seed. "
        "The module keeps something from one call to the next, so its answers would depend on "
        "earlier requests. Keep nothing between calls."
    )


def _check_alone(
    run: Run, company: Arrays, names: Sequence[str], first: Sequence[np.ndarray]
) -> None:
    alone = []
    for row in range(len(company[0])):
        outputs = run(tuple(array[row : row + 1] for array in company))
        for name, output, together in zip(names, outputs, first, strict=True):
            expected = (1, *together.shape[1:])
            if output.shape != expected:
                raise BadInputs(
                    f"For one row the module's output {name} has shape {output.shape}; for "
                    f"{len(together)} rows it has shape {together.shape}, so for one it should be "
                    f"{expected}. Keep the batch axis: use squeeze(-1) in place of squeeze()."
                )
        alone.append(outputs)
    joined = [np.concatenate(parts) for parts in zip(*alone, strict=True)]
    changed, change = _most_changed(names, first, joined)
    if changed is not None:
        raise BadInputs(
            f"A row's {changed} changes by {change:.2g} with the other rows of its batch, so an "
            "answer would depend on other requests. Compute nothing over the batch axis, and let "
            "BatchNorm use running statistics (track_running_stats=True)."
        )


def _run(run: Run, arrays: Arrays, names: Sequence[str], rows: int) -> Sequence[np.ndarray]:
    outputs = run(arrays)
    for name, output in zip(names, outputs, strict=True):
        if output.ndim == 0 or len(output) != rows:
            raise BadInputs(
                f"For {rows} rows the module's output {name} has shape {output.shape}. The first "
                "axis must be the batch, with an entry for each row. Change what the module "
                "returns, or leave this output out with `outputs` in the recipe."
            )
    return outputs


def _most_changed(
    names: Sequence[str], before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> tuple[str | None, float]:
    """The first output that changed by more than rounding explains, and by how much."""
    for name, a, b in zip(names, before, after, strict=True):
        if a.shape != b.shape:
            return name, float("nan")
        if not np.issubdtype(a.dtype, np.floating):
            if (a != b).any():
                return name, float((a != b).mean())
            continue
        eps = float(np.finfo(a.dtype).eps)
        a64, b64 = (np.nan_to_num(each.astype(np.float64), posinf=0, neginf=0) for each in (a, b))
        change = float(np.abs(a64 - b64).max(initial=0.0))
        if change > allowed_change(a, max(ALLOWED, LOW_PRECISION * eps)):
            return name, change
    return None, 0.0


def _digests(module: nn.Module) -> Iterator[tuple[str, str]]:
    """A digest of each parameter and buffer."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name, sha256(content_of(tensor)).hexdigest()


@contextmanager
def telling_the_line() -> Iterator[None]:
    """Makes a BadInputs of what the module raises, with the last line of it that is not torch's."""
    try:
        yield
    except ShipwayError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        at = own[-1]
        raise BadInputs(
            f"The module raised {type(error).__name__}: {error} ({at.filename}, line {at.lineno}). "
            "Check that it fits the inputs that the recipe declares."
        ) from error
