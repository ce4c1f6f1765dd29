"""Nothing leaves the machine: export, serving and a prediction without any network but loopback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PHOTOS, TINY_RECIPE
from tests.servers import REPOSITORY, SHIPWAY, write_config

# Of a network namespace of its own, in which loopback is all there is, and down at first
# (netdevice(7): SIOCSIFFLAGS, IFF_UP). Then the commands, one after the other.
WITHOUT_NETWORK = """
import fcntl, json, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError:
    pass
else:
    sys.exit("there is a way out")
for command in json.loads(sys.stdin.read()):
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"{command}: {done.returncode}")
"""


def can_unshare() -> bool:
    """Whether this user may make a network namespace."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "--net", "true"]).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a network namespace")
def test_export_serving_and_prediction_need_no_network_and_leave_nothing_at_home(tmp_path):
    config = write_config(tmp_path)
    home, artifacts, store = (tmp_path / name for name in ("home", "artifacts", "store"))
    home.mkdir()
    state = ["--state", str(tmp_path / ".shipway")]
    only = [word for name in ("onnx_fp32", "openvino_fp32") for word in ("--only", name)]
    serve = ["serve", "--background", "--config", str(config), "--model-store", str(store)]
    words: list[list[str]] = [
        ["export", str(TINY_RECIPE), "--out", str(artifacts), *only],
        ["package", str(artifacts / "tiny-1.0"), "--model-store", str(store)],
        [*serve, "--register", str(store / "tiny-1.0.mar"), *state],
        ["predict", "tiny", str(PHOTOS / "chelsea.png"), *state],
        ["predict", "tiny", str(PHOTOS / "chelsea.png"), "--grpc", *state],
        ["stop", *state],
    ]
    variables = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", WITHOUT_NETWORK],
        input=json.dumps([[*SHIPWAY, *each] for each in words]),
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | variables,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_in(home) == []


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
