"""Image classification: the bytes of an image in, the most probable classes out.

B = rows of one run, K = classes.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from handlers.errors import STATUS_OF, InternalError
from handlers.replies import encode, refuse, reply
from handlers.requests import image_bytes
from shipway.artifact.bundle import open_artifact
from shipway.artifact.manifest import ImagePreprocessing
from shipway.errors import ShipwayError
from shipway.runtime.host import available_cores, choose_program
from shipway.runtime.images import decode_image
from shipway.runtime.program import open_program

logger = logging.getLogger(__name__)

Prediction = dict[str, int | str | float]


class ImageClassifier:
    """What TorchServe calls: `initialize` once in each worker, `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Opens the artifact and runs every batch size once. Ready when it returns."""
        properties = context.system_properties
        artifact = open_artifact(Path(properties["model_dir"]) / "artifact")
        self.artifact, self.manifest = artifact, artifact.manifest
        self.program_name, self.fell_back_because = choose_program(self.manifest)
        if self.fell_back_because:
            logger.warning(
                "%s %s: running %s, since %s does not fit this host: %s",
                self.manifest.name,
                self.manifest.version,
                self.program_name,
                self.manifest.chosen,
                self.fell_back_because,
            )
        cores = available_cores()
        self.threads = min(self.manifest.serving.threads, cores)
        self.program = open_program(artifact, self.program_name, threads=self.threads)
        self.batch_size = min(int(properties["batch_size"] or 1), self.manifest.max_batch)
        spec = self.manifest.preprocessing
        assert isinstance(spec, ImagePreprocessing)  # as the archive was packed
        self.preprocessing = spec
        self._pixels_BHWC = np.zeros((self.batch_size, spec.height, spec.width, 3), np.uint8)
        self._decoders = ThreadPoolExecutor(cores, thread_name_prefix="decode")
        # No caller's request should be the one that waits for a first run of its size.
        for rows in range(1, self.batch_size + 1):
            self.program.run([self._pixels_BHWC[:rows]])

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One reply a row, in order: a JSON list of predictions, or a JSON error."""
        if context.get_request_header(0, "describe") == "True":
            return [encode(self.describe())] * len(rows)
        replies: list[bytes] = []
        for start in range(0, len(rows), self.batch_size):
            replies += self._handle_batch(rows[start : start + self.batch_size], context, start)
        return replies

    def _handle_batch(
        self, rows: Sequence[Mapping[str, Any]], context: Any, first: int
    ) -> list[bytes]:
        decoded = (
            self._decoders.map(self._decode, rows) if len(rows) > 1 else map(self._decode, rows)
        )
        replies: list[bytes] = [b""] * len(rows)
        good: list[int] = []
        for row, pixels in enumerate(decoded):
            if isinstance(pixels, ShipwayError):
                replies[row] = refuse(context, first + row, pixels)
            else:
                self._pixels_BHWC[len(good)] = pixels
                good.append(row)
        if good:
            (logits_BK,) = self.program.run([self._pixels_BHWC[: len(good)]])
            ranked = rank(logits_BK, self.manifest.labels, self.manifest.top_k)
            for row, predictions in zip(good, ranked, strict=True):
                replies[row] = reply(context, first + row, predictions)
        return replies

    def _decode(self, row: Mapping[str, Any]) -> np.ndarray | ShipwayError:
        try:
            return decode_image(image_bytes(row), self.preprocessing)
        except tuple(STATUS_OF) as error:
            return error
        except Exception:  # whatever one row provokes, its neighbours are answered
            logger.exception("decoding a row failed")
            return InternalError("The image could not be read for a reason unknown here.")

    def describe(self) -> dict[str, Any]:
        """What runs here; TorchServe shows it for `GET /models/NAME?customized=true`."""
        program = self.manifest.programs[self.program_name]
        return {
            "name": self.manifest.name,
            "version": self.manifest.version,
            "artifact": self.artifact.digest,
            "program": self.program_name,
            "precision": program.precision,
            "fell_back_because": self.fell_back_because,
            "threads": self.threads,
            "batch_size": self.batch_size,
        }


def rank(logits_BK: np.ndarray, labels: Sequence[str], top_k: int) -> list[list[Prediction]]:
    """For each row the `top_k` classes with their softmax probabilities, largest first."""
    shifted_BK = logits_BK.astype(np.float64) - logits_BK.max(axis=1, keepdims=True)
    weights_BK = np.exp(shifted_BK)
    probabilities_BK = weights_BK / weights_BK.sum(axis=1, keepdims=True)
    # Stable, so that equal probabilities come in the order of their classes.
    order_BK = np.argsort(-probabilities_BK, axis=1, kind="stable")[:, :top_k]
    return [
        [
            {
                "class_id": int(each),
                "label": labels[each],
                "probability": float(probabilities_K[each]),
            }
            for each in order_K
        ]
        for probabilities_K, order_K in zip(probabilities_BK, order_BK, strict=True)
    ]
