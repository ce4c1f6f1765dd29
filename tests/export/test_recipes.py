"""Every recipe is what its description says, before anything is exported."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from export.recipes._photos import CALIBRATION_PHOTOS, EVALUATION_PHOTOS, SCIKIT_IMAGE
from export.recipes.resnet50 import TRAINED
from export.training.digits import levels, served
from export.training.loop import evaluate
from shipway.export.checkpoint import load_checkpoint
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served
from shipway.export.texts import tokenized
from shipway.export.verify import share
from shipway.payloads.images import decode_image
from shipway.recipe import Axis, Recipe, Rows, TextPreprocessing

NAMES = ("minilm", "digits", "tabular", "libraries", "resnet50")


@pytest.fixture(scope="module", params=NAMES)
def recipe(request) -> Recipe:
    return find_recipe(request.param)[0]


@pytest.fixture(scope="module")
def loaded() -> dict[tuple[str, str], Rows]:
    return {}


@pytest.fixture
def rows(recipe, loaded):
    """The calibration and the evaluation rows, read once."""

    def load(kind: str) -> Rows:
        if (recipe.name, kind) not in loaded:
            loaded[recipe.name, kind] = getattr(recipe, kind).load(recipe)
        return loaded[recipe.name, kind]

    return load


@cache
def ready(name: str) -> nn.Module:
    """As it is served, with the recipe's own weights."""
    recipe, _ = find_recipe(name)
    module = recipe.module()
    if (path := recipe.weights()) is not None:
        load_checkpoint(module, Path(path), recipe.checkpoint)
    return as_served(module, recipe)


def embed(texts: list[str]) -> torch.Tensor:
    recipe, _ = find_recipe("minilm")
    with torch.inference_mode():
        return ready("minilm")(*map(torch.from_numpy, tokenized(texts, recipe)))


@pytest.mark.parametrize("kind", ["calibration", "evaluation"])
def test_inputs_are_as_the_recipe_declares_them(recipe, rows, kind):
    found = rows(kind)
    assert len(found.arrays) == len(recipe.inputs)
    for array, spec in zip(found.arrays, recipe.inputs, strict=True):
        assert (array.dtype, array.ndim, len(array)) == (spec.dtype, len(spec.shape), len(found))
        for size, axis in list(zip(array.shape, spec.shape, strict=True))[1:]:
            assert axis.min <= size <= axis.max if isinstance(axis, Axis) else size == axis
        assert np.isfinite(array).all()


def test_calibration_and_evaluation_share_no_row(recipe, rows):
    """Up to padding, which the longest text of each decides."""

    def contents(found: Rows) -> list[bytes]:
        first = found.arrays[0]
        if isinstance(recipe.preprocessing, TextPreprocessing):
            return [ids[mask == 1].tobytes() for ids, mask in zip(*found.arrays, strict=True)]
        return [row.tobytes() for row in first]

    calibration, evaluation = contents(rows("calibration")), contents(rows("evaluation"))
    assert not set(calibration) & set(evaluation)
    assert len(set(evaluation)) == len(evaluation)


def test_no_photo_is_used_twice_and_every_evaluation_photo_is_a_group():
    photos = (*CALIBRATION_PHOTOS, *EVALUATION_PHOTOS)
    assert len(set(photos)) == len(photos) == 20
    assert all(photo.is_file() for photo in photos)
    for name in ("efficientnet_lite0", "resnet50"):
        recipe, _ = find_recipe(name)
        groups = recipe.evaluation.load(recipe).groups
        assert len(set(groups.tolist())) == len(EVALUATION_PHOTOS)


def test_evaluation_inputs_have_targets_where_the_recipe_says_labels(recipe, rows):
    evaluation = rows("evaluation")
    if "labels" in recipe.evaluation.description:
        assert (evaluation.targets.dtype, len(evaluation.targets)) == (np.int64, len(evaluation))
        assert set(evaluation.targets) == set(range(len(recipe.labels())))
    else:
        assert evaluation.targets is None


def test_inputs_are_the_same_ones_each_time(recipe, rows):
    again = recipe.calibration.load(recipe)
    for array, other in zip(rows("calibration").arrays, again.arrays, strict=True):
        assert np.array_equal(array, other)


