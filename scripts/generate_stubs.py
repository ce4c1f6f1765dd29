"""Generates the gRPC stubs of TorchServe's APIs from the protos inside its jar.

    .venv/bin/python scripts/generate_stubs.py           writes those that are committed
    .venv/bin/python scripts/generate_stubs.py FOLDER    writes the same tree into a folder

TorchServe's wheel has neither the protos as files nor the stubs. The stubs are committed, so that
serving does not need grpcio-tools; run this again after an update of TorchServe or grpcio-tools.
"""

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
STUBS = {
    Path("shipway", "engines", "torchserve", "generated"): ("inference.proto", "management.proto"),
    # Workers answer these calls as HTTP requests, so they need the messages alone.
    Path("shipway", "serving", "generated"): ("open_inference_grpc.proto",),
}
"""Packages, and the protos whose stubs they hold."""
MESSAGES_ALONE = ("open_inference_grpc.proto",)


def generate(destination: Path) -> None:
    """Writes the packages of stubs below `destination`."""
    with tempfile.TemporaryDirectory() as name:
        # The place of a proto below the root decides how the stubs import each other.
        sources, results = Path(name) / "protos", Path(name) / "python"
        results.mkdir()
        with zipfile.ZipFile(_package_folder("ts") / "frontend" / "model-server.jar") as jar:
            for package, protos in STUBS.items():
                (sources / package).mkdir(parents=True)
                for proto in protos:
                    (sources / package / proto).write_bytes(jar.read(f"proto/{proto}"))
                    _generate(sources, results, package / proto)
        for package in STUBS:
            (results / package / "__init__.py").touch()
            shutil.copytree(results / package, destination / package, dirs_exist_ok=True)


def _generate(sources: Path, results: Path, proto: Path) -> None:
    arguments = [
        "protoc",
        f"-I{sources}",
        f"-I{_package_folder('grpc_tools') / '_proto'}",  # google/protobuf
        f"-I{_package_folder('google.rpc').parents[1]}",  # google/rpc
        f"--python_out={results}",
    ]
    if proto.name not in MESSAGES_ALONE:
        arguments.append(f"--grpc_python_out={results}")
    if protoc.main([*arguments, str(proto)]) != 0:
        sys.exit("protoc refused the protos in TorchServe's jar. Its own message is above.")


def _package_folder(name: str) -> Path:
    """Where a package is installed, found without importing it: `ts` would import torch."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"The package {name} is not installed. Run `make env`.")
    return Path(next(iter(found.submodule_search_locations)))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if sys.argv[1:] else ROOT)
