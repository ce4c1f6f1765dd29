import inspect

import pytest

from shipway.engines.errors import ServerError
from shipway.engines.ray import errors

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_of_ray_is_caught_as_one_of_an_engine(kind):
    assert issubclass(kind, errors.RayServeError) and issubclass(kind, ServerError)


def test_a_missing_ray_is_named_with_the_command_that_installs_it():
    told = str(errors.RayMissing(ImportError("No module named 'ray'")))
    assert told.startswith("""Deploying to Ray needs the extra "ray" (No module named 'ray'). """)
    assert "[ray]" in told
