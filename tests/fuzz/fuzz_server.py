"""Requests that nobody should send, to a real server: each is answered or refused as documented, no
worker dies of one, and good requests beside them are answered right.

python -m tests.fuzz.fuzz_server [REQUESTS [SEED]]
"""

import base64
import io
import json
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import grpc
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from shipway.archive.pack import pack
from shipway.engines.torchserve import protos
from shipway.engines.torchserve.refusals import grpc_refusal, is_a_reply
from shipway.engines.torchserve.tokens import bearer
from shipway.payloads.errors import InternalError
from shipway.payloads.request import BINARY, FORMS, HEADER_LENGTH, JSON
from shipway.serving.deadlines import SENT, WITHIN
from shipway.serving.grpc_calls import CODE_OF
from shipway.serving.statuses import STATUS_OF
from tests.fuzz import minimal
from tests.servers import RunningServer, running_server
from tests.serving.test_oip import declared

MODELS = (minimal.tensors, minimal.texts, minimal.table, minimal.images)
FOUND = Path("build/fuzz/server")
"""Where requests go that were not answered as they should be."""
CLIENTS = 4
GOOD_EVERY = 10
SLOW_S, MOST_MEMORY_MB = 1.0, 300.0
"""A request takes no longer, nor does a worker take more memory for all of them than this."""
BY_HYPOTHESIS = 0.25
"""The share of requests that are its; the others are mutations of the corpus."""

DOCUMENTED = {(kind.__name__, status) for kind, status in STATUS_OF.items()} | {
    ("InvalidKeyException", 400),
    ("InvalidKeyException", 401),
    ("ModelNotFoundException", 404),
    ("ModelVersionNotFoundException", 404),
    ("ResourceNotFoundException", 404),
    ("NotImplementedException", 501),
}
"""Types and statuses of refusals; InternalError is none, but a mistake of ours."""
DOCUMENTED -= {(InternalError.__name__, 500)}


class Sent(NamedTuple):
    """One request; over gRPC its body and headers are fields of the input."""

    model: str
    path: str
    headers: dict[str, str]
    body: bytes


class Good(NamedTuple):
    sent: Sent
    over_grpc: bool
    answer: object


class Found(NamedTuple):
    """What was not answered as it should be."""

    sent: Sent
    what: str


def corpus() -> dict[str, list[Sent]]:
    """Good requests to each model, in every form."""
    text, row = f"{minimal.WORDS[1]} {minimal.WORDS[2]}", [0.0, 9.0, 1.0]
    picture = _png((0, 255, 0))
    array = np.array([[1, 2, 3]], np.float32)
    ids = np.array([[1, 2]], np.int64)
    pixels = np.full((1, 8, 8, 3), (0, 255, 0), np.uint8)
    npy = io.BytesIO()
    np.save(npy, array)
    in_base64 = base64.b64encode(picture).decode()
    natural: dict[str, list[tuple[str, bytes]]] = {
        "tensors": [(JSON, _json({"x": [[1, 2, 3]]})), ("application/x-npy", npy.getvalue())],
        "text_embedding": [
            (JSON, _json(text)),
            (JSON, _json({"texts": [text, text]})),
            ("text/plain", text.encode()),
        ],
        "tabular_classification": [
            (JSON, _json(row)),
            (JSON, _json([dict(zip(minimal.COLUMNS, row, strict=True))] * 2)),
        ],
        "image_classification": [
            (BINARY, picture),
            (JSON, _json({"image": in_base64})),
            (f"{FORMS[0]}; boundary=b", _form("image", picture)),
        ],
    }
    tensors: dict[str, list[tuple[str, np.ndarray]]] = {
        "tensors": [("x", array)],
        "text_embedding": [("input_ids", ids), ("attention_mask", np.ones_like(ids))],
        "tabular_classification": [("row", np.array([row], np.float32))],
        "image_classification": [("pixels", pixels)],
    }
    elements = {"text_embedding": text.encode(), "image_classification": picture}
    found: dict[str, list[Sent]] = {}
    for model, forms in natural.items():
        paths = (f"/predictions/{model}", f"/predictions/{model}/1.0", f"/v2/models/{model}/infer")
        found[model] = [
            Sent(model, paths[place % 2], {"content-type": kind}, body)
            for place, (kind, body) in enumerate(forms)
        ]
        for binary in (False, True):
            inputs = [declared(each, name, binary=binary) for name, each in tensors[model]]
            tail = b"".join(each.tobytes() for _, each in tensors[model]) if binary else b""
            found[model].append(_v2(model, paths[2], inputs, tail))
        if element := elements.get(model):
            name = "text" if model.startswith("text") else "image"
            tensor: dict[str, Any] = {"name": name, "datatype": "BYTES", "shape": [1]}
            tail = len(element).to_bytes(4, "little") + element
            tensor["parameters"] = {"binary_data_size": len(tail)}
            found[model].append(_v2(model, paths[0], [tensor], tail))
    return found


