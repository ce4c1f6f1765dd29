"""The comparison with stock TorchServe: what it makes of its figures."""

import json
import zipfile
from pathlib import Path

import pytest

from benchmarks.stock import TARGETS, Figures, archive, in_turn, make_eager_mar, outcomes


def test_every_figure_has_a_target_with_todays_bound():
    reached = {
        "throughput_vs_stock": 6.4,
        "p50_vs_stock": 3.5,
        "share_of_ceiling": 0.67,
        "server_overhead_ms": 2.3,
        "worker_memory_mb": 630.0,
        "minilm_throughput_vs_eager": 6.2,
    }
    assert set(reached) == set(TARGETS)
    found = outcomes(reached)
    missed = {name: outcome.target for name, outcome in found.items() if not outcome.met}
    assert missed == {"share_of_ceiling": ">= 0.8", "server_overhead_ms": "<= 1"}


def test_only_what_was_measured_has_an_outcome():
    assert list(outcomes({"minilm_throughput_vs_eager": 6.0})) == ["minilm_throughput_vs_eager"]


def test_figures_of_several_rounds_are_medians():
    figures = Figures()
    for value in (3.0, 1.0, 2.0):
        figures.add("rate", value)
    assert (figures.median("rate"), figures.largest("rate")) == (2.0, 3.0)
    with pytest.raises(KeyError):
        figures.median("never measured")


def test_each_server_gets_a_folder_of_its_own(tmp_path):
    def start(folder: Path) -> Path:
        assert folder.is_dir() and not list(folder.iterdir())
        return folder

    assert in_turn(tmp_path, "stock, a worker a core-0", start).name == "stock-a-worker-a-core-0"


def test_the_eager_handler_is_packed_as_torchserves_users_do(tmp_path):
    mar = make_eager_mar(tmp_path / "eager")
    with zipfile.ZipFile(mar) as packed:
        assert "eager_minilm.py" in packed.namelist()
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"]["modelName"] == "eager_minilm"


def test_an_archive_lies_in_a_store_of_its_own(tmp_path):
    (tmp_path / "handler.py").write_text("class Handler: ...")
    path = archive(tmp_path, model_name="m", handler=str(tmp_path / "handler.py"))
    assert path == tmp_path / "store" / "m.mar" and path.exists()
