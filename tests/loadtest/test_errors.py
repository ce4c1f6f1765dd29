from shipway.errors import ShipwayError
from shipway.loadtest import errors
from shipway.loadtest.errors import BenchError, Interrupted
from shipway.loadtest.shapes.closed import ClosedLoop
from tests.loadtest.made import result_of


def test_every_error_is_one_of_the_packages_so_that_a_command_can_say_it():
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = [cls for cls in found if cls.__module__ == errors.__name__ and cls is not Interrupted]
    assert len(raised) > 4
    assert all(issubclass(cls, BenchError) and issubclass(cls, ShipwayError) for cls in raised)


def test_ctrl_c_keeps_what_was_measured():
    result = result_of(ClosedLoop(clients=1), [1.0])
    assert isinstance(Interrupted(result), KeyboardInterrupt)
    assert Interrupted(result).result is result