def _v2(model: str, path: str, inputs: list[dict], tail: bytes) -> Sent:
    header = _json({"inputs": inputs, "id": "1"})
    length = {HEADER_LENGTH: str(len(header))} if tail else {}
    return Sent(model, path, {"content-type": BINARY if tail else JSON} | length, header + tail)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def _form(name: str, content: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n'
    return head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--b--\r\n"


TOKENS = [
    *b"null true -1 0 1e999 1e39 -0.0 NaN 99999999999999999999 2147483648 [] {} [[]] 0.5".split(),
    *b'"" "\\ud800" "\\u0000" "inputs" "x" {"x":[[1,2,3]]} {"text":"a"} {"image":""}'.split(),
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900,
    b'"' + b"a " * 50_000 + b'"',
    b"[" + b"[1,2,3]," * 1100 + b"[1,2,3]]",
]
KINDS = [
    *("", JSON, BINARY, "application/vnd.x+json", "application/x-npy", "image/png", "x/y", "\xe9"),
    *("text/plain", "text/plain; charset=utf-16", f"{FORMS[0]}; boundary=b", FORMS[0], FORMS[1]),
]
NUMBERS = ["", "0", "1", "-1", "5", "40", "1e3", "nan", "inf", "9" * 20, "x", "t=", "t=1.5"]


def mutated(chance: random.Random, seeds: Mapping[str, Sequence[Sent]]) -> Sent:
    """A request of the corpus, changed in a place or several."""
    model = chance.choice(list(seeds))
    sent = chance.choice(seeds[model])
    body = bytearray(sent.body)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        at = chance.randrange(len(body) + 1)
        size = chance.choice((1, 1, 2, 8, 64))
        match chance.randrange(7):
            case 0:
                body[at : at + size] = chance.randbytes(size)
            case 1:
                del body[at:]
            case 2:
                del body[at : at + size]
            case 3:
                body[at:at] = body[at : at + size] * chance.choice((1, 2, 50))
            case 4:
                other = chance.choice(seeds[chance.choice(list(seeds))]).body
                body[at:] = other[chance.randrange(len(other)) :]
            case _:
                end = next((n for n in range(at, len(body)) if body[n] in b",]}: "), at)
                body[at:end] = chance.choice(TOKENS)
    headers, path = dict(sent.headers), sent.path
    if chance.random() < 0.3:
        headers["content-type"] = chance.choice(KINDS)
    for name in (HEADER_LENGTH, WITHIN, SENT):
        if chance.random() < 0.05:
            headers[name] = chance.choice(NUMBERS)
    if chance.random() < 0.05:
        headers["accept"] = BINARY
    if chance.random() < 0.02:
        headers["content-encoding"] = chance.choice(("gzip", "identity"))
    if chance.random() < 0.02:
        path += chance.choice(("/2.0", "/1.0/more", "x", "%00", "/%2e%2e/1.0"))
    return Sent(model, path, headers, bytes(body))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "name", "shape", "datatype", "data", "parameters", "x"])
            | st.sampled_from(["text", "texts", "image", "rows", *minimal.COLUMNS])
            | st.text(max_size=9),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
SHAPED = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(
                        ["x", "pixels", "row", "input_ids", "attention_mask", "text", "image"]
                    ),
                    "shape": st.lists(st.integers(-1, 9) | st.integers(), max_size=4),
                    "datatype": st.sampled_from(["FP32", "INT64", "UINT8", "BYTES", "FP16"]),
                    "data": st.lists(ANY_JSON, max_size=9) | st.lists(st.integers(0, 9)),
                }
            ),
            max_size=3,
        )
    },
    optional={"id": ANY_JSON, "outputs": ANY_JSON, "parameters": ANY_JSON},
)


