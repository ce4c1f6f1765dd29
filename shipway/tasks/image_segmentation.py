"""Image segmentation: an image in, the class of each of its pixels out.

H, W = pixels of a photo, h, w = cells of the program's output, K = classes, B = rows.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from shipway.artifact.manifest import Manifest
from shipway.payloads.image_fit import places
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.recipe import ImagePreprocessing
from shipway.tasks import TASKS
from shipway.tasks.images import ImageTask, image_contents

UNSEEN = 255
"""In a mask: a pixel outside of the crop that the program has seen."""
PNG = "image/png"


@TASKS.register("image_segmentation")
class ImageSegmentation(ImageTask):
    """An image in, the class of each of its pixels out: a mask of the photo's own size."""

    output = "logits"
    segments = True
    notes_size = True
    other_types = (PNG,)

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The mask of each image by the lengths of its runs, from logits (B, K, h, w)."""
        return [
            self._answer(logits_Khw, **(note or {}))
            for logits_Khw, note in zip(outputs[0], notes, strict=True)
        ]

    def _answer(self, logits_Khw: np.ndarray, width: int, height: int) -> dict[str, Any]:
        mask_HW = mask_of(logits_Khw, width, height, self._spec)
        classes, lengths = runs_of(mask_HW)
        labels = self._manifest.labels
        pixels_K = np.bincount(classes, weights=lengths, minlength=UNSEEN + 1)[: len(labels)]
        found = np.flatnonzero(pixels_K)
        found = found[np.argsort(-pixels_K[found], kind="stable")]
        return {
            "width": width,
            "height": height,
            "classes": [
                {
                    "class_id": int(each),
                    "label": labels[each],
                    "share": float(pixels_K[each] / (width * height)),
                }
                for each in found
            ],
            "mask": {"class_ids": classes, "lengths": lengths},
        }

    def written_as(self, answer: Any, content_type: str) -> bytes:
        """The mask as a PNG with one channel, whose grey values are the classes."""
        del content_type  # there is one
        runs = answer["mask"]
        mask_HW = np.repeat(np.asarray(runs["class_ids"], np.uint8), runs["lengths"])
        file = io.BytesIO()
        Image.fromarray(mask_HW.reshape(answer["height"], answer["width"])).save(file, "PNG")
        return file.getvalue()

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """The image as a binary body, in a form or in JSON, or several; the mask of each."""
        whole: Schema = {"type": "integer", "minimum": 0}
        one_class = an_object(
            {
                "class_id": whole | {"maximum": len(manifest.labels) - 1},
                "label": {"type": "string"},
                "share": {"type": "number", "minimum": 0, "maximum": 1},
            }
        )
        ids: Schema = {"type": "array", "items": whole | {"maximum": UNSEEN}}
        lengths: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}}
        answer = an_object(
            {
                "width": whole,
                "height": whole,
                "classes": {"type": "array", "items": one_class},
                "mask": an_object({"class_ids": ids, "lengths": lengths}),
            }
        )
        return image_contents(), one_or_several(answer)


def mask_of(
    logits_Khw: np.ndarray, width: int, height: int, spec: ImagePreprocessing
) -> np.ndarray:
    """The most probable class at each pixel of an upright photo, uint8 (H, W): that of the cell
    which lies there. UNSEEN where there is none."""
    classes_hw = logits_Khw.argmax(axis=0).astype(np.uint8)
    rows, columns = places(width, height, spec)
    row_H = rows.seen_at(height, classes_hw.shape[0])
    column_W = columns.seen_at(width, classes_hw.shape[1])
    mask_HW = classes_hw[row_H[:, None], column_W]
    mask_HW[row_H < 0] = UNSEEN
    mask_HW[:, column_W < 0] = UNSEEN
    return mask_HW


def runs_of(mask_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class and the length of each run of equal pixels, row by row."""
    flat = mask_HW.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(starts, append=flat.size)
