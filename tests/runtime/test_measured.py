from shipway.artifact.certificate import Candidate, Latency
from shipway.runtime.measured import measured_ms


def candidate(latency: dict[str, dict[int, float]]) -> Candidate:
    return Candidate(
        verdict="passed",
        passed=True,
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        latency={
            shape: {
                threads: Latency(median_ms=ms, low_ms=ms, high_ms=ms, runs=1)
                for threads, ms in by_threads.items()
            }
            for shape, by_threads in latency.items()
        },
    )


def test_latencies_come_from_the_number_of_threads_that_runs():
    measured = candidate({"1": {1: 3.0, 2: 2.0}, "4": {1: 9.0, 2: 5.0}})
    assert measured_ms(measured, 1) == {(1, 0): 3.0, (4, 0): 9.0}
    assert measured_ms(measured, 2) == {(1, 0): 2.0, (4, 0): 5.0}


def test_without_that_number_the_one_with_most_shapes_is_taken():
    measured = candidate({"1": {1: 3.0, 2: 2.0}, "4": {2: 5.0}})
    assert measured_ms(measured, 1) == {(1, 0): 2.0, (4, 0): 5.0}
    assert measured_ms(measured, 8) == {(1, 0): 2.0, (4, 0): 5.0}


def test_of_texts_the_largest_full_grid_is_taken_and_shapes_beside_it_are_left_out():
    shapes = {"1x8": 1.0, "1x64": 2.0, "4x8": 3.0, "4x64": 4.0, "2x17": 9.0}
    found = measured_ms(candidate({shape: {1: ms} for shape, ms in shapes.items()}), 1)
    assert found == {(1, 8): 1.0, (1, 64): 2.0, (4, 8): 3.0, (4, 64): 4.0}


def test_nothing_measured_is_no_cost():
    assert measured_ms(candidate({}), 1) == {}
