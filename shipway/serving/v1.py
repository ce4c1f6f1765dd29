"""KServe's first protocol: a list of instances in, a list of predictions out.

kserve.github.io/website: "V1 Inference Protocol", which is TensorFlow Serving's row format.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shipway.payloads.errors import BadRequest
from shipway.payloads.request import Request, check_count, from_base64, json_type, parse_json
from shipway.tasks.base import Task

ACCEPTED = 'Send {"instances": [...]}, with binary data as {"b64": "<base64>"}.'


def instances_of(request: Request) -> Sequence[Any]:
    """The instances of a request. Raises BadRequest or TooManyRows."""
    value = parse_json(request.fields.get("body", b""), ACCEPTED)
    if not isinstance(value, Mapping) or not isinstance(value.get("instances"), list):
        found = json_type(value)
        if isinstance(value, Mapping):
            found = f"object with {', '.join(repr(key[:40]) for key in list(value)[:5])}"
        raise BadRequest(f"The request is a JSON {found}, without a list of instances. {ACCEPTED}")
    check_count(len(value["instances"]), "instances")
    instances: Sequence[Any] = value["instances"]
    return instances


def reader_of(task: Task) -> Callable[[Any], Any]:
    """What makes an item of an instance. It raises what the task's own parsing does."""

    def read(instance: Any) -> Any:
        if _holds_bytes(instance):
            return task.parse_bytes(_bytes_of(instance))
        if isinstance(instance, Mapping):
            instance = {
                name: _bytes_of(each) if _holds_bytes(each) else each
                for name, each in instance.items()
            }
        return task.parse_instance(instance)

    return read


def _holds_bytes(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"b64"}


def _bytes_of(value: Mapping[str, Any]) -> bytes:
    if not isinstance(value["b64"], str):
        raise BadRequest(f"The b64 is a JSON {json_type(value['b64'])}. {ACCEPTED}")
    return from_base64(value["b64"], ACCEPTED)
