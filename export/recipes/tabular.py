"""Tabular: a tumour malignant or benign, by a small network that this repository trained."""

from export.training.loop import first
from export.training.tabular import CHECKPOINT, CLASSES, COLUMNS, Table, split
from shipway.recipe import Axis, Inputs, Recipe, TablePreprocessing

recipe = Recipe(
    name="tabular",
    task="tabular_classification",
    module=Table,
    weights=lambda: CHECKPOINT,
    batch=Axis(name="batch", min=1, max=32),
    preprocessing=TablePreprocessing(
        columns=COLUMNS,
        source="scikit-learn's load_breast_cancer; the scaling is in the checkpoint, taken by "
        "export/training/tabular.py from the rows trained on",
    ),
    labels=lambda: CLASSES,
    top_k=2,
    calibration=Inputs(
        description="256 of the 284 rows trained on",
        load=lambda recipe: first(split().train, 256),
    ),
    evaluation=Inputs(
        description="the 228 test rows, with their labels; no training saw them",
        load=lambda recipe: split().test,
    ),
)
