"""The gRPC stubs of TorchServe's APIs, made from the protos inside its jar.

TorchServe's wheel has neither the protos as files nor the stubs.
`python -m shipway.engines.torchserve.protos` makes
`server/generated/`; so does the first call of `load()` where that was not run.
"""

import importlib
import importlib.util
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from shipway.engines.errors import StubsError

GENERATED = Path(__file__).with_name("generated")
PROTOS = ("inference.proto", "management.proto")
PACKAGE_PATH = Path("shipway", "engines", "torchserve", "generated")
STAMP = "made-with.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stubs:
    """The generated modules: `*_pb2` has the messages, `*_pb2_grpc` the clients."""

    inference_pb2: ModuleType
    inference_pb2_grpc: ModuleType
    management_pb2: ModuleType
    management_pb2_grpc: ModuleType


def load() -> Stubs:
    """The stubs, made first if these versions of TorchServe and grpcio-tools have none yet."""
    generate()
    importlib.invalidate_caches()
    return Stubs(
        **{
            name: importlib.import_module(f"shipway.engines.torchserve.generated.{name}")
            for name in Stubs.__dataclass_fields__
        }
    )


def generate(destination: Path = GENERATED) -> bool:
    """Makes the stubs, whole or not at all. False if they were there already."""
    stamp = f"torchserve {version('torchserve')}, grpcio-tools {version('grpcio-tools')}\n"
    if _made_with(destination) == stamp:
        return False
    try:
        temporary = tempfile.TemporaryDirectory(dir=destination.parent, prefix=".generating-")
    except OSError as error:
        raise StubsError(
            f"The gRPC stubs are missing and {destination.parent} cannot be written to: {error}. "
            "Run `python -m shipway.engines.torchserve.protos` once as a user who may."
        ) from error
    with temporary as folder:
        made = _compile(Path(folder))
        (made / "__init__.py").touch()
        (made / STAMP).write_text(stamp)
        if destination.exists():  # of other versions, or half of one
            shutil.rmtree(destination)
        try:
            made.rename(destination)
        except OSError:
            # Somebody else was faster; theirs is as good as ours.
            if _made_with(destination) != stamp:
                raise
            return False
    return True


def _made_with(folder: Path) -> str | None:
    try:
        return (folder / STAMP).read_text()
    except OSError:
        return None


def _compile(folder: Path) -> Path:
    from grpc_tools import protoc

    # The place of a proto below the root decides how the stubs import each other, so it is given
    # the place of the package, and nothing has to be repaired.
    sources = folder / "protos" / PACKAGE_PATH
    sources.mkdir(parents=True)
    with zipfile.ZipFile(_jar()) as jar:
        for name in PROTOS:
            (sources / name).write_bytes(jar.read(f"proto/{name}"))
    results = folder / "python"
    results.mkdir()
    arguments = [
        "protoc",
        f"-I{folder / 'protos'}",
        f"-I{_package_folder('grpc_tools') / '_proto'}",  # google/protobuf
        f"-I{_package_folder('google.rpc').parents[1]}",  # google/rpc
        f"--python_out={results}",
        f"--grpc_python_out={results}",
        *(str(PACKAGE_PATH / name) for name in PROTOS),
    ]
    if protoc.main(arguments) != 0:
        raise StubsError(
            f"protoc refused the protos in {_jar()}; what it said stands above. "
            "Do the versions in requirements/ fit this environment? `make env` restores them."
        )
    return results / PACKAGE_PATH


def _jar() -> Path:
    return _package_folder("ts") / "frontend" / "model-server.jar"


def _package_folder(name: str) -> Path:
    """Where a package lives, without importing it: `ts` would bring torch along."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise StubsError(f"The package {name} is not installed: `make env`.")
    return Path(next(iter(found.submodule_search_locations)))


if __name__ == "__main__":
    made_now = generate()
    print(f"{GENERATED}: {'made' if made_now else 'there already'}")
