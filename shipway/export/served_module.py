"""The module as it is served: from the inputs of a request to the module's outputs.

B = rows, H, W = pixels, C = channels, K = classes.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shipway.export.errors import BadInputs
from shipway.export.module_outputs import choose_outputs, leaves_of
from shipway.recipe import ImagePreprocessing, Recipe
from shipway.tasks import TASKS


def as_served(module: nn.Module, recipe: Recipe) -> nn.Module:
    """The module in eval mode, with preprocessing in front of it.

    Modules for text, tables and tensors take the inputs of a request directly.
    """
    if isinstance(recipe.preprocessing, ImagePreprocessing):
        module = FromPixels(module, recipe.preprocessing)
    return module.eval()


def unwrapped(module: nn.Module, recipe: Recipe, example: Sequence[Tensor]) -> "Served":
    """What `as_served` returned, with inputs by name and with the chosen outputs as tensors.

    A module that changes its inputs in place gets copies of them. Runs it once on `example`. A
    module that takes its inputs in order and returns one tensor stays as it is. Raises BadInputs.
    """
    arguments = None if isinstance(module, FromPixels) else arguments_by_name(module, recipe)
    whole = Unwrapped(module, arguments, ())
    given = [tensor.clone() for tensor in example]
    with torch.inference_mode():
        returned = whole.returned(*given)
    in_place = not all(map(torch.equal, given, example))
    outputs = choose_outputs(returned, recipe, TASKS.get(recipe.task).output)
    if not isinstance(returned, Tensor) or arguments is not None or in_place:
        module = Unwrapped(module, arguments, tuple(outputs), copies=in_place).eval()
    return Served(module=module, outputs=tuple(outputs.values()))


def arguments_by_name(module: nn.Module, recipe: Recipe) -> tuple[str, ...] | None:
    """The inputs' names if they are passed by name, None if their order is that of `forward`.

    Raises BadInputs where only some of them are parameters of `forward`.
    """
    names = [spec.name for spec in recipe.inputs]
    parameters = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    known = [name for name in names if name in parameters]
    if known and len(known) < len(names):
        unknown = ", ".join(name for name in names if name not in parameters)
        raise BadInputs(
            f"The recipe's inputs are {', '.join(names)}, but forward takes "
            f"{', '.join(parameters)}: it has no parameter {unknown}. Give all inputs the names of "
            "forward's parameters, or none, to pass them in order."
        )
    return tuple(names) if known and parameters[: len(names)] != names else None


def layer_prefix(served: nn.Module) -> str:
    """What `as_served` put before the names of the user's own layers."""
    prefix = ""
    while isinstance(served, Unwrapped | FromPixels):
        served, prefix = served.module, prefix + "module."
    return prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A module as it is served, and the names of its outputs in answers."""

    module: nn.Module
    outputs: tuple[str, ...]


class Unwrapped(nn.Module):
    """Inputs by name, and the chosen outputs as tensors, whatever they were nested in."""

    def __init__(
        self,
        module: nn.Module,
        arguments: tuple[str, ...] | None,
        outputs: tuple[str, ...],
        *,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self._copies = copies
        self.module = module
        self._arguments = arguments
        self._outputs = outputs

    def returned(self, *inputs: Tensor) -> object:
        """What the module itself returns."""
        if self._copies:
            inputs = tuple(tensor.clone() for tensor in inputs)
        if self._arguments is None:
            return self.module(*inputs)
        return self.module(**dict(zip(self._arguments, inputs, strict=True)))

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The inputs of a request, in order, to the chosen outputs."""
        returned = self.returned(*inputs)
        if isinstance(returned, Tensor):
            return returned
        leaves = dict(leaves_of(returned))
        tensors = tuple(leaves[name] for name in self._outputs)
        return tensors[0] if len(tensors) == 1 else tensors  # type: ignore[return-value]


class FromPixels(nn.Module):
    """uint8 pixels (B, H, W, C) to the module's outputs, (B, K).

    Layout, cast and normalisation are part of the program: they run once per batch instead of once
    per image, and requests carry a quarter of the bytes. The layout changes first, on uint8.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, preprocessing: ImagePreprocessing) -> None:
        super().__init__()
        self.module = module
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / std.view(1, -1, 1, 1))

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        """uint8 pixels (B, H, W, C) to what the module returns."""
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32)
        outputs: Tensor = self.module((pixels_BCHW - self.mean) * self.scale)
        return outputs