class Client:
    """One connection over HTTP and one over gRPC, both kept while the server keeps them."""

    def __init__(self, server: RunningServer) -> None:
        addresses = server.record.addresses
        self._token = bearer(server.tokens.get("inference"))
        host, port = addresses.inference.removeprefix("http://").split(":")
        self._http = HTTPConnection(host, int(port), timeout=60)
        self._channel = grpc.insecure_channel(addresses.grpc_inference)
        stubs = protos.load()
        self._request = stubs.inference_pb2.PredictionsRequest
        service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(self._channel)
        self._predict = service.Predictions

    def close(self) -> None:
        self._http.close()
        self._channel.close()

    def _ask_over_grpc(self, request: Any) -> tuple[int, bytes]:
        try:
            reply = self._predict(request, metadata=tuple(self._token.items()), timeout=60)
        except grpc.RpcError as error:
            if not is_a_reply(error):
                raise
            refused = grpc_refusal(error.code().name, error.details() or "")
            if CODE_OF[refused.code] != error.code().value[0]:
                raise ValueError(f"{refused.code} as {error.code().name}") from error
            told = {"code": refused.code, "type": refused.type, "message": str(refused)}
            return refused.code, json.dumps(told).encode()
        answer = json.loads(reply.prediction)
        return (answer["code"] if _is_error(answer) else 200), reply.prediction

    def ask(self, sent: Sent, *, over_grpc: bool) -> tuple[int, bytes]:
        """The status, over gRPC the handler's, and the body. Raises what the connection does."""
        if over_grpc:
            fields = {name: each.encode() for name, each in sent.headers.items()}
            request = self._request(model_name=sent.model, input=fields | {"body": sent.body})
            return self._ask_over_grpc(request)
        self._http.request("POST", sent.path, sent.body, sent.headers | self._token)
        reply = self._http.getresponse()
        return reply.status, reply.read()


def _is_error(answer: object) -> bool:
    return isinstance(answer, dict) and {"code", "type", "message"} <= answer.keys()


def wrong(content_type: str, status: int, body: bytes) -> str | None:
    """What is not as documented in an answer to a request of this type, if anything is."""
    if status == 200:
        return None
    try:
        error = json.loads(body)
        kind = error["type"]
        error["message"]
    except (ValueError, LookupError, TypeError):
        return f"{status} without an error's JSON: {body[:300]!r}"
    if status == 500 and content_type.startswith(FORMS) and kind != InternalError.__name__:
        return None  # TorchServe's, which takes forms apart itself: any exception of Java's
    if error["code"] != status or (kind, status) not in DOCUMENTED:
        return f"{status} {kind}, which is not documented: {error['message'][:300]}"
    return None


