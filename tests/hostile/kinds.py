"""Requests that cost as much as they can, within every limit or over one: one of each kind."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from shipway.engines.torchserve import protos
from shipway.payloads.request import BINARY, FORMS, HEADER_LENGTH, JSON
from tests.fuzz import minimal
from tests.hostile import bombs
from tests.hostile.bombs import FIELDS, IMAGES, SCRIPTS, VALUES, Made

TENSORS, TABLE, TEXTS = "tensors", "tabular_classification", "text_embedding"
"""The models of `minimal`."""
GRPC_OIP = "/inference.GRPCInferenceService/ModelInfer"
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
MEGABYTE = 1_000_000
HEADER_BYTES = 200
IN_V2 = {HEADER_LENGTH: str(HEADER_BYTES), "content-type": BINARY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A request, made when it is needed."""

    name: str
    model: str
    """Whose worker gets it, and whose small requests must not wait for it."""
    body: Made
    path: str = ""
    """By default that of TorchServe's form; over gRPC, the call."""
    headers: dict[str, str] = field(default_factory=dict)
    over: Literal["http", "grpc"] = "http"
    times: int = 1
    """How often it is sent at the same time."""
    before: str = ""
    """What the issue says of it that this program belongs to, or nothing."""


def kinds(images: str, texts: str) -> list[Kind]:
    """All of them, for the models of these names and for those of `minimal`."""
    return [
        *_of_images(images),
        *_of_texts(texts),
        *_of_json(),
        *_of_tables(),
        *_of_http(images),
        *_of_grpc(images, texts),
    ]


def _of_images(model: str) -> Iterator[Kind]:
    before = {
        "WebP, 49 megapixels, lossless": "958 MB",
        "PNG, 25 megapixels, 16 bits": "809 MB for 113 KB",
        "PNG, 25 megapixels, 1 bit": "421 MB for 6 KB",
        "JPEG, 60,000 scans": "a minute",
    }
    for name, made in IMAGES.items():
        yield Kind(name=name, model=model, body=made, before=before.get(name, ""))
    path = f"/v2/models/{model}/infer"
    several: dict[str, tuple[str, int, str]] = {
        "4 PNGs of 25 megapixels": ("PNG, 25 megapixels, flat", 4, ""),
        "5 PNGs of 25 megapixels": ("PNG, 25 megapixels, flat", 5, ""),
        "2 JPEGs of 50 megapixels": ("JPEG, 50 megapixels", 2, ""),
        "5 WebPs of 20 megapixels": ("WebP, 20 megapixels, lossless", 5, ""),
        "160 WebPs of 49 megapixels": ("WebP, 49 megapixels, lossless", 160, "killed at 60 s"),
        "1,024 PNGs of 1 × 10,000": ("PNG, 1 × 10,000", 1_024, ""),
        "1,025 PNGs of 1 × 10,000": ("PNG, 1 × 10,000", 1_025, ""),
    }
    for name, (of, count, was) in several.items():
        yield Kind(
            name=f"{name}, v2",
            model=model,
            path=path,
            body=partial(_images_v2, of, count),
            headers=IN_V2,
            before=was,
        )
        yield Kind(
            name=f"{name}, JSON",
            model=model,
            body=partial(_images_json, of, count),
            headers={"content-type": JSON},
        )
    forms = {
        "a form of 100,000 fields": lambda: (
            b"".join(
                b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n
                for n in range(100_000)
            )
            + b"--b--\r\n"
        ),
        "a form without an end": lambda: b"--b\r\nContent-Disposition: form-data" * 100_000,
        "a form's header of 4 MB": lambda: (
            b"--b\r\nContent-Disposition: form-data; name="
            + b"x" * (4 * MEGABYTE)
            + b"\r\n\r\nx\r\n--b--\r\n"
        ),
    }
    for name, made in forms.items():
        kind = f"{FORMS[0]}; boundary=b"
        yield Kind(name=name, model=model, body=made, headers={"content-type": kind})


