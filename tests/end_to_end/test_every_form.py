"""Five tasks in one server: every form over HTTP, natural ones over gRPC, tritonclient. With the
front, and by way of TorchServe."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shipway.archive.pack import pack
from shipway.loadtest import preflight
from shipway.payloads.request import Request
from tests.servers import RunningServer, running_server, until
from tests.serving.test_oip import declared
from tests.serving.test_service import JSON, TASKS, Served, npy, tensors_of

TOGETHER_MS = 20
"""Long enough for some clients' requests to meet in one batch."""
SINGLE = tuple(task for task in TASKS if task != "array")


@pytest.fixture(scope="module")
def served(
    tiny_artifact, tiny_classifier, tiny_embedding, tiny_table, tiny_tensors
) -> dict[str, Served]:
    artifacts = (tiny_artifact, tiny_classifier, tiny_embedding, tiny_table, tiny_tensors)
    return {task: Served(task, each) for task, each in zip(SINGLE, artifacts, strict=True)}


@pytest.fixture(scope="module", params=["on", "off"])
def front(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def server(served, front, tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    mars = [pack(each.artifact, folder / "model_store") for each in served.values()]
    with running_server(folder, front=front) as running:

        def register(mar, manifest) -> None:
            running.management.register(
                mar.name,
                name=manifest.name,
                version="1.0",
                batch_size=8,
                max_batch_delay_ms=TOGETHER_MS,
                workers=1,
            )

        with ThreadPoolExecutor(2) as pool:  # as many as there are cores
            manifests = [each.manifest for each in served.values()]
            list(pool.map(register, mars, manifests))
        for each in manifests:
            until(partial(takes_requests, running, each.name, directly=front == "on"))
        yield running


def takes_requests(server: RunningServer, name: str, *, directly: bool) -> bool:
    """Whether a model's worker is asked in this way: TorchServe forbids caches, workers do not."""
    headers = {"Authorization": f"Bearer {server.tokens.get('inference')}"}
    url = f"{server.record.addresses.inference}/predictions/{name}"
    answer = httpx.post(url, content=b"{", headers=headers, timeout=60, trust_env=False)
    return ("pragma" not in answer.headers) is directly


@pytest.fixture(params=SINGLE)
def one(request, served) -> Served:
    return served[request.param]


@pytest.fixture
def token(server):
    """Makes the headers anew for each call: tritonclient writes its own into those it is given."""
    return lambda: {"Authorization": f"Bearer {server.tokens.get('inference')}"}


@pytest.fixture(scope="module")
def http(server) -> Iterator[httpx.Client]:
    address = server.record.addresses.inference
    bearer = {"Authorization": f"Bearer {server.tokens.get('inference')}"}
    with httpx.Client(base_url=address, headers=bearer, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(server) -> Iterator[triton.InferenceServerClient]:
    """As its users make one; it asks for a host and a port."""
    host = urlsplit(server.record.addresses.inference).netloc
    with triton.InferenceServerClient(host, concurrency=8) as made:
        yield made


def post(http, one: Served, request: Request, path: str = "/predictions/{}") -> httpx.Response:
    name = one.manifest.name
    headers = {"content-type": "application/octet-stream", **request.headers}
    return http.post(path.format(name), content=bytes(request.fields["body"]), headers=headers)


def natural_answer(one: Served, reply: httpx.Response):
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    return answer[0] if one.task == "tensors" else answer


def is_output(one: Served, reply: httpx.Response, items) -> None:
    assert reply.status_code == 200, reply.text
    (found,) = tensors_of(reply.content, reply.headers).values()
    for output, item in zip(found, items, strict=True):
        np.testing.assert_allclose(output, one.outputs(item), atol=1e-5)


def test_the_natural_form_over_http(http, one):
    for item in one.inputs(3):
        one.is_answer(natural_answer(one, post(http, one, one.natural(item))), item)


def test_the_natural_form_over_grpc(server, one):
    for item in one.inputs(3):
        body = one.natural(item).fields["body"]
        answer = server.grpc.predict(one.manifest.name, body)
        one.is_answer(answer[0] if one.task == "tensors" else answer, item)


@pytest.mark.parametrize("grpc", [False, True])
def test_a_load_test_finds_what_each_task_takes(server, one, grpc):
    ready = preflight.local_model(server.state, one.manifest.name, None, grpc=grpc, headers={})
    assert ready.subject.task == one.manifest.task
    assert ready.subject.program == one.manifest.chosen
    assert len(ready.inputs) >= 5


@pytest.mark.parametrize("path", ["/predictions/{}", "/v2/models/{}/infer"])
@pytest.mark.parametrize("binary", [True, False])
def test_v2_over_http(http, one, path, binary):
    for item in one.inputs(3):
        is_output(one, post(http, one, one.v2([item], binary=binary), path), [item])


def test_v2_json_over_grpc(server, one):
    (item,) = one.inputs(1)
    body = one.v2([item], binary=False).fields["body"]
    answer = server.grpc.predict(one.manifest.name, body)
    found = np.array(answer["outputs"][0]["data"]).reshape(answer["outputs"][0]["shape"])
    np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)


def test_the_natural_form_in_a_bytes_tensor_over_http(http, one):
    if one.task == "tensors":
        pytest.skip("a .npy file holds one array, and this model takes two")
    items = one.inputs(5)
    is_output(one, post(http, one, one.v2_bytes(items)), items)


def test_binary_outputs_for_a_natural_request_over_http(http, one):
    (item,) = one.inputs(1)
    request = one.natural(item)
    request = Request(request.fields, {**request.headers, "accept": "application/octet-stream"})
    is_output(one, post(http, one, request), [item])


def test_a_form_with_a_field_over_http(http, served):
    for task, field in (("images", "image"), ("classifier", "text"), ("embedding", "text")):
        one = served[task]
        (item,) = one.inputs(1)
        path = f"/predictions/{one.manifest.name}"
        one.is_answer(natural_answer(one, http.post(path, files={field: item})), item)
        if isinstance(item, str):
            one.is_answer(natural_answer(one, http.post(path, data={field: item})), item)


def test_every_reply_has_its_headers(http, one):
    (item,) = one.inputs(1)
    for request in (one.natural(item), one.v2([item], binary=True), Request({"body": b"{"})):
        if one.texts is not None and request.fields["body"] == b"{":
            continue  # a text like any other
        sent = f"t={time.time() - 5:.3f}"
        request = Request(request.fields, {**request.headers, "x-request-start": sent})
        reply = post(http, one, request)
        assert reply.headers["shipway-version"] == "1.0"
        # The archive's own: it holds only some of the artifact's programs.
        assert len(reply.headers["shipway-artifact"]) == 64
        assert reply.headers["shipway-program"] == one.manifest.chosen
        assert reply.headers["server-timing"].startswith("queue;dur=")


def test_bad_requests_get_their_status_over_http(http, served):
    for task, body, headers, status in (
        ("table", b"x", {"content-type": "application/xml"}, 415),
        ("classifier", b"\xff", {"content-type": "text/plain"}, 400),
        ("classifier", b"[]", JSON, 400),
        ("embedding", b"too long " * 100, {}, 413),
        ("table", b"[1, 2]", {"inference-header-content-length": "-1"}, 400),
    ):
        reply = post(http, served[task], Request({"body": body}, headers))
        assert (reply.status_code, reply.json()["code"]) == (status, status)


def asked(one: Served, items, *, binary: bool):
    inputs = []
    for name, array in one.tensors(items):
        tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    output = one.manifest.outputs[0].name
    return inputs, [triton.InferRequestedOutput(output, binary_data=binary)]


def alike(one: Served, count: int) -> list:
    """Inputs that fit in one tensor."""
    items = one.inputs(count if one.task != "tensors" else 40 * count)
    return [each for each in items if one.task != "tensors" or len(each["which"][0]) == 7][:count]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 6])
