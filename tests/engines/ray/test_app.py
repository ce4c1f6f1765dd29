"""What runs in replicas and routers, in this process. test_cluster.py has them on a cluster."""

import asyncio

import httpx
import numpy as np
import pytest

from shipway.artifact.samples import file_of
from shipway.engines.ray.errors import NotAsCertified
from shipway.runtime.model import Model
from tests.conftest import retold

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from starlette.requests import Request

from shipway.engines.ray.app import Router, prove


def answer_of(router: Router, method: str, path: str) -> httpx.Response:
    """The router's answer to a request over HTTP."""

    async def app(scope, receive, send):
        response = await router(Request(scope, receive))
        await response(scope, receive, send)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return await client.request(method, path)

    return asyncio.run(send())


def error_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["code"] == answer.status_code
    return answer.status_code, answer.json()["type"]


@pytest.fixture(scope="module")
def router() -> Router:
    router = Router()
    router.reconfigure({"models": {"table": {"default": "1.0", "versions": {}}}})
    return router


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "ResourceNotFoundException"),
        ("GET", "/predictions/table", "ResourceNotFoundException"),
        ("POST", "/predictions/table/1.0/more", "ResourceNotFoundException"),
        ("POST", "/predictions/tree", "ModelNotFoundException"),
        ("PUT", "/predictions/table/2.0", "ModelVersionNotFoundException"),
        ("POST", "/v2/models/tree/infer", "ModelNotFoundException"),
        ("POST", "/v2/models/table/versions/2.0/infer", "ModelVersionNotFoundException"),
        ("GET", "/v2/models/tree", "ModelNotFoundException"),
        ("GET", "/v2/models/table/versions/2.0", "ModelVersionNotFoundException"),
    ],
)
def test_a_router_refuses_what_it_does_not_serve_in_torchserves_words(
    router, method, path, expected
):
    assert error_of(answer_of(router, method, path)) == (404, expected)


def test_a_model_without_a_default_version_answers_503_with_the_reason():
    router = Router()
    models = {"table": {"default": "", "versions": {}}}
    for reason in ({}, {"reason": "The default version could not be restored."}):
        router.reconfigure({"models": {"table": models["table"] | reason}})
        for path in ("/predictions/table", "/v2/models/table/infer"):
            refused = answer_of(router, "POST", path)
            assert error_of(refused) == (503, "NoDefaultVersion")
            assert reason.get("reason", "has no default version") in refused.json()["message"]


def test_a_router_takes_another_table_of_models_without_a_restart():
    router = Router()
    router.reconfigure({"models": {"table": {"default": "1.0", "versions": {}}}})
    router.reconfigure({"models": {"tree": {"default": "1.0", "versions": {}}}})
    path = "/v2/models/{}/infer"
    gone, new = (answer_of(router, "POST", path.format(name)) for name in ("table", "tree"))
    assert error_of(gone) == (404, "ModelNotFoundException")
    assert error_of(new) == (404, "ModelVersionNotFoundException")


def test_a_program_is_proven_on_the_samples_that_are_sealed_with_it(tiny_table):
    prove(Model(tiny_table, threads=1, most_rows=4))


def test_a_program_whose_outputs_differ_from_the_samples_is_refused(tiny_table, tmp_path):
    output = tiny_table.manifest.outputs[0].name
    artifact = retold(tiny_table, tmp_path / "a", version="2.0")
    sample = artifact.path / file_of(output)
    np.save(sample, -np.load(sample))
    changed = Model(artifact, threads=1, most_rows=4)
    with pytest.raises(NotAsCertified, match=rf"{output} of .*its certificate allows"):
        prove(changed)