def test_the_module_gives_as_many_outputs_as_there_are_labels(recipe, rows):
    some = [torch.from_numpy(each[:2]) for each in rows("evaluation").arrays]
    with torch.inference_mode():
        outputs = ready(recipe.name)(*some)
    assert outputs.shape == (2, len(recipe.labels()) or 384)
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize(("name", "promised"), [("digits", 0.97), ("tabular", 0.95)])
def test_the_committed_weights_reach_their_accuracy_on_rows_that_training_never_saw(name, promised):
    recipe, _ = find_recipe(name)
    found, _ = evaluate(ready(recipe.name), recipe.evaluation.load(recipe))
    assert found.value >= promised, found


def test_passages_nobody_trained_on_are_told_apart_far_more_often_than_by_chance():
    rows = find_recipe("libraries")[0].evaluation.load(find_recipe("libraries")[0])
    with torch.inference_mode():
        logits_BK = ready("libraries")(*map(torch.from_numpy, rows.arrays)).numpy()
    assert share(logits_BK.argmax(1) == rows.targets).low > 0.6  # the largest class has 0.35


@pytest.mark.parametrize("enlarged", [3, 10, 40])
def test_digits_that_somebody_enlarged_are_read_as_well(enlarged):
    larger = served(levels().test, enlarged)
    assert evaluate(ready("digits"), larger)[0].value >= 0.97


def test_random_weights_are_the_same_ones_each_time_and_whatever_the_threads():
    recipe, _ = find_recipe("resnet50")
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            states.append(recipe.module().state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_random_weights_tell_photos_apart():
    recipe, _ = find_recipe("resnet50")
    pixels = torch.from_numpy(recipe.evaluation.load(recipe).arrays[0][::4])
    with torch.inference_mode():
        assert len(set(ready(recipe.name)(pixels).argmax(1).tolist())) > 1


def test_resnet50s_preprocessing_is_torchvisions():
    """Up to rounding, and to torchvision's resizing of the whole photo before it crops."""
    recipe, _ = find_recipe("resnet50")
    spec, source = recipe.preprocessing, TRAINED.transforms()
    path = SCIKIT_IMAGE / "coffee.png"
    pixels = decode_image(path.read_bytes(), spec).astype(np.float32)
    ours = (pixels - np.array(spec.mean)) / np.array(spec.std)
    theirs = source(Image.open(path)).permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).mean() < 0.03


def test_minilms_embeddings_are_those_of_sentence_transformers():
    """The library that the model was trained with, on sentences short, long and cut off."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    recipe, _ = find_recipe("minilm")
    texts = ["Ship it.", "The cat sat on the mat. " * 5, "A passage that goes on and on, " * 60]
    theirs = sentence_transformers.SentenceTransformer(
        str(recipe.weights().parent), device="cpu"
    ).encode(texts, convert_to_tensor=True)
    ours = embed(texts)
    assert float((ours - theirs).abs().max()) < 1e-5


def test_sentences_that_mean_the_same_lie_closer_than_others():
    a, same, other = embed(
        [
            "A ship leaves the harbour at dawn.",
            "The vessel sails out of port early in the morning.",
            "Quarterly tax returns are due on Friday.",
        ]
    )
    assert float(a @ same) > 0.5 > 0.2 > float(a @ other)


def test_padding_does_not_change_an_embedding():
    alone = embed(["Short."])
    beside = embed(["Short.", "Beside it a sentence of quite a few more words than it has."])
    assert torch.allclose(alone[0], beside[0], atol=1e-6)


def test_the_texts_are_of_many_lengths_up_to_the_longest_allowed():
    recipe, _ = find_recipe("minilm")
    for inputs in (recipe.calibration, recipe.evaluation):
        ids, mask = inputs.load(recipe).arrays
        lengths = mask.sum(1)
        assert lengths.max() == recipe.preprocessing.max_length == ids.shape[1]
        assert lengths.min() < 16
        assert len(set(lengths)) > 20
        assert (ids[mask == 0] == recipe.preprocessing.pad_id).all()
