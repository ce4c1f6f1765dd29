"""The archive on a TorchServe whose Python has never heard of this project."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handlers.archive import pack
from server.java import find_java
from tests.serving import free_ports

HOUSE_CATS = {281, 282, 285}


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory) -> Path:
    """An environment with this one's packages, but not with this project.

    Packages on a path that a .pth file adds can be imported, while the .pth files among them, the
    editable install of this project being one, are not read.
    """
    folder = tmp_path_factory.mktemp("foreign") / "venv"
    venv.create(folder, symlinks=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site,) = folder.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(ours + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def server(foreign_python, demo_artifact, tmp_path_factory) -> Iterator[str]:
    """TorchServe, started by its own command with its own defaults, tokens aside."""
    folder = tmp_path_factory.mktemp("stock")
    mar = pack(demo_artifact, folder / "store")
    ports = free_ports(5)
    config = folder / "stock.properties"
    config.write_text(
        "\n".join(
            [
                *(
                    f"{kind}_address=http://127.0.0.1:{port}"
                    for kind, port in zip(
                        ("inference", "management", "metrics"), ports[:3], strict=True
                    )
                ),
                f"grpc_inference_port={ports[3]}",
                f"grpc_management_port={ports[4]}",
                "disable_token_authorization=true",
                f"load_models={mar.name}",
                "default_workers_per_model=1",
            ]
        )
    )
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "JAVA_HOME": str(Path(find_java().executable).parent.parent),
        "TEMP": str(temporary),
        "TMPDIR": str(temporary),
    }
    command = [foreign_python, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
    with (folder / "out.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--model-store", mar.parent, "--ts-config", config],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{ports[0]}"
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None, (folder / "out.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "out.log").read_text()[-3000:]
            try:
                model = httpx.get(f"http://127.0.0.1:{ports[1]}/models/efficientnet_lite0").json()
                if model[0]["workers"][0]["status"] == "READY":
                    break
            except (httpx.HTTPError, LookupError, ValueError):
                pass
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_this_project_is_not_installed_there(foreign_python):
    for name in ("shipway", "handlers", "server", "export"):
        done = subprocess.run(
            [foreign_python, "-c", f"import {name}"], capture_output=True, cwd=foreign_python.parent
        )
        assert done.returncode != 0, name


def test_the_archive_serves_all_the_same(server, cat):
    found = httpx.post(f"{server}/predictions/efficientnet_lite0", content=cat.read_bytes())
    assert found.status_code == 200, found.text
    assert found.json()[0]["class_id"] in HOUSE_CATS


def test_json_that_such_a_server_decodes_itself_is_understood(server, cat):
    import base64

    body = json.dumps({"image": base64.b64encode(cat.read_bytes()).decode()})
    found = httpx.post(
        f"{server}/predictions/efficientnet_lite0",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert found.json()[0]["class_id"] in HOUSE_CATS
    broken = httpx.post(
        f"{server}/predictions/efficientnet_lite0",
        content=b'{"image": ',
        headers={"content-type": "application/json"},
    )
    assert broken.status_code == 400
    assert "does not parse" in broken.json()["message"]