def test_tritonclient_infers_every_task(client, token, one, binary, count):
    items = alike(one, count)
    inputs, outputs = asked(one, items, binary=binary)
    found = client.infer(
        one.manifest.name, inputs, outputs=outputs, request_id="me", headers=token()
    )
    assert found.get_response()["id"] == "me"
    for output, item in zip(found.as_numpy(one.manifest.outputs[0].name), items, strict=True):
        np.testing.assert_allclose(output, one.outputs(item), atol=1e-5)


def test_tritonclient_that_names_no_outputs_gets_them_all(client, token, one):
    (item,) = alike(one, 1)
    inputs, _ = asked(one, [item], binary=True)
    found = client.infer(one.manifest.name, inputs, headers=token())
    output = found.as_numpy(one.manifest.outputs[0].name)
    np.testing.assert_allclose(output[0], one.outputs(item), atol=1e-5)


def test_tritonclient_sends_texts_as_bytes(client, token, served):
    one = served["classifier"]
    items = one.inputs(4)
    tensor = triton.InferInput("text", [4], "BYTES")
    for binary in (True, False):
        tensor.set_data_from_numpy(np.array(items, object), binary_data=binary)
        found = client.infer(one.manifest.name, [tensor], headers=token()).as_numpy("logits")
        for output, item in zip(found, items, strict=True):
            np.testing.assert_allclose(output, one.outputs(item), atol=1e-5)


