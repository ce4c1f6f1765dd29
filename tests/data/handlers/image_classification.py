"""Image classification with a step before the model and a step after it.

Clients of this service send the image in a form field `photo`, and expect whole percents.
"""

from dataclasses import replace
from typing import Any

from shipway.engines.torchserve.handler import Handler
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import Request


class PhotoHandler(Handler):
    """Takes the image from the field `photo`; answers with labels and percents."""

    task = "image_classification"

    def preprocess(self, request: Request) -> Request:
        """Moves `photo` to the field that the task reads."""
        if "photo" not in request.fields:
            raise BadRequest("The form has no field `photo`. Send the image in it.")
        return replace(request, fields={"image": request.fields["photo"]})

    def postprocess(self, answer: Any) -> Any:
        """`answer` is the list of classes for one image, the most probable first."""
        return [
            {"label": each["label"], "percent": round(100 * each["probability"])} for each in answer
        ]
