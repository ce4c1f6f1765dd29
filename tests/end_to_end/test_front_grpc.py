"""gRPC through the front of a real server, by clients that never heard of this project."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.errors import PredictionFailed
from shipway.engines.torchserve import protos
from shipway.serving.generated import open_inference_grpc_pb2 as messages
from tests.conftest import retold
from tests.servers import RunningServer, running_server, until

MODEL = "tiny-tensors"
INFERENCE = "/inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def server(
    tiny_tensors: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """1.0 and 2.0 are registered; 1.0 is the default."""
    folder = tmp_path_factory.mktemp("front-grpc")
    (folder / "model_store").mkdir()
    first = pack(tiny_tensors, folder / "model_store")
    second = pack(retold(tiny_tensors, folder / "second", version="2.0"), folder / "model_store")
    with running_server(folder, front="on") as running:
        for mar, version in ((first, "1.0"), (second, "2.0")):
            running.management.register(
                mar.name,
                name=MODEL,
                version=version,
                batch_size=4,
                max_batch_delay_ms=0,
                workers=1,
            )
        yield running


@pytest.fixture
def headers(server) -> dict[str, str]:
    return {"authorization": f"Bearer {server.tokens.get('inference')}"}


@pytest.fixture
def client(server) -> Iterator[triton.InferenceServerClient]:
    with closing(triton.InferenceServerClient(server.record.addresses.grpc_inference)) as opened:
        yield opened


@pytest.fixture
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.record.addresses.grpc_inference) as opened:
        yield opened


def inputs_of(rows: int = 3, time: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "values": random.normal(size=(rows, 6, time)).astype(np.float32),
        "which": random.integers(0, 10, (rows, 1, time)),
    }


def asked(arrays: dict[str, np.ndarray]) -> list[triton.InferInput]:
    found = []
    for name, array in arrays.items():
        kind = {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
        tensor = triton.InferInput(name, array.shape, kind)
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def message_of(arrays: dict[str, np.ndarray]) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name=MODEL)
    for (name, array), kind in zip(arrays.items(), ("FP32", "INT64"), strict=True):
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def code_of(error: pytest.ExceptionInfo) -> str:
    return error.value.status()


def test_a_stock_triton_client_infers_and_reads_metadata(server, client, headers):
    arrays = inputs_of()
    expected = server.inference.infer(MODEL, arrays).outputs["output"]
    answer = client.infer(MODEL, asked(arrays), request_id="mine", headers=headers)
    assert np.array_equal(answer.as_numpy("output"), expected)
    response = answer.get_response()
    assert (response.id, response.model_name, response.model_version) == ("mine", MODEL, "1.0")
    metadata = client.get_model_metadata(MODEL, headers=headers)
    assert [each.name for each in metadata.inputs] == ["values", "which"]
    assert metadata.versions == ["1.0"]
    assert client.is_model_ready(MODEL, headers=headers)
    assert client.is_server_live(headers=headers) and client.is_server_ready(headers=headers)


def test_a_version_is_chosen_by_the_message(client, headers):
    answer = client.infer(MODEL, asked(inputs_of()), model_version="2.0", headers=headers)
    assert answer.get_response().model_version == "2.0"
    assert client.get_model_metadata(MODEL, "2.0", headers=headers).versions == ["2.0"]


def test_outputs_are_chosen_by_name(client, headers):
    wanted = [triton.InferRequestedOutput("output")]
    answer = client.infer(MODEL, asked(inputs_of()), outputs=wanted, headers=headers)
    assert answer.as_numpy("output") is not None
    with pytest.raises(triton.InferenceServerException, match="There is no output 'nothing'"):
        client.infer(
            MODEL,
            asked(inputs_of()),
            outputs=[triton.InferRequestedOutput("nothing")],
            headers=headers,
        )


def test_many_calls_at_once_get_their_own_answers(client, headers):
    def row(number: int) -> dict[str, np.ndarray]:
        arrays = inputs_of(rows=1)
        return arrays | {"values": arrays["values"] * number}

    alone = [
        client.infer(MODEL, asked(row(number)), headers=headers).as_numpy("output")
        for number in range(8)
    ]
    answers: dict[int, object] = {}

    def answered(number: int):
        def keep(result, error) -> None:
            answers[number] = result if error is None else error

        return keep

    for number in range(64):
        client.async_infer(MODEL, asked(row(number % 8)), answered(number), headers=headers)
    until(lambda: len(answers) == 64)
    for number, answer in answers.items():
        assert isinstance(answer, triton.InferResult), answer
        assert np.allclose(answer.as_numpy("output"), alone[number % 8], atol=1e-5)


def test_errors_have_their_codes(client, headers):
    for model, version, arrays, code in (
        (MODEL, "", inputs_of(time=30), "StatusCode.INVALID_ARGUMENT"),
        (MODEL, "", {"values": inputs_of()["values"]}, "StatusCode.INVALID_ARGUMENT"),
    ):
        with pytest.raises(triton.InferenceServerException) as refused:
            client.infer(model, asked(arrays), model_version=version, headers=headers)
        assert code_of(refused) == code, refused.value
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(MODEL, asked(inputs_of()), headers={"authorization": "Bearer wrong"})
    assert code_of(refused) == "StatusCode.UNAUTHENTICATED"
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(MODEL, asked(inputs_of()))
    assert code_of(refused) == "StatusCode.UNAUTHENTICATED"


def test_an_unknown_model_kills_nothing(server, client, headers):
    pids = [one.worker_pids for one in server.management.describe(MODEL)]
    for model, version in (("nothing", ""), (MODEL, "9.0")):
        with pytest.raises(triton.InferenceServerException):
            client.infer(model, asked(inputs_of()), model_version=version, headers=headers)
    assert [one.worker_pids for one in server.management.describe(MODEL)] == pids


def test_compressed_messages_and_streams_are_refused(server, client, channel, headers):
    pids = [one.worker_pids for one in server.management.describe(MODEL)]
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(MODEL, asked(inputs_of()), headers=headers, compression_algorithm="gzip")
    assert code_of(refused) == "StatusCode.UNIMPLEMENTED"
    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(model_name=MODEL, input={"body": b"x"})
    service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
    sent = tuple(headers.items())
    for stream in (
        service.StreamPredictions(request, metadata=sent, timeout=10),
        service.StreamPredictions2(iter([request]), metadata=sent, timeout=10),
    ):
        with pytest.raises(grpc.RpcError) as failed:
            list(stream)
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [one.worker_pids for one in server.management.describe(MODEL)] == pids


def test_torchserves_own_call_is_answered_by_the_worker(server):
    arrays = inputs_of(rows=1)
    native = json.dumps({name: array.tolist() for name, array in arrays.items()}).encode()
    over_http = server.inference.predict(MODEL, native, content_type="application/json")
    assert server.grpc.predict(MODEL, native) == over_http
    assert server.grpc.predict(MODEL, native, version="2.0") == over_http
    with pytest.raises(PredictionFailed, match="not valid JSON"):
        server.grpc.predict(MODEL, b"{")


def test_health_is_answered_by_name(channel, headers):
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    sent = tuple(headers.items())
    for name in (b"", MODEL.encode()):
        message = b"\x0a" + bytes([len(name)]) + name if name else b""
        answer, call = check.with_call(message, metadata=sent, timeout=10)
        assert answer == b"\x08\x01" and not call.details()
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
    with pytest.raises(grpc.RpcError) as failed:
        list(watch(b"", metadata=sent, timeout=10))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_none_is_refused(channel, headers):
    infer = channel.unary_unary(f"{INFERENCE}/ModelInfer")
    name = MODEL.encode()
    for rest in (b"\x2a\xff\xff", b"\xff" * 50):
        with pytest.raises(grpc.RpcError) as failed:
            infer(
                b"\x0a" + bytes([len(name)]) + name + rest,
                metadata=tuple(headers.items()),
                timeout=10,
            )
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_may_not_choose_the_worker_by_a_header(channel, headers):
    sent = (*headers.items(), ("x-shipway-model", MODEL), ("x-shipway-version", ""))
    live = channel.unary_unary(f"{INFERENCE}/ModelReady")
    with pytest.raises(grpc.RpcError):
        live(b"\x0a\x03abc", metadata=sent, timeout=10)


def test_large_messages_are_accepted_up_to_the_limit(channel, headers):
    infer = channel.unary_unary(
        f"{INFERENCE}/ModelInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelInferResponse.FromString,
    )

    def padded(size: int) -> messages.ModelInferRequest:
        request = message_of(inputs_of())
        rest = size - request.ByteSize() - 20
        request.parameters["comment"].string_param = "x" * rest
        return request

    sent = tuple(headers.items())
    limit = 20 * 2**20
    answer = infer(padded(limit - 2**10), metadata=sent, timeout=30)
    assert answer.model_name == MODEL
    for size in (limit + 2**12, limit + 2**20):
        with pytest.raises(grpc.RpcError) as refused:
            infer(padded(size), metadata=sent, timeout=30)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{limit:,} bytes" in refused.value.details()


def test_the_deadline_of_a_call_reaches_the_worker(server, headers):
    """Its client would give up by itself, so curl asks."""
    message = message_of(inputs_of()).SerializeToString()
    done = subprocess.run(
        ["curl", "--silent", "--verbose", "--http2-prior-knowledge"]
        + ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 1n"]
        + ["-H", f"authorization: {headers['authorization']}", "--data-binary", "@-"]
        + [f"http://{server.record.addresses.grpc_inference}{INFERENCE}/ModelInfer"],
        input=b"\x00" + len(message).to_bytes(4, "big") + message,
        capture_output=True,
        check=True,
    )
    told = done.stderr
    assert b"x-grpc-status: 4" in told and b"DeadlinePassed" in told, told


def test_typed_contents_are_read_as_raw_ones_are(server, channel, headers):
    arrays = inputs_of(rows=2)
    request = messages.ModelInferRequest(model_name=MODEL)
    values = request.inputs.add(name="values", datatype="FP32", shape=arrays["values"].shape)
    values.contents.fp32_contents.extend(arrays["values"].ravel().tolist())
    which = request.inputs.add(name="which", datatype="INT64", shape=arrays["which"].shape)
    which.contents.int64_contents.extend(arrays["which"].ravel().tolist())
    infer = channel.unary_unary(
        f"{INFERENCE}/ModelInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelInferResponse.FromString,
    )
    answer = infer(request, metadata=tuple(headers.items()), timeout=10)
    expected = server.inference.infer(MODEL, arrays).outputs["output"]
    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(expected.shape)
    assert np.array_equal(found, expected)
