"""GPUs by index, UUID and MIG name, through a real TorchServe, which can read indexes alone."""

import pytest

from shipway.engines.errors import LaunchError
from shipway.engines.torchserve.devices import for_torchserve
from tests.servers import build_mar, running_server

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-a5b3c0d1-4f9e-5d8a-9d8e-0c1f2a3b4c5d"

TELLS = """
import os

class Tells:
    def initialize(self, context):
        self.told = {
            "gpu_id": context.system_properties["gpu_id"],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "named": os.environ.get("SHIPWAY_CUDA_VISIBLE_DEVICES"),
        }

    def handle(self, rows, context):
        return [[self.told] for _ in rows]
"""


@pytest.mark.parametrize("value", [None, "", "0", "0,1,5"])
def test_what_torchserve_can_read_stays_as_it_is(value):
    assert for_torchserve({} if value is None else {"CUDA_VISIBLE_DEVICES": value}) == {}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (UUID, UUID),
        (f"{MIG},{UUID}", f"{MIG},{UUID}"),
        ("2, 3", "2,3"),
        ("1,-1,0", "1"),
    ],
)
def test_names_are_counted_for_torchserve_and_kept_for_the_workers(value, names):
    assert for_torchserve({"CUDA_VISIBLE_DEVICES": value}) == {
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(names.count(",") + 1))),
        "SHIPWAY_CUDA_VISIBLE_DEVICES": names,
    }


@pytest.mark.parametrize("value", ["-1", "NoDevFiles", "none"])
def test_no_gpu_at_all_is_said_in_a_way_torchserve_can_read(value):
    assert for_torchserve({"CUDA_VISIBLE_DEVICES": value}) == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("value", ["gpu0", "0,cuda:1", f"{UUID};{MIG}", "0-3"])
def test_what_names_no_gpu_is_refused_with_what_to_write(value):
    with pytest.raises(
        LaunchError, match=r"is not a GPU of this host. Use indexes \(0,1\) or names from `n"
    ):
        for_torchserve({"CUDA_VISIBLE_DEVICES": value})


def test_a_refused_name_is_refused_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "gpu0")
    with pytest.raises(LaunchError, match="'gpu0' is not a GPU"), running_server(tmp_path):
        pass
    assert not (tmp_path / ".shipway").exists()


def test_a_server_given_names_gives_each_worker_a_place_among_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{UUID},{MIG}")
    mar = build_mar(tmp_path, "tells", "1.0", TELLS)
    with running_server(tmp_path, model_store=tmp_path) as running:
        running.management.register(
            mar.name, name="tells", version="1.0", batch_size=1, max_batch_delay_ms=0, workers=2
        )
        told = {}
        while len(told) < 2:
            [worker] = running.inference.predict("tells", b"x")
            told[worker["gpu_id"]] = worker
    assert told == {
        gpu_id: {"gpu_id": gpu_id, "visible": "0,1", "named": f"{UUID},{MIG}"} for gpu_id in (0, 1)
    }
