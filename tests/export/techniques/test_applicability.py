"""Which kinds of models a technique is for."""

import pytest
from torch import nn

from shipway.export.techniques.applicability import convolutional, linear


@pytest.mark.parametrize(
    ("module", "for_convolutions", "for_linear"),
    [
        (
            nn.ReLU(),
            "for convolutional models only; this model has 0 linear layers and no convolution",
            "for models with linear layers only; this model has none",
        ),
        (
            nn.Linear(1, 1),
            "for convolutional models only; this model has 1 linear layers and no convolution",
            None,
        ),
        (
            nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(1, 1)),
            None,
            "for models with linear layers only; this model has 1 convolutions",
        ),
        (nn.Conv3d(1, 1, 1), None, "for models with linear layers only; this model has none"),
    ],
)
def test_a_model_is_judged_by_its_layers(module, for_convolutions, for_linear):
    assert convolutional(module) == for_convolutions
    assert linear(module) == for_linear
