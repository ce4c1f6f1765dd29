"""What a module returns, as named tensors: nested dicts, tuples and dataclasses are flattened.

B = rows.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from shipway.export.errors import BadInputs
from shipway.recipe import Recipe

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


def leaves_of(returned: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of everything in a nested output; None is left out.

    A single tensor has the name `name`. Items of dicts, dataclasses and named tuples have their
    keys as names, items of a tuple or list `output_0`, `output_1`, …; nested names are joined by
    `_`.
    """
    if returned is None:
        return
    items: list[tuple[str, object]]
    if isinstance(returned, Mapping):
        items = [(str(key), value) for key, value in returned.items()]
    elif dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        items = [
            (field.name, getattr(returned, field.name)) for field in dataclasses.fields(returned)
        ]
    elif isinstance(returned, tuple) and hasattr(returned, "_fields"):
        items = list(zip(returned._fields, returned, strict=True))
    elif isinstance(returned, tuple | list):
        items = [
            (str(index) if name else f"output_{index}", value)
            for index, value in enumerate(returned)
        ]
    else:
        yield name, returned
        return
    for key, value in items:
        key = NOT_IN_NAMES.sub("_", key)
        yield from leaves_of(value, f"{name}_{key}" if name else key)


def choose_outputs(returned: object, recipe: Recipe, single: str) -> dict[str, str]:
    """The names in answers by the module's own names, for the outputs to serve, in order.

    `single` is the name of an output that is a tensor by itself. Raises BadInputs if the recipe
    names an output that does not exist, or an output cannot be served.
    """
    leaves = list(leaves_of(returned, single if isinstance(returned, Tensor) else ""))
    names = [name for name, _ in leaves]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadInputs(
            f"The module returns several outputs that would be called {', '.join(repeated)}. "
            "Return them under different names."
        )
    chosen = recipe.served_outputs or {name: name for name in names}
    if isinstance(returned, Tensor) and len(chosen) == 1 and single not in chosen:
        chosen = {single: next(iter(chosen.values()))}
    values = dict(leaves)
    if not chosen:
        raise BadInputs("The module returns no tensor. Return at least one.")
    for name in chosen:
        if name not in values:
            raise BadInputs(
                f"The recipe's output {name!r} does not exist. The module returns "
                f"{', '.join(names) or 'nothing'}. Correct `outputs` in the recipe."
            )
        _check_output(name, values[name])
    return chosen


def _check_output(name: str, value: object) -> None:
    others = f"Leave it out with `outputs` in the recipe, or change the module's {name}"
    if not isinstance(value, Tensor):
        raise BadInputs(
            f"The module's output {name} is of type {type(value).__name__}, not a tensor. {others} "
            "to a tensor."
        )
    if value.is_complex():
        raise BadInputs(
            f"The module's output {name} is complex. Clients receive real numbers. {others} to "
            "torch.view_as_real of it."
        )
    if value.is_sparse or value.is_quantized:
        raise BadInputs(f"The module's output {name} is not dense. {others} to a dense tensor.")
