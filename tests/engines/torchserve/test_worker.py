"""A worker's start: what it leaves out, and whom it leaves the cores to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipway.engines.torchserve import worker

ANSWER = """
import json, os, sys, time
import ts.protocol.otf_message_handler
imported = "torch._C" in sys.modules
import torch
time.sleep(0.5)  # the thread that imported it ends a moment after it was waited for
json.dump({
    "arguments": sys.argv[1:],
    "name": __name__,
    "imported": imported,
    "works": torch.zeros(2).tolist(),
    "policies": [os.sched_getscheduler(int(each)) for each in os.listdir("/proc/self/task")],
}, sys.stdout)
"""

IN_TIME_FOR_NOBODY = f"""
import os, sys
sys.path.insert(0, {str(Path(worker.__file__).parent)!r})
import worker
if worker.RESTARTED in os.environ:
    print("anew", os.sched_getscheduler(0))
else:
    worker.IDLE_IMPORT_WITHIN_S = 0.2
    worker.main()
"""


def unpacked(folder: Path, kind: str, runtime: str = "onnxruntime") -> Path:
    """As much of an archive as a start looks at."""
    programs = {"it": {"runtime": runtime}}
    manifest = {"preprocessing": {"kind": kind}, "chosen": "it", "programs": programs}
    (folder / "artifact").mkdir()
    (folder / "artifact" / "manifest.json").write_text(json.dumps(manifest))
    return folder


def started(archive: Path) -> dict:
    script = archive / "script.py"
    script.write_text(ANSWER)
    done = subprocess.run(
        [sys.executable, "-P", worker.__file__, script, "--sock-name", "x"],
        cwd=archive,
        env=os.environ | {"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_torch_waits_for_its_first_use_where_the_archive_needs_none(tmp_path):
    told = started(unpacked(tmp_path, "table"))
    assert not told["imported"]
    assert told["works"] == [0.0, 0.0]
    assert (told["arguments"], told["name"]) == (["--sock-name", "x"], "__main__")


def test_torch_comes_first_and_leaves_no_thread_behind_that_yields_to_others(tmp_path):
    archive = unpacked(tmp_path, "image")
    (archive / "torch.py").write_text("raise SystemExit('the archive ran unchecked')")
    told = started(archive)
    assert told["imported"]
    assert told["works"] == [0.0, 0.0]
    assert set(told["policies"]) == {os.SCHED_OTHER}


@pytest.mark.parametrize(
    ("kind", "runtime", "expected"),
    [
        ("image", "onnxruntime", True),
        ("text", "torch", True),
        ("text", "openvino", False),
    ],
)
def test_photos_and_programs_of_torch_are_what_torch_is_for(tmp_path, kind, runtime, expected):
    assert worker.will_use_torch(unpacked(tmp_path, kind, runtime)) is expected


def test_an_archive_that_tells_nothing_may_need_torch(tmp_path):
    assert worker.will_use_torch(tmp_path)


def test_a_start_that_never_gets_a_core_is_begun_anew_at_once(tmp_path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "torch.py").write_text("import time; time.sleep(60)")
    done = subprocess.run(
        [sys.executable, "-c", IN_TIME_FOR_NOBODY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(slow)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == f"anew {os.SCHED_OTHER}\n", done.stderr
