"""Load shapes: one file for each, with one class that owns its arrivals.

A shape decides when the requests of a load test are sent. Others than those here come from an
installed package, by an entry point in the group `shipway.loadtest.shapes`, or from a file that
`LoadTest.plugins` names.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from shipway.loadtest.shapes.base import LoadShape
from shipway.registry import Registry, UnknownName

SHAPES: Registry[type[LoadShape]] = Registry("load shape", __name__, apart=("base",), plugins=False)


def _read(value: object) -> object:
    """A mapping as JSON has it becomes the shape that its `kind` names."""
    if not isinstance(value, Mapping):
        return value
    try:
        return SHAPES.get(str(value.get("kind"))).model_validate(value)
    except UnknownName as error:
        raise ValueError(str(error)) from error


AnyShape = Annotated[SerializeAsAny[LoadShape], BeforeValidator(_read)]
"""A field that holds any registered shape, and keeps its own fields in JSON."""
