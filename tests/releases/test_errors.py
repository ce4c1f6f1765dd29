import inspect

import pytest

from shipway.errors import ShipwayError
from shipway.releases import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", [each for each in CLASSES if each is not ShipwayError])
def test_one_class_catches_every_error_of_a_release(kind):
    assert kind.__module__ == errors.__name__
    with pytest.raises(errors.ReleaseError, match="echo 2.0 was not promoted"):
        raise kind("echo 2.0 was not promoted")


def test_a_lock_that_is_held_is_not_taken_for_a_damaged_file():
    assert not issubclass(errors.ChangeUnderWay, errors.ReleasesError)
