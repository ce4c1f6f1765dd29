"""Masks in the photo's own pixels, compared with eager PyTorch and Pillow."""

import base64
import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from shipway.artifact.bundle import open_artifact
from shipway.export.errors import BadInputs
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.export.task_outputs import check_outputs
from shipway.payloads.errors import ReplyTooLarge
from shipway.payloads.image_fit import fitted_size, places
from shipway.payloads.images import decode_image
from shipway.payloads.request import Request
from shipway.recipe import ImagePreprocessing
from shipway.runtime.model import Model
from shipway.serving.openapi import describe
from shipway.serving.service import Service
from shipway.tasks.image_segmentation import (
    UNSEEN,
    ImageSegmentation,
    Mask,
    Segmented,
    mask_of,
)
from tests.conftest import PHOTOS, Silent
from tests.payloads.test_image_fit import spec, stored

FITS = ("crop", "squash", "letterbox")
SIZES = ((300, 200), (199, 301), (64, 64), (33, 400), (7, 5))
LABELS = ("sky", "ground", "water")

RECIPE = '''
import torch
from torch import nn

from shipway.export.photos import crops, example_photos
from shipway.recipe import Axis, ImagePreprocessing, Recipe

PHOTOS = example_photos(6)


class Net(nn.Module):
    """Scores of three classes in cells of four by four pixels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.Tanh(), nn.Conv2d(16, 3, 1))

    def forward(self, x):
        return {"out": self.layers(x), "aux": x.mean()}


def module():
    torch.manual_seed(5)
    return Net()


recipe = Recipe(
    name="segments",
    task="image_segmentation",
    module=module,
    weights=lambda: None,
    outputs=["out"],
    batch=Axis(name="batch", min=1, max=4),
    preprocessing=ImagePreprocessing(
        height=64, width=96, __FIT__, resample="bilinear",
        mean=(120.0,) * 3, std=(60.0,) * 3, source="a test",
    ),
    labels=lambda: ["sky", "ground", "water"],
    calibration=crops(PHOTOS[:3], each=8, seed=0),
    evaluation=crops(PHOTOS[3:], each=8, seed=1),
)
'''


