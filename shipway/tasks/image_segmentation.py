"""Image segmentation: an image in, the class of each of its pixels out.

H, W = pixels of a photo, h, w = cells of the program's output, K = classes, B = rows.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from shipway.artifact.manifest import Manifest
from shipway.payloads.errors import ReplyTooLarge
from shipway.payloads.image_fit import places
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.recipe import ImagePreprocessing
from shipway.tasks import TASKS
from shipway.tasks.images import ImageTask, image_contents

UNSEEN = 255
"""In a mask: a pixel outside of the crop that the program has seen."""
MOST_RUNS = 1_000_000
"""Of a mask in JSON, which then has some 5 MB."""
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

    def _answer(self, logits_Khw: np.ndarray, width: int, height: int) -> "Segmented":
        mask = mask_of(logits_Khw, width, height, self._spec)
        labels = self._manifest.labels
        pixels_K = mask.pixels()[: len(labels)]
        found = np.flatnonzero(pixels_K)
        found = found[np.argsort(-pixels_K[found], kind="stable")]
        classes = [
            {
                "class_id": int(each),
                "label": labels[each],
                "share": float(pixels_K[each] / (width * height)),
            }
            for each in found
        ]
        return Segmented(mask, {"width": width, "height": height, "classes": classes})

    def as_json(self, answer: Any) -> Any:
        """With the mask as runs. Raises ReplyTooLarge if they are too many."""
        if not isinstance(answer, Segmented):
            return answer
        class_ids, lengths = answer.mask.runs()
        return answer | {"mask": {"class_ids": class_ids, "lengths": lengths}}

    def written_as(self, answer: Any, content_type: str) -> bytes:
        """The mask as a PNG with one channel, whose grey values are the classes."""
        del content_type  # there is one
        file = io.BytesIO()
        Image.fromarray(answer.mask.drawn()).save(file, "PNG")
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


@dataclass(frozen=True, slots=True)
class Mask:
    """The class of each pixel of a photo, by rectangles of pixels that lie in one cell of the
    program's output: there are few, however large the photo is."""

    cells_hw: np.ndarray
    """uint8; UNSEEN for those around what the program has seen."""
    heights_h: np.ndarray
    """In pixels, of each row of cells."""
    widths_w: np.ndarray
    """In pixels, of each column of cells."""

    def pixels(self) -> np.ndarray:
        """How many each class has, (256,)."""
        weights = np.multiply.outer(self.heights_h, self.widths_w).ravel()
        return np.bincount(self.cells_hw.ravel(), weights=weights, minlength=UNSEEN + 1)

    def drawn(self) -> np.ndarray:
        """uint8 (H, W)."""
        rows_hW = np.repeat(self.cells_hw, self.widths_w, axis=1)
        return np.repeat(rows_hW, self.heights_h, axis=0)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """The class and the length of each run of equal pixels, row by row. Raises
        ReplyTooLarge."""
        rows = [runs_of(row_w, self.widths_w) for row_w in self.cells_hw]
        most = sum(
            1 if len(ids) == 1 else len(ids) * int(height)
            for (ids, _), height in zip(rows, self.heights_h, strict=True)
        )
        if most > MOST_RUNS:
            raise ReplyTooLarge(
                f"The mask has {most:,} runs of equal pixels; in JSON at most {MOST_RUNS:,} are "
                f"sent. Ask for a picture: Accept: {PNG}."
            )
        ids, lengths = [], []
        for (row_ids, row_lengths), height in zip(rows, self.heights_h, strict=True):
            if len(row_ids) == 1:
                ids.append(row_ids)
                lengths.append(row_lengths * height)
            else:
                ids.append(np.tile(row_ids, height))
                lengths.append(np.tile(row_lengths, height))
        # A row may begin as the one before ends.
        return runs_of(np.concatenate(ids), np.concatenate(lengths))


class Segmented(dict[str, Any]):
    """An answer whose mask is written when it is known how."""

    def __init__(self, mask: Mask, said: Mapping[str, Any]) -> None:
        super().__init__(said)
        self.mask = mask


def mask_of(logits_Khw: np.ndarray, width: int, height: int, spec: ImagePreprocessing) -> Mask:
    """The most probable class at each pixel of an upright photo: that of the cell which lies there,
    UNSEEN where there is none."""
    classes_hw = logits_Khw.argmax(axis=0).astype(np.uint8)
    rows, columns = places(width, height, spec)
    row_h, heights_h = rows.runs(height, classes_hw.shape[0])
    column_w, widths_w = columns.runs(width, classes_hw.shape[1])
    cells_hw = classes_hw[row_h[:, None], column_w]
    cells_hw[row_h < 0] = UNSEEN
    cells_hw[:, column_w < 0] = UNSEEN
    return Mask(cells_hw, heights_h, widths_w)


def runs_of(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal values, from values and the length of each."""
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return values[starts], np.add.reduceat(lengths, starts)
