"""What makes a module's answers depend on chance, time or company is found before anything is
built."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from shipway.export.eager_checks import check_eager
from shipway.export.errors import BadInputs
from shipway.runtime.backends.torch_programs import EagerProgram

ROWS = (np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32),)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class Dropout(Base):
    def forward(self, x: Tensor) -> Tensor:
        return dropout(super().forward(x), 0.5)


class Counting(Base):
    """Its buffer grows with each call."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


class Remembering(Base):
    """What it keeps is no buffer."""

    last: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) + self.last
        self.last = y.mean().item()
        return y


class Squeezed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


class OfTheBatch(Base):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x.repeat(2, 1)))[: len(x)]


class Centred(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y - y.mean(dim=0)


class OneForAll(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean()


class Transposed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).T


class Classes(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(dim=1)


def check(module: nn.Module) -> None:
    torch.manual_seed(0)
    eager = EagerProgram(module.eval(), threads=1)
    check_eager(module, eager.run, ROWS, ["logits"])


@pytest.mark.parametrize("kind", [Base, Classes])
def test_a_module_that_depends_on_its_inputs_alone_is_accepted(kind):
    check(kind())
    check(kind().half().float())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Dropout, "the same for the same random seed"),
        (Counting, r"changes its own state in each call \(calls\)"),
        (Remembering, "keeps something from one call to the next"),
        (Squeezed, r"For one row the module's output logits has shape \(3,\)"),
        (OfTheBatch, "changes by .* with the other rows of its batch"),
        (Centred, "changes by .* with the other rows of its batch"),
        (OneForAll, r"has shape \(\). The first axis must be the batch"),
        (Transposed, r"For 4 rows the module's output logits has shape \(3, 4\)"),
    ],
)
def test_what_else_it_depends_on_is_named(kind, reason):
    with pytest.raises(BadInputs, match=reason):
        check(kind())