@pytest.fixture(scope="module", params=FITS)
def exported(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's file, with its artifact beside it."""
    folder = tmp_path_factory.mktemp("segments")
    fit = "crop_fraction=0.8" if request.param == "crop" else f'fit="{request.param}"'
    (folder / "segments.py").write_text(RECIPE.replace("__FIT__", fit))
    export(str(folder / "segments.py"), Silent(), out=folder, only=("onnx_fp32",))
    return folder / "segments.py"


def eager_mask(module: nn.Module, data: bytes, spec: ImagePreprocessing) -> np.ndarray:
    """The plain way: upright first; the classes enlarged by Pillow, and put where they belong."""
    width, height = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size
    pixels = torch.from_numpy(decode_image(data, spec).copy())
    x: Tensor = (pixels.permute(2, 0, 1)[None] - 120.0) / 60.0
    with torch.inference_mode():
        classes_hw = module.eval()(x)["out"][0].argmax(0).numpy().astype(np.uint8)
    cells = Image.fromarray(classes_hw)
    whole = Image.new("L", (width, height), UNSEEN)
    if spec.fit == "crop":
        side = int(spec.crop_fraction * min(width, height))
        enlarged = cells.resize((side, side), Image.Resampling.NEAREST)
        whole.paste(enlarged, ((width - side + 1) // 2, (height - side + 1) // 2))
        return np.asarray(whole)
    size = fitted_size(width, height, spec)
    left, top = (spec.width - size.width) // 2, (spec.height - size.height) // 2
    box = (left / 4, top / 4, (left + size.width) / 4, (top + size.height) / 4)
    return np.asarray(cells.resize((width, height), Image.Resampling.NEAREST, box=box))


def test_a_mask_is_that_of_eager_in_the_photos_own_pixels(exported):
    recipe, _ = find_recipe(str(exported))
    artifact = open_artifact(exported.parent / "segments-1.0")
    service = Service(Model(artifact))
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    _, schema = ImageSegmentation.native_schema(artifact.manifest)
    for orientation in range(1, 9):
        for size in SIZES:
            data = stored(photo.resize(size), orientation)
            [reply] = service.answer([Request({"body": data})])
            assert reply.status == 200, reply.body
            answer = json.loads(reply.body)
            jsonschema.validate(answer, schema)
            mask = np.repeat(answer["mask"]["class_ids"], answer["mask"]["lengths"])
            mask_HW = mask.reshape(answer["height"], answer["width"])
            expected_HW = eager_mask(recipe.module(), data, recipe.preprocessing)
            assert mask_HW.shape == expected_HW.shape
            # Pillow adds steps up in float32, so a pixel between two cells may go to the other.
            assert (mask_HW != expected_HW).mean() < 0.02
            shares = {each["label"]: each["share"] for each in answer["classes"]}
            for place, label in enumerate(LABELS):
                assert shares.get(label, 0) == pytest.approx((mask_HW == place).mean())


def test_the_mask_is_a_png_where_the_client_prefers_one(exported):
    service = Service(Model(open_artifact(exported.parent / "segments-1.0")))
    data = (PHOTOS / "chelsea.png").read_bytes()
    asked = [Request({"body": data}, {"accept": each}) for each in ("image/png", "*/*")]
    picture, said = (service.answer([each])[0] for each in asked)
    assert picture.headers["content-type"] == "image/png"
    found = Image.open(io.BytesIO(picture.body))
    runs = json.loads(said.body)["mask"]
    assert found.mode == "L" and found.size == Image.open(io.BytesIO(data)).size
    assert np.array_equal(np.asarray(found).ravel(), np.repeat(runs["class_ids"], runs["lengths"]))
    [several] = service.answer(
        [Request({"body": b'["' + base64.b64encode(data) + b'"]'}, asked[0].headers)]
    )
    assert several.headers["content-type"] == "application/json"


def test_the_description_names_the_png(exported):
    manifest = open_artifact(exported.parent / "segments-1.0").manifest
    paths = describe(manifest, {})["paths"]
    contents = paths["/predictions/segments"]["post"]["responses"]["200"]["content"]
    assert set(contents) == {"application/json", "image/png"}
    infer = paths["/v2/models/segments/infer"]["post"]["responses"]["200"]["content"]
    assert set(infer) == {"application/json"}


def test_every_pixel_of_a_photo_lies_in_one_cell_or_in_none():
    for fit in FITS:
        crop = {"crop_fraction": 0.9} if fit == "crop" else {}
        asked = spec(fit=fit, height=32, width=32, **crop)
        for width, height in ((32, 32), (31, 64), (1000, 3), (1, 1), (3, 50_000)):
            if fit == "crop" and int(0.9 * min(width, height)) < 1:
                continue
            mask = mask_of(np.eye(8)[:, :, None].repeat(8, 2), width, height, asked)
            drawn_HW = mask.drawn()
            assert drawn_HW.shape == (height, width)
            rows, _ = places(width, height, asked)
            seen = drawn_HW[drawn_HW != UNSEEN]
            assert seen.size and seen.max() < 8 and rows.inner <= 32
            class_ids, lengths = mask.runs()
            assert np.array_equal(np.repeat(class_ids, lengths).reshape(drawn_HW.shape), drawn_HW)
            assert (class_ids[1:] != class_ids[:-1]).all()
            assert np.array_equal(mask.pixels(), np.bincount(drawn_HW.ravel(), minlength=256))


def test_the_largest_photos_take_little_time_and_memory():
    logits_Khw = np.eye(2)[np.indices((64, 64)).sum(0) % 2].transpose(2, 0, 1)  # a chessboard
    asked = spec(fit="squash", height=64, width=64)
    tracemalloc.start()
    for width, height in ((1, 25_000_000), (25_000_000, 1)):
        mask_of(logits_Khw, width, height, asked).runs()
    with pytest.raises(ReplyTooLarge, match=r"at most 1,000,000 .*Accept: image/png"):
        mask_of(logits_Khw, 5_000, 50_000, asked).runs()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_mask_that_is_too_fine_for_json_is_told_so_and_sent_as_a_picture(exported):
    service = Service(Model(open_artifact(exported.parent / "segments-1.0")))
    service._task = Fine(service.model)
    data = (PHOTOS / "chelsea.png").read_bytes()
    replies = [
        service.answer([Request({"body": data}, {"accept": each})])[0]
        for each in ("application/json", "image/png")
    ]
    assert [each.status for each in replies] == [413, 200]
    assert b"Accept: image/png" in replies[0].body


class Fine(ImageSegmentation):
    """A task whose masks have a class of its own for each of many cells."""

    def answers(self, outputs, notes):
        """A chessboard of 1,100 by 1,000 pixels."""
        cells = (np.indices((1000, 1100)).sum(0) % 2).astype(np.uint8)
        mask = Mask(cells, np.ones(1000, int), np.ones(1100, int))
        return [Segmented(mask, {"width": 1100, "height": 1000, "classes": []}) for _ in notes]


@pytest.mark.parametrize(
    ("shape", "labels", "says"),
    [
        ((4, 3), LABELS, "returns 3 numbers a row, and the recipe has 3 labels"),
        ((4, 2, 8, 8), LABELS, "returns 2 × 8 × 8 numbers a row"),
        ((4, 1, 8, 8), LABELS[:2], r"return two: cat\(\[-x, x\], 1\)"),
        ((4, 300, 8, 8), tuple(map(str, range(300))), "300 labels; a mask has at most 255"),
    ],
)
def test_outputs_that_are_no_logits_of_places_are_refused(tiny_table, shape, labels, says):
    recipe, _ = find_recipe(str(Path(__file__).parents[1] / "data" / "tiny_table_recipe.py"))
    recipe = replace(recipe, task="image_segmentation")
    with pytest.raises(BadInputs, match=says):
        check_outputs(recipe, labels, {"out": np.zeros(shape, np.float32)})