class Run:
    """Several clients' requests, what came back, and what should not have."""

    def __init__(self, server: RunningServer) -> None:
        self.seeds = corpus()
        self.answers: Counter[str] = Counter()
        self.found: list[Found] = []
        self._server = server
        self._lock = threading.Lock()
        with closing(Client(server)) as client:
            self._good = list(self._right_answers(client))

    def _right_answers(self, client: Client) -> Iterator[Good]:
        expected = {
            "tensors": [{"y": [2.0, 4.0, 6.0]}],
            "text_embedding": {"embedding": [3], "tokens": 2, "truncated": False},
            "tabular_classification": "width",
            "image_classification": "green",
        }
        for model, (first, *_) in self.seeds.items():
            for over_grpc in (False, True):
                status, body = client.ask(first, over_grpc=over_grpc)
                answer = json.loads(body)
                told = answer[0]["label"] if model.endswith("classification") else answer
                assert (status, told) == (200, expected[model])
                yield Good(first, over_grpc, answer)

    def send(self, requests: Callable[[], Sent], count: int, number: int) -> None:
        """One client's work."""
        chance = random.Random(number)
        with closing(Client(self._server)) as client:
            for place in range(count):
                self.try_one(client, requests(), over_grpc=chance.random() < 0.2)
                if place % GOOD_EVERY == 0:
                    self.check_good(client, chance.choice(self._good))

    def send_hypothesis(self, count: int, number: int) -> None:
        """What Hypothesis makes of JSON, and of v2's form."""
        models = st.sampled_from(list(self.seeds))
        with closing(Client(self._server)) as client:

            @seed(number)
            @settings(
                max_examples=count,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(models, st.booleans(), SHAPED | ANY_JSON, st.binary(max_size=20))
            def try_one(model: str, in_v2: bool, value: object, tail: bytes) -> None:
                path = f"/v2/models/{model}/infer" if in_v2 else f"/predictions/{model}"
                header = json.dumps(value).encode()
                headers = {"content-type": JSON}
                if tail:
                    headers = {HEADER_LENGTH: str(len(header))}
                self.try_one(client, Sent(model, path, headers, header + tail), over_grpc=False)

            try_one()

    def try_one(self, client: Client, sent: Sent, *, over_grpc: bool) -> None:
        began = time.monotonic()
        try:
            status, body = client.ask(sent, over_grpc=over_grpc)
        except (OSError, HTTPException, grpc.RpcError, ValueError) as error:
            self._note("no answer", Found(sent, f"no answer: {error!r}"[:500]))
            return
        took_s = time.monotonic() - began
        complaint = wrong(sent.headers.get("content-type", ""), status, body)
        if took_s > SLOW_S and complaint is None:
            complaint = f"{status} after {took_s:.1f} s"
        found = Found(sent, complaint) if complaint else None
        self._note(f"{'gRPC' if over_grpc else 'HTTP'} {status}", found)

    def check_good(self, client: Client, good: Good) -> None:
        try:
            status, body = client.ask(good.sent, over_grpc=good.over_grpc)
            right = status == 200 and json.loads(body) == good.answer
        except (OSError, HTTPException, grpc.RpcError, ValueError) as error:
            right, body = False, repr(error).encode()
        complaint = None if right else Found(good.sent, f"a good request got {body[:300]!r}")
        self._note("good ones", complaint)

    def _note(self, what: str, found: Found | None) -> None:
        with self._lock:
            self.answers[what] += 1
            if found:
                self.found.append(found)


def fuzz(server: RunningServer, requests: int, number: int = 0) -> Run:
    """Sends so many, by several clients at once, and looks after the workers."""
    workers = _workers(server)
    run = Run(server)
    idle = {pid: memory_mb(pid, "VmRSS") for pids in workers.values() for pid in pids}
    by_hypothesis = int(BY_HYPOTHESIS * requests)
    each, more = divmod(requests - by_hypothesis, CLIENTS - 1)
    threads = [threading.Thread(target=run.send_hypothesis, args=(by_hypothesis, number))]
    for place in range(CLIENTS - 1):
        chance = random.Random(f"{number} {place}")
        made = (lambda chance=chance: mutated(chance, run.seeds), each + (place < more))
        threads.append(threading.Thread(target=run.send, args=(*made, number + place)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing = Sent("", "", {}, b"")
    if (now := _workers(server)) != workers:
        run.found.append(Found(nothing, f"workers were {workers} and are {now} now"))
        return run
    for pid, before in idle.items():
        above_mb = memory_mb(pid, "VmHWM") - before
        if above_mb > MOST_MEMORY_MB:
            run.found.append(Found(nothing, f"worker {pid} took {above_mb:.0f} MB above idle"))
    return run


def memory_mb(pid: int, what: str) -> float:
    """A line of a process's status (proc(5)), in megabytes; it says kibibytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(what)


def _workers(server: RunningServer) -> dict[str, tuple[int, ...]]:
    return {each.name: each.worker_pids for each in server.management.models()}


@contextmanager
def serving(
    folder: Path, archives: Sequence[Path] = (), front: str = "on"
) -> Iterator[RunningServer]:
    """A server with the smallest model of each kind, their artifacts in `folder`, and with
    archives."""
    with running_server(folder, front=front) as server:
        made = [pack(make(folder / make.__name__), server.model_store) for make in MODELS]
        made += [Path(shutil.copy(mar, server.model_store)) for mar in archives]
        for mar in made:
            name, _, version = mar.stem.rpartition("-")
            server.management.register(
                mar.name,
                name=name,
                version=version,
                batch_size=4,
                max_batch_delay_ms=1,
                workers=1,
            )
        yield server


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with TemporaryDirectory() as folder, serving(Path(folder)) as server:
        run = fuzz(server, requests, number)
    FOUND.mkdir(parents=True, exist_ok=True)
    for place, (sent, what) in enumerate(run.found):
        (FOUND / f"{place:04}").write_text(f"{what}\n{sent.path} {sent.headers}\n{sent.body!r}\n")
        print(f"{FOUND}/{place:04}: {what}")
    answers = ", ".join(f"{count:,} × {what}" for what, count in sorted(run.answers.items()))
    print(f"{requests:,} requests: {answers}; {len(run.found)} not as documented")
    sys.exit(bool(run.found))


if __name__ == "__main__":
    main()
