"""Inputs from photos: crops, and the generated images of a new recipe."""

import numpy as np
import pytest
from PIL import Image

from shipway.export.errors import BadInputs
from shipway.export.photos import crops, example_photos
from shipway.recipe import ImagePreprocessing, Recipe

RECIPE = Recipe(
    name="m",
    module=lambda: pytest.fail("no module is needed"),
    weights=lambda: None,
    preprocessing=ImagePreprocessing(
        height=32,
        width=48,
        crop_fraction=1.0,
        resample="bilinear",
        mean=(0, 0, 0),
        std=(1, 1, 1),
        source="a test",
    ),
    calibration=crops([], each=1, seed=0),
    evaluation=crops([], each=1, seed=0),
)


def test_crops_are_pixels_of_the_models_size_and_the_same_each_time():
    inputs = crops(example_photos(2), each=3, seed=5)
    (pixels_BHWC,) = inputs.load(RECIPE).arrays
    assert pixels_BHWC.shape == (6, 32, 48, 3)
    assert pixels_BHWC.dtype == np.uint8
    assert np.array_equal(pixels_BHWC, inputs.load(RECIPE).arrays[0])


def test_every_crop_is_another_one():
    (pixels_BHWC,) = crops(example_photos(2), each=4, seed=0).load(RECIPE).arrays
    assert len({row.tobytes() for row in pixels_BHWC}) == 8


def test_another_seed_gives_other_crops():
    one, other = (crops(example_photos(1), each=1, seed=seed).load(RECIPE) for seed in (0, 1))
    assert not np.array_equal(one.arrays[0], other.arrays[0])


def test_a_photo_may_be_a_file(tmp_path):
    photo = example_photos(1)[0]
    photo.save(tmp_path / "photo.png")
    from_file, from_memory = (
        crops([source], each=2, seed=0).load(RECIPE).arrays[0]
        for source in (tmp_path / "photo.png", photo)
    )
    assert np.array_equal(from_file, from_memory)


def test_the_certificate_will_say_whether_the_photos_are_real(tmp_path):
    assert crops(["a.png"], each=2, seed=0).description == "2 crops of each of 1 photos"
    generated = crops(example_photos(3), each=2, seed=0)
    assert generated.description == "2 crops of each of 3 generated images"


def test_example_photos_are_varied_and_the_same_each_time():
    photos = [np.asarray(photo) for photo in example_photos(4)]
    assert len({photo.tobytes() for photo in photos}) == 4
    assert all(photo.std() > 20 for photo in photos)
    again = example_photos(4)
    assert all(np.array_equal(one, other) for one, other in zip(photos, again, strict=True))
    assert isinstance(again[0], Image.Image)


def test_no_photos_at_all_are_refused():
    with pytest.raises(BadInputs, match="list of photos is empty"):
        crops([], each=1, seed=0).load(RECIPE)


def test_the_crops_of_one_photo_are_one_group():
    rows = crops(example_photos(3), each=2, seed=0).load(RECIPE)
    assert rows.groups.tolist() == [0, 0, 1, 1, 2, 2]


def test_augmented_crops_differ_a_little_and_say_so():
    plain, augmented = (
        crops(example_photos(1), each=1, seed=0, augment=augment) for augment in (False, True)
    )
    assert augmented.description == "1 augmented crops of each of 1 generated images"
    one, other = (each.load(RECIPE).arrays[0].astype(float) for each in (plain, augmented))
    assert 0 < np.abs(one - other).mean() < 20
    assert np.array_equal(other, augmented.load(RECIPE).arrays[0])
