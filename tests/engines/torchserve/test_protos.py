import subprocess
import sys

from shipway.engines.torchserve import protos


def test_the_stubs_are_made_once_and_then_left_alone(tmp_path):
    destination = tmp_path / "generated"
    assert protos.generate(destination)
    assert not protos.generate(destination)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generated"]


def test_stubs_of_other_versions_are_replaced_whole(tmp_path):
    destination = tmp_path / "generated"
    protos.generate(destination)
    (destination / protos.STAMP).write_text("torchserve 0.11.0, grpcio-tools 1.0\n")
    (destination / "left_over.py").touch()
    assert protos.generate(destination)
    assert not (destination / "left_over.py").exists()


def test_half_made_stubs_are_made_again(tmp_path):
    destination = tmp_path / "generated"
    destination.mkdir()
    (destination / "inference_pb2.py").touch()
    assert protos.generate(destination)
    assert (destination / "inference_pb2.py").stat().st_size > 0


def test_the_stubs_import_and_hold_torchserves_services():
    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(model_name="m", input={"body": b"x"})
    assert stubs.inference_pb2.PredictionsRequest.FromString(request.SerializeToString()) == request
    assert hasattr(stubs.inference_pb2_grpc, "InferenceAPIsServiceStub")
    assert hasattr(stubs.management_pb2_grpc, "ManagementAPIsServiceStub")


def test_making_stubs_imports_neither_torch_nor_torchserve(tmp_path):
    code = (
        "import pathlib, sys; from server import protos;"
        f"protos.generate(pathlib.Path({str(tmp_path)!r}) / 'generated');"
        "sys.exit(bool({'torch', 'ts'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
