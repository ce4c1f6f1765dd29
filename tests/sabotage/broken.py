"""Broken models, recipes and programs: each has to be refused, at the earliest step and for its
true reason.

B = rows, T = time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from tests.sabotage.sound import (
    TIME,
    Base,
    Classes,
    Constant,
    Logits,
    OneLogit,
    Probabilities,
    Profit,
    Sound,
    TwoOutputs,
    rows_of,
)


class Dropout(Base):
    def forward(self, x: Tensor) -> Tensor:
        return dropout(self.logits(x), 0.5)


class Noise(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) + torch.randn_like(x[:, :1])


class Counting(Base):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x) + self.calls


class Remembering(Base):
    last = 0.0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x) + self.last
        self.last = logits.mean().item()
        return logits


class Squeezed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).squeeze()


class Centred(Base):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        return logits - logits.mean(dim=0)


class Sorted(Base):
    """It answers the rows in the order of their first score."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        return logits[logits[:, 0].argsort()]


class OneForAll(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).mean()


class Transposed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).T


class Always(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(self.logits(x)) + 20


class NotANumber(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(self.logits(x))


class Complex(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(self.logits(x))


class Sparse(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).to_sparse()


class Words(Base):
    def forward(self, x: Tensor) -> Mapping[str, Any]:
        return {"logits": self.logits(x), "label": "cat"}


class Nothing(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class Rarely(Base):
    """A branch that no evaluation row takes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) * 0 if x.max() > 1000 else self.logits(x)


class Steps(Base):
    """A loop that a tracer writes down for the number of steps that it saw."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            total = torch.tanh(total + x[:, step])
        return self.logits(total)


class Sigmoid(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid()


class Masked(Base):
    """Scores of which one class is never allowed."""

    def forward(self, x: Tensor) -> Tensor:
        scores = self.logits(x)
        return torch.cat([scores, torch.full_like(scores[:, :1], -torch.inf)], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What is broken, and the reason that must be given."""

    sound: Sound
    reason: str
    """A regular expression."""
    only: tuple[str, ...] = ("onnx_fp32",)
    refused: str | None = None
    """The technique whose row has the reason; None if the whole export ends with it."""


def model(module: Callable[[], nn.Module], reason: str, **fields: Any) -> Broken:
    """A model that no program can be made of."""
    return Broken(sound=Sound(module=module, **fields), reason=reason)


def classifier(module: Callable[[], nn.Module], reason: str, **fields: Any) -> Broken:
    """A classifier whose recipe does not say what it returns."""
    said = {"labels": lambda: ["a", "b", "c"], **fields}
    return Broken(sound=Sound(module=module, columns=4, fields=said), reason=reason)


MODELS = {
    "dropout that is always on": model(Dropout, "the same for the same random seed"),
    "noise": model(Noise, "the same for the same random seed"),
    "a buffer that counts calls": model(Counting, r"changes its own state in each call \(calls\)"),
    "state kept between calls": model(Remembering, "keeps something from one call to the next"),
    "squeeze of a batch of one": model(Squeezed, r"For one row .* has shape \(3,\)"),
    "statistics of the batch": model(Centred, "with the other rows of its batch"),
    "rows that are sorted": model(Sorted, "with the other rows of its batch"),
    "one answer for all rows": model(OneForAll, "The first axis must be the batch"),
    "axes that are swapped": model(Transposed, "The first axis must be the batch"),
    "a constant answer": model(Always, "Every evaluation row has the same outputs"),
    "answers that are not numbers": model(NotANumber, "is NaN or infinite for evaluation row"),
    "scores of minus infinity": model(Masked, "is NaN or infinite for evaluation row"),
    "complex numbers": model(Complex, "is complex"),
    "sparse tensors": model(Sparse, "is not dense"),
    "a word among the outputs": model(Words, "output label is of type str"),
    "no output": model(Nothing, "returns no tensor"),
    "an output that does not exist": model(
        TwoOutputs, "'logits' does not exist", fields={"outputs": ["logits"]}
    ),
    "an input that forward does not know": model(
        Profit, "has no parameter costs", inputs={"price": (3,), "costs": (3,)}
    ),
    "probabilities called logits": classifier(Probabilities, 'Set scores="probabilities"'),
    "logits called probabilities": classifier(
        Logits, 'Set scores="logits"', scores="probabilities"
    ),
    "one logit called logits": classifier(
        OneLogit, 'set scores="binary"', labels=lambda: ["no", "yes"]
    ),
    "sigmoid of independent labels": classifier(Sigmoid, "without sigmoid", scores="multi_label"),
    "argmax of a classifier": classifier(Classes, "without argmax"),
    "features beside logits": classifier(TwoOutputs, "Choose it in the recipe"),
    "too few labels": classifier(Logits, "2 labels; the module has 3", labels=lambda: ["a", "b"]),
    "a branch that tracing fixes": Broken(
        sound=Sound(module=Rarely),
        reason="tracing fixed what broken.py, line",
        only=("torchscript",),
    ),
    "a branch that tracing fixes, with inputs for it": Broken(
        sound=Sound(module=Rarely, fields={"branch_inputs": rows_of(2000)}),
        reason="for branch row 0 its output output has a relative error",
        only=("torchscript",),
    ),
    "a loop that tracing fixes": Broken(
        sound=Sound(module=Steps, inputs={"x": (TIME, 4)}),
        reason=r"with time = \d+",
        only=("torchscript",),
    ),
}


class After(nn.Module):
    """A module whose outputs something is done to."""

    def __init__(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.change = change

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.change(self.module(*inputs))


def overflown(x: Tensor) -> Tensor:
    """As half precision does beyond 65,504."""
    return (x * 3e4).half().float() / 3e4


def other_weights(x: Tensor) -> Tensor:
    """As if the layer before had been trained a little longer."""
    return x * torch.tensor([1.0, 1.02, 0.98])


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "the mean for every row": (lambda x: x * 0 + 0.2, "a relative error of"),
    "rows in another order": (lambda x: x.flip(0), "come back in another order"),
    "the sign flipped": (lambda x: -x, "a relative error of [23]"),
    "NaN for some inputs": (lambda x: torch.where(x > 1.0, torch.nan, x), "not finite"),
    "an overflow": (overflown, "not finite"),
    "classes off by one": (lambda x: x.roll(1, 1), "a relative error of"),
    "other weights": (other_weights, "a relative error of 0.0"),
    "integers": (lambda x: x.round().long(), "is int64, and eager's is float32"),
    "a column lost": (lambda x: x[:, :2], r"has shape \(64, 2\)"),
    "an axis more": (lambda x: x[:, None], r"has shape \(64, 1, 3\)"),
    "rounded to tenths": (lambda x: torch.round(x * 10) / 10, "a relative error of"),
    "centred over the batch": (lambda x: x - x.mean(0), "a relative error of"),
}
"""What a broken technique does to the outputs, and what its row must say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotaged:
    """A technique that builds another program than the module."""

    change: str
    sound: Sound = field(default_factory=lambda: Sound(module=Logits))


PROGRAMS = {f"a program with {name}": Sabotaged(change=name) for name in CHANGES}
# One output that is constant leaves the others to be judged.
PROGRAMS["a wrong output beside a constant one"] = Sabotaged(
    change="the sign flipped", sound=Sound(module=Constant, fields={"outputs": ["logits"]})
)
