"""The ONNX programs once more, run by OpenVINO: another program, with its own certificate."""

from pathlib import Path

from export.onnx_fp32 import TECHNIQUE as FP32
from export.onnx_int8 import TECHNIQUE as INT8
from export.technique import Job, Technique, Unavailable
from shipway.artifact.manifest import Precision, Requirements
from shipway.runtime.host import cpu_flags, installed


def _running(source: Technique, name: str, precision: Precision) -> Technique:
    def build(job: Job, path: Path) -> None:
        if installed("openvino") is None:
            raise Unavailable("the package openvino is not installed")
        if precision == "bf16" and "avx512_bf16" not in cpu_flags():
            raise Unavailable("this processor has no bf16 arithmetic (avx512_bf16)")
        if not path.exists():
            raise Unavailable(f"it runs the file of {source.name}, which is not there")

    def requires() -> Requirements:
        if precision == "bf16":
            return Requirements(cpu_flags=("avx512_bf16",))
        return source.requires()

    return Technique(
        name=name,
        file=source.file,
        runs=source.name,
        format="onnx",
        runtime="openvino",
        precision=precision,
        quantization=source.quantization,
        suits=source.suits,
        build=build,
        requires=requires,
    )


TECHNIQUES = (
    _running(FP32, "openvino_fp32", "fp32"),
    _running(FP32, "openvino_bf16", "bf16"),
    _running(INT8, "openvino_int8", "int8"),
)
