"""What the exporter makes of what an engine says, without a server."""

from dataclasses import replace

from prometheus_client.core import Metric as Family

from shipway.engines.protocol import EngineMetrics
from shipway.engines.state import Addresses, ServerRecord
from shipway.releases.exporter import Cached, Restarts, ServerCollector
from tests.releases.test_apply import there

RECORD = ServerRecord(
    pid=1,
    launch="launch",
    addresses=Addresses(
        inference="", management="", metrics="", grpc_inference="", grpc_management="", exporter=""
    ),
    max_request_bytes=1,
    metrics_directory="",
    config="",
    model_store="",
    started="",
    engine="toy",
)


def samples(versions, metrics, recorded=()) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels, what is collected."""
    collector = ServerCollector(
        RECORD,
        Cached(lambda: versions, 60.0),
        Cached(lambda: metrics, 60.0),
        Restarts(),
        lambda: recorded,
    )
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_an_answer_is_asked_for_again_only_once_it_is_too_old():
    asked = iter(range(10))
    kept, renewed = Cached(lambda: next(asked), 60.0), Cached(lambda: next(asked), -1.0)
    assert [kept(), kept()] == [0, 0]
    assert [renewed(), renewed()] == [1, 2]


def test_a_worker_that_comes_back_under_another_process_id_is_a_restart():
    restarts = Restarts()
    [version] = there("1")
    for pid in (7, 7, 0, 8, 8, 9):  # 0: it is being started
        restarts.update([replace(version, worker_ids=("a",), worker_pids=(pid,))])
    assert restarts.of(version) == 2


def test_queues_and_versions_are_told_under_the_engines_name():
    [version] = there("1")
    waits = {("echo", "1"): (4.0, 2.0)}
    found = samples([replace(version, requests_waiting=3)], EngineMetrics(queue_waits=waits))
    assert found["shipway_source_up", "management"] == 1
    assert found["shipway_source_up", "toy"] == 1
    assert found["shipway_queue_depth", "echo", "1"] == 3
    assert found["shipway_queue_limit", "echo", "1"] == 100
    assert 2.0 in [value for (name, *_), value in found.items() if name.endswith("_sum")]
    assert 4.0 in [value for (name, *_), value in found.items() if name.endswith("_count")]


def stage(name: str, requests: float, seconds: float) -> Family:
    labels = {"model": "echo", "version": "1", "program": "p", "device": "cpu", "stage": name}
    family = Family("shipway_stage_seconds", "", "histogram")
    family.add_sample("shipway_stage_seconds_count", labels, requests)
    family.add_sample("shipway_stage_seconds_sum", labels, seconds)
    return family


def test_waits_in_workers_count_with_those_in_the_servers_own_queue():
    waits = {("echo", "1"): (4.0, 2.0), ("foreign", "default"): (1.0, 0.5)}
    families = [stage("queue", 10, 3), stage("decode", 10, 100), Family("other", "", "gauge")]
    for workers_queue, expected in ((True, (14.0, 5.0)), (False, (4.0, 2.0))):
        metrics = EngineMetrics(
            queue_waits=waits, workers_queue=workers_queue, responses={"5xx": 7.0}
        )
        found = samples(there("1"), metrics, families)
        count, total = (f"shipway_queue_mean_seconds_{each}" for each in ("count", "sum"))
        assert (found[count, "echo", "1"], found[total, "echo", "1"]) == expected
        assert (found[count, "foreign", "default"], found[total, "foreign", "default"]) == (1, 0.5)
        assert found["shipway_front_responses_total", "5xx"] == 7


def test_what_an_engine_does_not_say_is_left_out():
    [version] = there("1")
    found = samples([replace(version, requests_waiting=None)], EngineMetrics())
    assert ("shipway_queue_depth", "echo", "1") not in found
    assert ("shipway_queue_limit", "echo", "1") in found


def test_a_server_that_does_not_answer_is_down_and_has_no_versions():
    found = samples(None, None)
    assert found["shipway_source_up", "management"] == found["shipway_source_up", "toy"] == 0
    assert not [name for name, *_ in found if name == "shipway_queue_limit"]
