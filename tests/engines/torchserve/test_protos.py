"""The committed stubs are those that the protos in TorchServe's jar give."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.version import Version

from shipway.engines.torchserve import protos

ROOT = Path(__file__).parents[3]
GENERATED = ROOT / "shipway/engines/torchserve/generated"
PACKAGES = ("shipway/engines/torchserve/generated", "shipway/serving/generated")


def test_the_committed_stubs_are_those_that_the_script_generates(tmp_path: Path) -> None:
    script = ROOT / "scripts/generate_stubs.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)

    for package, modules in zip(PACKAGES, (5, 2), strict=True):
        committed = {path.name: path.read_text() for path in (ROOT / package).glob("*.py")}
        again = {path.name: path.read_text() for path in (tmp_path / package).glob("*.py")}
        assert again == committed and len(committed) == modules


def test_the_stubs_import_and_hold_torchserves_services() -> None:
    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(model_name="m", input={"body": b"x"})
    assert stubs.inference_pb2.PredictionsRequest.FromString(request.SerializeToString()) == request
    assert hasattr(stubs.inference_pb2_grpc, "InferenceAPIsServiceStub")
    assert hasattr(stubs.management_pb2_grpc, "ManagementAPIsServiceStub")


def test_the_package_asks_for_versions_that_the_stubs_accept() -> None:
    """The stubs refuse to be imported with an older grpcio or protobuf than they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(line.split(">=") for line in project["dependencies"] if ">=" in line)
    for name in ("inference", "management"):
        service = (GENERATED / f"{name}_pb2_grpc.py").read_text()
        messages = (GENERATED / f"{name}_pb2.py").read_text()
        grpcio = re.search(r"GRPC_GENERATED_VERSION = '(.+)'", service)
        protobuf = re.search(r"# Protobuf Python Version: (.+)", messages)
        assert grpcio and protobuf
        assert Version(bounds["grpcio"]) >= Version(grpcio[1])
        assert Version(bounds["protobuf"]) >= Version(protobuf[1])


def test_loading_the_stubs_imports_neither_torch_nor_torchserve() -> None:
    code = (
        "import sys; from shipway.engines.torchserve import protos; protos.load();"
        "sys.exit(bool({'torch', 'ts'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
