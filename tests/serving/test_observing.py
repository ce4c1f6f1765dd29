import json

from shipway.metrics.observed import AnsweredRequest
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.observing import served_program
from shipway.serving.service import Service

JSON = {"content-type": "application/json"}


class Kept(list):
    """An observer that keeps what it is told."""

    def observe(self, requests: list[AnsweredRequest]) -> None:
        self.extend(requests)


class Broken:
    """An observer that always fails."""

    def observe(self, requests: list[AnsweredRequest]) -> None:
        raise RuntimeError("no room")


def test_observers_get_the_program_as_plain_data(tiny_table):
    served = served_program(Model(tiny_table))
    manifest = tiny_table.manifest
    assert (served.name, served.version, served.program) == (
        manifest.name,
        manifest.version,
        manifest.chosen,
    )
    assert (served.device, served.is_fallback) == ("cpu", False)
    assert served.artifact == tiny_table.digest


def test_requests_of_one_run_share_its_batch_and_a_refused_one_has_none(tiny_table):
    kept = Kept()
    service = Service(Model(tiny_table), [kept])
    bodies = [[1, 2, 3, 4, 5], [1], [5, 4, 3, 2, 1]]
    service.answer([Request({"body": json.dumps(body).encode()}, JSON) for body in bodies])
    first, refused, second = kept
    [batch] = first.batches
    assert batch is second.batches[0] and batch.rows == 2
    assert (refused.batches, refused.status, refused.error) == ([], 400, "BadRequest")


def test_an_observer_that_fails_fails_no_request(tiny_table, caplog):
    kept = Kept()
    service = Service(Model(tiny_table), [Broken(), kept])
    [reply] = service.answer([Request({"body": b"[1, 2, 3, 4, 5]"}, JSON)])
    assert reply.status == 200
    assert len(kept) == 1 and "recording the metrics of a batch failed" in caplog.text
