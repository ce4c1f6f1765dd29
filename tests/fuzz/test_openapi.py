"""What the OpenAPI description of each model promises, a real server keeps."""

import pytest
from hypothesis import HealthCheck, given, settings

from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.refusals import ANSWERED_BY_SERVER
from shipway.engines.torchserve.tokens import bearer
from shipway.serving.openapi import describe
from tests.fuzz.fuzz_server import MODELS, wrong

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 30
"""Of each operation, in each mode."""
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@pytest.mark.parametrize("model", [each.__name__ for each in MODELS])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_answers_are_what_the_description_says(server, model, mode):
    """To what it allows, and to what it does not."""
    artifact = open_artifact(server.state.path.parent / model)
    schema = schemathesis.openapi.from_dict(describe(artifact.manifest, ANSWERED_BY_SERVER))
    token = bearer(server.tokens.get("inference"))
    statuses = set()
    for found in schema.get_all_operations():

        @QUICK
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def try_one(case) -> None:
            answer = case.call(base_url=server.record.addresses.inference, headers=token)
            case.validate_response(answer, checks=CHECKS)
            kind = answer.request.headers.get("content-type", "")
            assert wrong(kind, answer.status_code, answer.content) is None
            statuses.add(answer.status_code)

        try_one()
    assert 200 in statuses or mode is schemathesis.GenerationMode.NEGATIVE
