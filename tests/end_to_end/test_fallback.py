"""An artifact whose chosen program does not fit this host."""

import httpx
import pytest

from shipway.archive.pack import pack
from shipway.artifact.manifest import Requirements
from shipway.engines.torchserve.tokens import bearer
from tests.conftest import PHOTOS, retold
from tests.servers import running_server, until


@pytest.fixture(scope="module")
def unfit(tiny_artifact, tmp_path_factory):
    """The tiny artifact, its int8 program made for a processor that there is not."""
    programs = dict(tiny_artifact.manifest.programs)
    programs["onnx_int8"] = programs["onnx_int8"].model_copy(
        update={"requires": Requirements(cpu_flags=("avx4096",))}
    )
    return retold(
        tiny_artifact,
        tmp_path_factory.mktemp("unfit"),
        programs=programs,
        chosen="onnx_int8",
        fallback="onnx_fp32",
    )


def test_the_portable_program_answers_and_everything_says_so(unfit, tmp_path):
    mar = pack(unfit, tmp_path / "model_store")
    with running_server(tmp_path) as server:
        settings = {"batch_size": 4, "max_batch_delay_ms": 0, "workers": 1}
        server.management.register(mar.name, name="tiny", version="1.0", **settings)
        found = server.inference.explain("tiny", (PHOTOS / "chelsea.png").read_bytes())
        assert found.program == "onnx_fp32"
        described = server.management.what_runs("tiny", "1.0")
        assert described["program"] == "onnx_fp32"
        assert described["fell_back_because"] == "this processor lacks avx4096"
        assert "does not fit this host" in server.state.worker_log.read_text()
        address = server.record.addresses.metrics
        headers = bearer(server.tokens.get("management"))

        def told() -> bool:
            metrics = httpx.get(f"{address}/metrics", headers=headers, trust_env=False).text
            lines = [line for line in metrics.splitlines() if line.startswith("ShipwayFallback{")]
            return (
                len(lines) == 1 and 'Program="onnx_fp32"' in lines[0] and lines[0].endswith("1.0")
            )

        until(told)
