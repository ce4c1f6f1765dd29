"""What makes a module's answers depend on chance, time or company is found before anything is
built."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipway.export.eager_checks import check_eager, telling_the_line
from shipway.export.errors import BadInputs
from shipway.runtime.backends.torch_programs import EagerProgram
from tests.sabotage.broken import (
    Centred,
    Classes,
    Counting,
    Dropout,
    OneForAll,
    Remembering,
    Squeezed,
    Transposed,
)
from tests.sabotage.sound import Base

ROWS = (np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32),)


class Sound(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class OfTheBatch(Base):
    """BatchNorm without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x.repeat(2, 1)))[: len(x)]


def check(module: nn.Module) -> None:
    torch.manual_seed(0)
    eager = EagerProgram(module.eval(), threads=1)
    check_eager(module, eager.run, ROWS, ["logits"])


@pytest.mark.parametrize("kind", [Sound, Classes])
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


def test_what_the_module_raises_is_told_with_its_own_line():
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)

    with (
        pytest.raises(BadInputs, match=r"RuntimeError: .*test_eager_checks\.py, line \d+"),
        telling_the_line(),
    ):
        Wrong()(torch.zeros(3, 4))
    with pytest.raises(BadInputs, match="as it is"), telling_the_line():
        raise BadInputs("as it is")
