"""Libraries: which of four libraries a passage documents, by a small network trained here."""

from export.training.libraries import (
    CHECKPOINT,
    LIBRARIES,
    PREPROCESSING,
    TOKENIZER,
    Libraries,
    split,
)
from export.training.loop import first
from shipway.recipe import Axis, Inputs, Recipe

recipe = Recipe(
    name="libraries",
    task="text_classification",
    module=Libraries,
    weights=lambda: CHECKPOINT,
    batch=Axis(name="batch", min=1, max=32),
    preprocessing=PREPROCESSING,
    labels=lambda: list(LIBRARIES),
    top_k=4,
    files=lambda: {"tokenizer.json": TOKENIZER},
    calibration=Inputs(
        description="256 of the passages trained on", load=lambda recipe: first(split().train, 256)
    ),
    evaluation=Inputs(
        description="the test passages, with their labels; no training saw them",
        load=lambda recipe: split().test,
    ),
)