def test_tritonclients_requests_share_batches_and_get_their_own_outputs(client, token, one):
    items = alike(one, 24)
    waiting = []
    for place, item in enumerate(items):
        inputs, outputs = asked(one, [item], binary=bool(place % 2))
        waiting.append(
            client.async_infer(one.manifest.name, inputs, outputs=outputs, headers=token())
        )
    for pending, item in zip(waiting, items, strict=True):
        found = pending.get_result().as_numpy(one.manifest.outputs[0].name)
        np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)


def test_versions_are_served_under_the_protocols_path_by_the_front(client, token, served, front):
    """TorchServe has them under /predictions/NAME/VERSION alone."""
    one = served["table"]
    (item,) = one.inputs(1)
    inputs, _ = asked(one, [item], binary=True)
    if front == "on":
        found = client.infer(one.manifest.name, inputs, model_version="1.0", headers=token())
        assert found.get_response()["model_version"] == "1.0"
        return
    with pytest.raises(InferenceServerException, match="versioning is not yet supported"):
        client.infer(one.manifest.name, inputs, model_version="1.0", headers=token())


def test_torchserves_own_metrics_count_what_it_saw(server, http, served, front):
    one = served["table"]
    (item,) = one.inputs(1)
    natural_answer(one, post(http, one, one.natural(item)))
    text = httpx.get(f"{server.record.addresses.metrics}/metrics", trust_env=False).text
    counted = f'ts_inference_requests_total{{model_name="{one.manifest.name}"' in text
    assert counted is (front == "off")


def test_tritonclient_shows_why_it_was_refused(client, token, served):
    one = served["table"]
    tensor = triton.InferInput("features", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer(one.manifest.name, [tensor], headers=token())
    assert caught.value.message().startswith("The shape of 'features' is [1, 4]")


def test_tritonclient_asks_whether_the_server_is_there(client, token):
    assert client.is_server_live(headers=token())
    assert client.is_server_ready(headers=token())
    assert client.get_server_metadata(headers=token())["name"] == "Torchserve"


def test_the_protocols_paths_need_the_token_too(server, client, served):
    (item,) = served["table"].inputs(1)
    assert not client.is_server_live()
    assert not client.is_server_ready()
    with pytest.raises(InferenceServerException):
        inputs, _ = asked(served["table"], [item], binary=True)
        client.infer("tiny-table", inputs)


@pytest.mark.parametrize("task", ["images", "classifier"])
def test_five_hundred_requests_in_any_company_and_form_get_their_own_answers(http, served, task):
    one = served[task]
    random = np.random.default_rng(0)
    items = one.inputs(40, seed=5)
    if task == "classifier":
        items += [" ".join(["sail"] * int(size)) for size in random.integers(1, 200, 40)]
    order = random.integers(0, len(items), 500)
    forms = random.integers(0, 4, 500)
    path = "/predictions/{}"

    def ask(index: int, form: int) -> httpx.Response:
        item = items[index]
        match form:
            case 0:
                return post(http, one, one.natural(item), path)
            case 1:
                return post(http, one, made[index], path)
            case 2:
                return post(http, one, one.v2_bytes([item]), path)
        return post(http, one, Request({"body": b"\xff"}, {"content-type": "text/plain"}), path)

    made = [one.v2([item], binary=True) for item in items]
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(ask, order, forms))
    for index, form, reply in zip(order, forms, replies, strict=True):
        if form == 3:
            assert reply.status_code in (400, 415)
        elif form == 0:
            one.is_answer(natural_answer(one, reply), items[index])
        else:
            is_output(one, reply, [items[index]])


def test_a_npy_file_is_refused_by_a_model_of_two_inputs_over_http(http, served):
    body = npy(np.ones((1, 5), np.float32))
    reply = post(http, served["tensors"], Request({"body": body}))
    assert reply.status_code == 400
    assert "takes 2 inputs" in reply.json()["message"]


def test_a_sender_who_sends_torchserves_own_header_harms_nobody(http, served):
    one = served["table"]
    items = one.inputs(40)

    def ask(place: int) -> httpx.Response:
        request = one.natural(items[place])
        headers = {**request.headers, **({"describe": "True"} if place % 2 else {})}
        return post(http, one, Request(request.fields, headers))

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(ask, range(40)))
    for item, reply in list(zip(items, replies, strict=True))[::2]:
        one.is_answer(reply.json(), item)


def test_the_server_survived_all_this(http, server, one):
    """Its one worker is the first."""
    (item,) = one.inputs(1)
    one.is_answer(natural_answer(one, post(http, one, one.natural(item))), item)
    assert "Traceback" not in server.state.worker_log.read_text()


def test_v2_with_inputs_in_another_order_over_http(http, served):
    one = served["classifier"]
    (item,) = one.inputs(1)
    body = {"inputs": [declared(a, name) for name, a in one.tensors([item])[::-1]]}
    is_output(one, post(http, one, Request({"body": json.dumps(body).encode()}, JSON)), [item])
