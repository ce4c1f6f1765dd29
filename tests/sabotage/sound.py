"""Sound and unusual models: each has to be sealed, and to answer what eager answers.

B = rows, T = time, K = numbers of a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shipway.recipe import (
    Axis,
    Inputs,
    Recipe,
    Rows,
    TablePreprocessing,
    TensorPreprocessing,
    TensorSpec,
)

BATCH = Axis(name="batch", min=1, max=8)
TIME = Axis(name="time", min=2, max=24)
ROWS = 64


class Base(nn.Module):
    def __init__(self, columns: int = 4, outputs: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, outputs)

    def logits(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x)) * 3


class TwoOutputs(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits(x), x.sum(dim=1, keepdim=True)


class DictOutputs(Base):
    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"features": x * 2, "logits": self.logits(x)}


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()


class DataclassOutputs(Base):
    def forward(self, x: Tensor) -> Output:
        return Output(self.logits(x), None, (x + 1, x * x))


class NestedOutputs(Base):
    def forward(self, x: Tensor) -> Any:
        return {"levels": [x[:, :2], (x[:, 2:], self.logits(x))], "sum": x.sum(1)}


class FarFromZero(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, :1] + 20


class VeryFarFromZero(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, :1] + 1e5


class NearZero(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * 1e-6


class RowsOfZeros(Base):
    """A head of ReLU of which many rows are zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x) - 0.3)


class Units(Base):
    """Columns of different units."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * torch.tensor([1e-4, 1.0, 1e4]) + torch.tensor([0.0, 20.0, -3e4])


class OverTime(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).mean(dim=1)


class InTime(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) + x.cumsum(dim=1)[:, :, :3] * 0.1


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2).add_(1)
        return self.logits(x)


class Twelve(nn.Module):
    """Each input counts with another weight, so that none may take another's place."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack([x * (index + 1) for index, x in enumerate(inputs)]).sum(dim=0)


class Classes(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).argmax(dim=1)


class Mask(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) > 1.5


class OneLogit(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)[:, :1]


class Logits(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class Probabilities(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(dim=1)


class Profit(nn.Module):
    def forward(self, price: Tensor, cost: Tensor) -> Tensor:
        return price.sum(dim=1) - 0.5 * cost.sum(dim=1)


class Double(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).double() * 1.1


class Half(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).half()


class Echo(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.logits(x)


class Scalars(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sum(dim=1)


class Constant(Base):
    """One output that never changes, beside one that does."""

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"logits": self.logits(x), "bias": torch.zeros_like(x[:, :1]) + 7}


class Guarded(Base):
    """A branch on data that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.clamp(-10, 10) if x.max() > 10 else x)


def rows_of(value: float) -> Inputs:
    """Two rows that hold one value."""

    def load(recipe: Recipe) -> Rows:
        del recipe
        return Rows((np.full((2, 4), value, np.float32),))

    return Inputs(description=f"rows of {value:g}", load=load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A model, what it takes, and what its recipe says beside that."""

    module: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int | Axis, ...]] = field(default_factory=lambda: {"x": (4,)})
    columns: int = 0
    """For a table: how many columns."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("output",)
    """The names in answers."""


TABLE: dict[str, Any] = {"columns": 4, "outputs": ("logits",)}
SOUND = {
    "two outputs": Sound(module=TwoOutputs, outputs=("output_0", "output_1")),
    "a dict": Sound(module=DictOutputs, outputs=("features", "logits")),
    "a dataclass with a loss of None": Sound(
        module=DataclassOutputs, outputs=("logits", "hidden_states_0", "hidden_states_1")
    ),
    "nested outputs": Sound(
        module=NestedOutputs, outputs=("levels_0", "levels_1_0", "levels_1_1", "sum")
    ),
    "outputs chosen and renamed": Sound(
        module=DictOutputs, fields={"outputs": {"logits": "scores"}}, outputs=("scores",)
    ),
    "a regression at 20": Sound(module=FarFromZero),
    "a regression at 100,000": Sound(module=VeryFarFromZero),
    "a regression near zero": Sound(module=NearZero),
    "rows of zeros": Sound(module=RowsOfZeros),
    "columns of different units": Sound(module=Units),
    "a mean over time": Sound(module=OverTime, inputs={"x": (TIME, 4)}),
    "an answer for each step": Sound(module=InTime, inputs={"x": (TIME, 4)}),
    "an input changed in place": Sound(module=InPlace),
    "twelve inputs": Sound(module=Twelve, inputs={f"input_{index}": (2,) for index in range(12)}),
    "integers": Sound(module=Classes),
    "booleans": Sound(module=Mask),
    "float64": Sound(module=Double),
    "float16": Sound(module=Half),
    "its own input": Sound(module=Echo, outputs=("output_0", "output_1")),
    "one number a row": Sound(module=Scalars),
    "one constant output": Sound(module=Constant, outputs=("logits", "bias")),
    "inputs in another order": Sound(module=Profit, inputs={"cost": (3,), "price": (3,)}),
    "a branch that the recipe has inputs for": Sound(
        module=Guarded, fields={"branch_inputs": rows_of(9)}
    ),
    "logits": Sound(module=Logits, fields={"labels": lambda: list("abc")}, **TABLE),
    "one logit": Sound(
        module=OneLogit, fields={"scores": "binary", "labels": lambda: ["no", "yes"]}, **TABLE
    ),
    "independent labels": Sound(
        module=Logits, fields={"scores": "multi_label", "labels": lambda: list("abc")}, **TABLE
    ),
    "probabilities": Sound(
        module=Probabilities,
        fields={"scores": "probabilities", "labels": lambda: list("abc")},
        **TABLE,
    ),
}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The module with the same random weights every time."""
    torch.manual_seed(0)
    return build()


def sizes(spec: TensorSpec, length: int = 7) -> list[int]:
    """The shape of a row, with this length where it may vary."""
    return [length if isinstance(axis, Axis) else axis for axis in spec.shape[1:]]


def recipe_of(name: str) -> Recipe:
    """The recipe of a sound model."""
    return recipe_from(name, SOUND[name])


def recipe_from(name: str, sound: Sound, plugins: Sequence[str] = ()) -> Recipe:
    """A recipe for a model, with random weights and random rows."""
    if sound.columns:
        preprocessing: Any = TablePreprocessing(
            columns=tuple(f"column_{index}" for index in range(sound.columns)), source="a test"
        )
    else:
        specs = tuple(
            TensorSpec(name=key, dtype="float32", shape=(BATCH, *shape))
            for key, shape in sound.inputs.items()
        )
        preprocessing = TensorPreprocessing(inputs=specs, source="a test")

    def rows(seed: int) -> Inputs:
        def load(recipe: Recipe) -> Rows:
            random = np.random.default_rng(seed)
            return Rows(
                tuple(
                    random.normal(
                        size=(
                            ROWS,
                            *(7 if isinstance(axis, Axis) else axis for axis in spec.shape[1:]),
                        )
                    ).astype(np.float32)
                    for spec in recipe.inputs
                )
            )

        return Inputs(description=f"{ROWS} random rows, seed {seed}", load=load)

    return Recipe(
        name=name.replace(" ", "-").replace(",", "").replace("'", ""),
        task="tabular_classification" if sound.columns else "tensors",
        module=lambda: seeded(sound.module),
        weights=lambda: None,
        batch=BATCH,
        preprocessing=preprocessing,
        calibration=rows(0),
        evaluation=rows(1),
        plugins=plugins,
        **sound.fields,
    )
