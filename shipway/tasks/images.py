"""The half that tasks for images share: the bytes of an image, or of several, to pixels."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import torch

from shipway.errors import ShipwayError
from shipway.payloads.errors import BadImage, BadRequest, ImageTooLarge, InternalError, NotAnImage
from shipway.payloads.image_sizes import is_small
from shipway.payloads.images import check_together, decode_photo
from shipway.payloads.request import (
    BINARY,
    HEADER_LENGTH,
    JSON,
    Request,
    as_text,
    check_count,
    from_base64,
    input_of,
    json_type,
    looks_like_json,
    only_key,
    parse_json,
)
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.recipe import ImagePreprocessing
from shipway.runtime.host import available_cores
from shipway.runtime.model import Model
from shipway.tasks import demo_inputs
from shipway.tasks.base import Decoded, Example, Inputs, Task, preprocessing_of

logger = logging.getLogger(__name__)

FIELDS = ("body", "data", "image", "file")
"""The fields that may hold the image. TorchServe names a plain HTTP body `body`."""

IN_BASE64 = (b"/9j/", b"iVBORw0KGgo", b"UklGR", b"data:image/")
"""How JPEG, PNG and WebP begin in base64, and data URLs of images."""
ACCEPTED = (
    "Send an image file as the body, a multipart form with a field `image`, or JSON such as "
    '{"image": "<base64>"} or a list of base64 texts.'
)


class ImageTask(Task):
    """Reads images. Subclasses say what the outputs mean."""

    bytes_tensor = "image"
    notes_size: ClassVar[bool] = False
    """Whether `answers` needs to know the width and height of each upright image."""

    def __init__(self, model: Model) -> None:
        self._spec = preprocessing_of(model.manifest, ImagePreprocessing)
        self._manifest = model.manifest
        (self._staging_BHWC,) = model.staging
        self._decoders = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
        if not model.backend.uses_torch:
            # Then torch only resizes, for half a millisecond: a second thread would take a core
            # from another photo, or from another worker, to save a part of that.
            torch.set_num_threads(1)

    def is_light(self, request: Request) -> bool:
        """Whether the body is a small picture, or tensors."""
        body = request.fields.get("body")
        if not isinstance(body, bytes | bytearray):
            return False
        if HEADER_LENGTH in request.headers:
            return b'"BYTES"' not in body
        return is_small(body)

    def parse(self, request: Request) -> Inputs:
        """The bytes of one image, or of each in a JSON list. Raises BadRequest or TooManyRows."""
        return image_inputs(request)

    def parse_bytes(self, data: bytes) -> bytes:
        """An element is the bytes of one image, or in base64, since JSON cannot hold bytes."""
        if data.startswith(IN_BASE64):
            return from_base64(as_text(data), ACCEPTED)
        return data

    def check_items(self, items: Sequence[bytes]) -> None:
        """Counts the pixels of all images."""
        check_together(items)

    def decode(self, items: Sequence[bytes]) -> list[Decoded | ShipwayError]:
        """Decodes in threads, straight into the staging buffer as long as it has places."""
        places = range(len(items))
        run = self._decoders.map if len(items) > 1 else map
        return list(run(self._decode, items, places))

    def _decode(self, data: bytes, place: int) -> Decoded | ShipwayError:
        start = time.perf_counter()
        try:
            pixels_HWC, (width, height) = decode_photo(data, self._spec)
            row: int | tuple[np.ndarray] = (pixels_HWC,)
            if place < len(self._staging_BHWC):
                self._staging_BHWC[place] = pixels_HWC
                row = place
        except (BadImage, ImageTooLarge, NotAnImage) as error:
            return error
        except Exception:  # whatever one image causes, the others are answered
            logger.exception("decoding a row failed")
            return InternalError("The image could not be read. The server's log has the cause.")
        note = {"width": width, "height": height} if self.notes_size else None
        return Decoded(row, note, 1000 * (time.perf_counter() - start))

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Photos, if the packages that hold them are installed."""
        return demo_inputs.photos()


def image_contents() -> dict[str, Schema]:
    """The schema of a request by content type, for OpenAPI."""
    field = {"type": "string", "contentMediaType": "image/*"}
    images = one_or_several({"type": "string", "contentEncoding": "base64"})
    return {
        BINARY: {"type": "string", "format": "binary"},
        JSON: {"anyOf": [*images["anyOf"], an_object({"image": images})]},
        "multipart/form-data": an_object({"image": field | {"format": "binary"}}),
    }


def image_inputs(request: Request) -> Inputs:
    """The bytes of the images in a request. Raises BadRequest or TooManyRows."""
    # The content type is ignored: the image's first bytes are more reliable.
    value = input_of(request, FIELDS, ACCEPTED)
    if isinstance(value, bytes | bytearray):
        # gRPC carries no content type, and no image format starts as JSON does.
        if not looks_like_json(value):
            return Inputs([value])
        value = parse_json(value, ACCEPTED)
    if isinstance(value, Mapping):
        value = only_key(value, FIELDS, ACCEPTED)
    if isinstance(value, list):
        check_count(len(value), "images")
        return Inputs([_from_json(each) for each in value], many=True)
    return Inputs([_from_json(value)])


def _from_json(value: Any) -> bytes:
    if isinstance(value, bytes):  # which another protocol has decoded
        return value
    if not isinstance(value, str):
        raise BadRequest(f"The image is a JSON {json_type(value)}, not a string. {ACCEPTED}")
    return from_base64(value, ACCEPTED)
