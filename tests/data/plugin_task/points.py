"""A task as a plugin: points as text in, the distance of each from the origin out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import Request, as_text, input_of
from shipway.payloads.schemas import Schema, an_object, several
from shipway.runtime.model import Model
from shipway.tasks import TASKS
from shipway.tasks.base import Decoded, Inputs, Task

ACCEPTED = 'Send points as text, such as "3 4; 0 1".'


@TASKS.register("points")
class Points(Task):
    """Points as text, "3 4; 0 1", to a distance for each."""

    output = "distance"
    bytes_tensor = "point"

    def __init__(self, model: Model) -> None:
        (self._input,) = model.manifest.inputs

    def parse(self, request: Request) -> Inputs:
        text = as_text(input_of(request, ("body", "points"), ACCEPTED))
        return Inputs([self._point(point) for point in text.split(";")], many=True)

    def parse_bytes(self, data: bytes) -> Any:
        return self._point(as_text(data))

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        return [Decoded((np.array(item, self._input.dtype),)) for item in items]

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        return [{"distance": float(distance)} for distance in outputs[0][:, 0]]

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        return {"text/plain": {"type": "string"}}, several(
            an_object({"distance": {"type": "number"}})
        )

    @staticmethod
    def _point(text: str) -> list[float]:
        try:
            x, y = map(float, text.split())
        except ValueError as error:
            raise BadRequest(f"{text[:40]!r} is not a point. {ACCEPTED}") from error
        return [x, y]
