"""What a worker finds out about the server that it is part of."""

import json
import subprocess
import sys
from pathlib import Path

from shipway.engines.torchserve.handler import ROOM_FOR_HEADERS, Handler, _has_steps, within
from shipway.serving.replies import Reply

WORKER = """
import sys
print("ready", flush=True)
sys.stdin.readline()
from shipway.engines.torchserve.handler import workers_here
print(workers_here(), flush=True)
sys.stdin.readline()
"""
SERVER = """
import subprocess, sys
worker, *folders = sys.argv[1:]
pipe = subprocess.PIPE
workers = [
    subprocess.Popen([sys.executable, worker], cwd=each, stdin=pipe, stdout=pipe, text=True)
    for each in folders
]
for each in workers:
    each.stdout.readline()
workers[0].stdin.write("\\n")
workers[0].stdin.flush()
print(workers[0].stdout.readline())
for each in workers:
    each.communicate("\\n")
"""


def unpacked(folder: Path, name: str, version: str) -> Path:
    manifest = folder / f"{name}-{version}" / "MAR-INF" / "MANIFEST.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"model": {"modelName": name, "modelVersion": version}}))
    return manifest.parent.parent


def test_versions_of_one_model_do_not_share_the_cores_and_models_do(tmp_path):
    worker = tmp_path / "model_service_worker.py"
    worker.write_text(WORKER)
    old, new, other = (
        unpacked(tmp_path, *each) for each in (("a", "1.0"), ("a", "2.0"), ("b", "1.0"))
    )

    def found(*folders: Path) -> int:
        command = [sys.executable, "-c", SERVER, worker, *folders]
        return int(subprocess.check_output(command, text=True))

    assert found(new) == 1
    assert found(new, old) == 1
    assert found(new, new, old) == 2
    assert found(new, old, other, other) == 3
    assert found(new, tmp_path) == 2  # a folder that tells nothing


def test_replies_that_are_too_large_together_are_refused_the_largest_first():
    replies = [Reply(b"x" * size) for size in (500, 100, 300)]
    room = 3 * ROOM_FOR_HEADERS
    assert [each.status for each in within(replies, room + 900)] == [200, 200, 200]
    found = within(replies, room + 899)
    assert [each.status for each in found] == [503, 200, 200]
    assert found[0].headers["Retry-After"] == "1" and b"Send it again" in found[0].body
    assert [each.status for each in within(replies, room)] == [503, 503, 503]


def test_only_a_handler_with_steps_of_its_own_has_its_requests_read_as_if_they_might_wait():
    class Before(Handler):
        def preprocess(self, request):
            return request

    class After(Handler):
        def postprocess(self, answer):
            return answer

    class Neither(Handler):
        task = "tensors"

    assert [_has_steps(each) for each in (Handler, Neither, Before, After)] == [
        *(False, False),
        *(True, True),
    ]
