"""Digits: scikit-learn's handwritten digits by a small network that this repository trained.

It reads light ink on dark, as that data set has it, in images of any size.
"""

from sklearn.datasets import load_digits

from export.training.digits import CHECKPOINT, PREPROCESSING, Digits, split
from export.training.loop import first
from shipway.recipe import Axis, Inputs, Recipe

recipe = Recipe(
    name="digits",
    task="image_classification",
    module=Digits,
    weights=lambda: CHECKPOINT,
    batch=Axis(name="batch", min=1, max=32),
    preprocessing=PREPROCESSING,
    labels=lambda: [str(digit) for digit in load_digits().target_names],
    top_k=3,
    calibration=Inputs(
        description="256 of the 1,077 digits trained on",
        load=lambda recipe: first(split().train, 256),
    ),
    evaluation=Inputs(
        description="the 540 test digits, with their labels; no training saw them",
        load=lambda recipe: split().test,
    ),
)
