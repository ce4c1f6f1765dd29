"""Generates the gRPC stubs of TorchServe's APIs from the protos inside its jar.

    .venv/bin/python scripts/generate_stubs.py           writes shipway/engines/torchserve/generated
    .venv/bin/python scripts/generate_stubs.py FOLDER    writes the stubs there

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

PROTOS = ("inference.proto", "management.proto")
PACKAGE = Path("shipway", "engines", "torchserve", "generated")
GENERATED = Path(__file__).resolve().parent.parent / PACKAGE


def generate(destination: Path) -> None:
    """Writes the stubs of both APIs to `destination`, which is made if it does not exist."""
    with tempfile.TemporaryDirectory() as name:
        # The place of a proto below the root decides how the stubs import each other.
        sources = Path(name) / "protos"
        (sources / PACKAGE).mkdir(parents=True)
        with zipfile.ZipFile(_package_folder("ts") / "frontend" / "model-server.jar") as jar:
            for proto in PROTOS:
                (sources / PACKAGE / proto).write_bytes(jar.read(f"proto/{proto}"))
        results = Path(name) / "python"
        results.mkdir()
        arguments = [
            "protoc",
            f"-I{sources}",
            f"-I{_package_folder('grpc_tools') / '_proto'}",  # google/protobuf
            f"-I{_package_folder('google.rpc').parents[1]}",  # google/rpc
            f"--python_out={results}",
            f"--grpc_python_out={results}",
            *(str(PACKAGE / proto) for proto in PROTOS),
        ]
        if protoc.main(arguments) != 0:
            sys.exit("protoc refused the protos in TorchServe's jar. Its own message is above.")
        (results / PACKAGE / "__init__.py").touch()
        shutil.copytree(results / PACKAGE, destination, dirs_exist_ok=True)


def _package_folder(name: str) -> Path:
    """Where a package is installed, found without importing it: `ts` would import torch."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"The package {name} is not installed. Run `make env`.")
    return Path(next(iter(found.submodule_search_locations)))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if sys.argv[1:] else GENERATED)