def _images_v2(of: str, count: int) -> bytes:
    return _bytes_v2("image", [IMAGES[of]()] * count)


def _images_json(of: str, count: int) -> bytes:
    return json.dumps({"image": [bombs.in_base64(IMAGES[of]())] * count}).encode()


def _bytes_v2(name: str, elements: list[bytes]) -> bytes:
    tail = bombs.bytes_tensor(elements)
    return _v2({"name": name, "datatype": "BYTES", "shape": [len(elements)]}, tail)


def _v2(tensor: dict[str, object], tail: bytes) -> bytes:
    """A request whose header has HEADER_BYTES."""
    size = {"parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [tensor | size]}).encode()
    return head.ljust(HEADER_BYTES) + tail


def _of_texts(model: str) -> Iterator[Kind]:
    plain, many = {"content-type": "text/plain"}, {"content-type": JSON}

    def list_of(script: str, characters: int, count: int) -> Callable[[], bytes]:
        return lambda: json.dumps([bombs.text(script, characters)] * count).encode()

    for script in SCRIPTS:
        yield Kind(
            name=f"a text of 1,000,000 characters: {script}",
            model=model,
            body=partial(_text, script, MEGABYTE),
            headers=plain,
        )
        yield Kind(
            name=f"100 texts of 4,000 characters: {script}",
            model=model,
            body=list_of(script, 4_000, 100),
            headers=many,
        )
    yield Kind(
        name="1,024 texts of 300 words",
        model=model,
        body=list_of("Latin", 1_600, 1_024),
        headers=many,
        before="43 s",
    )
    yield Kind(
        name="1,024 texts of 16 KB",
        model=model,
        body=list_of("Latin", 16_000, 1_024),
        headers=many,
        before="2.7 GB",
    )
    yield Kind(
        name="1,024 texts of one to 1,024 words",
        model=model,
        body=lambda: json.dumps(["ship " * n for n in range(1, 1_025)]).encode(),
        headers=many,
    )
    yield Kind(name="1,025 texts", model=model, body=list_of("Latin", 9, 1_025), headers=many)
    yield Kind(
        name="a text of 1,000,001 characters",
        model=model,
        body=lambda: bombs.text("Latin", MEGABYTE + 1).encode(),
        headers=plain,
    )
    yield Kind(
        name="a text that is no UTF-8",
        model=model,
        body=lambda: random.Random(0).randbytes(4 * MEGABYTE),
        headers=plain,
    )


def _text(script: str, characters: int) -> bytes:
    return bombs.text(script, characters).encode()


def _with_value(field: str, value: Callable[[], str]) -> bytes:
    return bombs.v2_with(field, value())


def _object(key: str, value: Callable[[], str]) -> bytes:
    return f'{{"{key}": {value()}}}'.encode()


def _of_json() -> Iterator[Kind]:
    path, headers = f"/v2/models/{TENSORS}/infer", {"content-type": JSON}
    before = {
        ("shape", "1,000,000 numbers"): "22 s at 1.6 MB",
        ("data", "300,000 strings, one long"): "1.2 GB",
        ("id", "1,000 deep"): "500",
        ("name", "1,000 deep"): "500",
        ("datatype", "1,000 deep"): "500",
    }
    for name in FIELDS:
        for what, made in VALUES.items():
            yield Kind(
                name=f"v2 {name}: {what}",
                model=TENSORS,
                path=path,
                body=partial(_with_value, name, made),
                headers=headers,
                before=before.get((name, what), ""),
            )
    for what, made in VALUES.items():
        yield Kind(
            name=f"x: {what}",
            model=TENSORS,
            body=partial(_object, "x", made),
            headers=headers,
        )
        yield Kind(
            name=f"v1 instances: {what}",
            model=TENSORS,
            path=f"/v1/models/{TENSORS}:predict",
            body=partial(_object, "instances", made),
            headers=headers,
        )
    rows = b'{"x": [' + b"[1,2,3]," * 1_023 + b"[1,2,3]]}"
    yield Kind(name="1,024 rows", model=TENSORS, body=lambda: rows, headers=headers)
    yield Kind(
        name="1,024 rows, other totals",
        model=TENSORS,
        body=lambda: b'{"x": [' + b"[1,2]," * 699 + b"[1,2]]}",
        headers=headers,
        times=64,
    )


def _of_tables() -> Iterator[Kind]:
    headers = {"content-type": JSON}
    row = dict(zip(minimal.COLUMNS, (0.0, 9.0, 1.0), strict=True))
    bodies: dict[str, Made] = {
        "1,024 rows by name": lambda: json.dumps([row] * 1_024).encode(),
        "1,025 rows by name": lambda: json.dumps([row] * 1_025).encode(),
        "100,000 columns": lambda: json.dumps({f"c{n}": 1 for n in range(100_000)}).encode(),
        "pandas' split form, 300,000 rows": lambda: json.dumps(
            {"columns": list(minimal.COLUMNS), "data": [[0, 9, 1]] * 300_000}
        ).encode(),
        "pandas' split form, 300,000 columns": lambda: json.dumps(
            {"columns": [str(n) for n in range(300_000)], "data": [[1] * 300_000]}
        ).encode(),
        "a row of 2,000,000 numbers": lambda: json.dumps([1] * 2_000_000).encode(),
        "digits of a fraction, 4 MB": lambda: b"[0." + b"1" * (4 * MEGABYTE) + b", 2, 3]",
    }
    for name, made in bodies.items():
        yield Kind(name=name, model=TABLE, body=made, headers=headers)


def _of_http(images: str) -> Iterator[Kind]:
    small = lambda: b'{"x": [[1, 2, 3]]}'  # noqa: E731 — one of several
    headers: dict[str, dict[str, str]] = {
        "X-Request-Start: t=1": {"x-request-start": "t=1"},
        "Accept of 8,000 types": {"accept": ",".join(["a/b;q=0.1"] * 8_000)[:50_000]},
        "a content type of 50 KB": {"content-type": "application/" + "x" * 50_000},
        "an id of 50 KB": {"x-request-id": "x" * 50_000},
        "a trace of 50 KB": {"traceparent": "0" * 50_000},
        "describe: True": {"describe": "True"},
        "a header length of 10^18": {HEADER_LENGTH: "9" * 18},
    }
    for name, more in headers.items():
        yield Kind(name=name, model=TENSORS, body=small, headers={"content-type": JSON} | more)
    for size, what in ((19 * MEGABYTE, "19 MB"), (400 * MEGABYTE, "400 MB")):
        for encoding, _ in bombs.deflated(0):
            yield Kind(
                name=f"{what} of spaces by {encoding}",
                model=TENSORS,
                body=partial(_deflated, size, encoding),
                headers={"content-type": JSON, "content-encoding": encoding},
            )
    for what, shape in (("10^18 rows", b"10**18, 3"), ("1,000 axes", b"1," * 1_000)):
        yield Kind(
            name=f".npy of {what}",
            model=TENSORS,
            body=partial(_npy, shape),
            headers={"content-type": "application/x-npy"},
        )
    yield Kind(
        name="90 bodies of 19.9 MB at once",
        model=images,
        body=lambda: bytes(19_900_000),
        times=90,
        before="49 never answered",
    )
    yield Kind(
        name="a binary answer's input of 19.2 MB, answered as JSON",
        model=TENSORS,
        path=f"/v2/models/{TENSORS}/infer",
        body=lambda: _v2(
            {"name": "x", "datatype": "FP32", "shape": [1_600_000, 3]}, bytes(19_200_000)
        ),
        headers=IN_V2,
        before="worker died",
    )
    for path in (f"/explanations/{TENSORS}", f"/v1/models/{TENSORS}:explain"):
        yield Kind(name=path, model=TENSORS, path=path, body=small, before="200, a prediction")


def _deflated(size: int, encoding: str) -> bytes:
    return dict(bombs.deflated(size))[encoding]


def _npy(shape: bytes) -> bytes:
    """An array whose header says this shape, and that has three numbers."""
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % shape
    head = head.ljust(127 - 10 + len(shape)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(12)


def _of_grpc(images: str, texts: str) -> Iterator[Kind]:
    stubs = protos.load()

    def infer(model: str, name: str, elements: list[bytes]) -> bytes:
        message = _bytes_field(1, model.encode())
        shape = _packed([len(elements)])
        tensor = _bytes_field(1, name.encode()) + _bytes_field(2, b"BYTES")
        tensor += _bytes_field(3, shape)
        tail = bombs.bytes_tensor(elements)
        return message + _bytes_field(5, tensor) + _bytes_field(7, tail)

    def predictions(model: str, body: bytes) -> bytes:
        request = stubs.inference_pb2.PredictionsRequest(model_name=model, input={"body": body})
        return bytes(request.SerializeToString())

    refused = _bytes_field(1, TENSORS.encode()) + _bytes_field(5, b"")
    calls: dict[str, tuple[str, str, Made]] = {
        "ModelInfer that is refused": (TENSORS, GRPC_OIP, lambda: refused),
        "ModelInfer, a shape of 1,000,000 numbers": (
            TENSORS,
            GRPC_OIP,
            lambda: (
                _bytes_field(1, TENSORS.encode())
                + _bytes_field(
                    5,
                    _bytes_field(1, b"x")
                    + _bytes_field(2, b"FP32")
                    + _bytes_field(3, _packed([2] * MEGABYTE)),
                )
            ),
        ),
        "ModelInfer, 1,000,000 empty tensors": (
            TENSORS,
            GRPC_OIP,
            lambda: _bytes_field(1, TENSORS.encode()) + _bytes_field(5, b"") * MEGABYTE,
        ),
        "ModelInfer, 160 WebPs of 49 megapixels": (
            images,
            GRPC_OIP,
            lambda: infer(images, "image", [IMAGES["WebP, 49 megapixels, lossless"]()] * 160),
        ),
        "ModelInfer, 4 PNGs of 25 megapixels": (
            images,
            GRPC_OIP,
            lambda: infer(images, "image", [IMAGES["PNG, 25 megapixels, flat"]()] * 4),
        ),
        "ModelInfer, 1,024 texts of 300 words": (
            texts,
            GRPC_OIP,
            lambda: infer(texts, "text", [bombs.text("Latin", 1_600).encode()] * 1_024),
        ),
        "Predictions, 19 MB of zeros": (
            images,
            PREDICTIONS,
            lambda: predictions(images, IMAGES["19 MB of zeros"]()),
        ),
        "Predictions, 100,000 deep": (
            TENSORS,
            PREDICTIONS,
            lambda: predictions(TENSORS, b'{"x": ' + VALUES["100,000 deep"]().encode() + b"}"),
        ),
        "StreamPredictions": (
            TENSORS,
            PREDICTIONS.replace("Predictions", "StreamPredictions"),
            lambda: predictions(TENSORS, b'{"x": [[1, 2, 3]]}'),
        ),
        "no message at all": (TENSORS, PREDICTIONS, lambda: b"\xff" * 1_000),
    }
    before = {
        "ModelInfer that is refused": "worker killed",
        "StreamPredictions": "worker killed",
    }
    for name, (model, path, made) in calls.items():
        yield Kind(
            name=f"gRPC: {name}",
            model=model,
            path=path,
            body=made,
            over="grpc",
            before=before.get(name, ""),
        )


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def _bytes_field(number: int, content: bytes) -> bytes:
    """A field of protobuf that is bytes, or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _packed(numbers: list[int]) -> bytes:
    return b"".join(map(_varint, numbers))
