"""The ONNX programs run by OpenVINO: candidates of their own, verified on that runtime.

Dynamic int8 is left out: OpenVINO 2026.4 computes all of its products in fp32.
"""

import shutil
from pathlib import Path

from shipway.artifact.manifest import Precision, Requirements
from shipway.export.techniques import onnx_int8, register
from shipway.export.techniques.aot_inductor import BF16_FLAG, require_bf16
from shipway.export.techniques.base import Job, Technique, Unavailable, require_package
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32


def _running(source: Technique, name: str, precision: Precision) -> Technique:
    def build(job: Job, path: Path) -> None:
        require_package("openvino")
        if precision == "bf16":
            require_bf16()
        if not path.exists():
            raise Unavailable(f"it runs the file of {source.name}, which is missing")

    def requires() -> Requirements:
        if precision == "bf16":
            return Requirements(cpu_flags=(BF16_FLAG,))
        return source.requires()

    return Technique(
        order=100,
        name=name,
        file=source.file,
        runs=source.name,
        format="onnx",
        runtime="openvino",
        precision=precision,
        quantization=source.quantization,
        unsupported_reason=source.unsupported_reason,
        build=build,
        requires=requires,
    )


def _build_int8(job: Job, path: Path) -> None:
    """Copies the variant with a quantizer of the pixels: without, the first layer is in fp32."""
    require_package("openvino")
    source = onnx_int8.beside(job.programs / onnx_int8.TECHNIQUE.file)
    if not source.exists():
        raise Unavailable(f"it is made with {onnx_int8.TECHNIQUE.name}, which is missing")
    shutil.copyfile(source, path)


register(
    _running(FP32, "openvino_fp32", "fp32"),
    _running(FP32, "openvino_bf16", "bf16"),
    Technique(
        order=100,
        name="openvino_int8",
        file="openvino_int8.onnx",
        format="onnx",
        runtime="openvino",
        precision="int8",
        quantization=onnx_int8.TECHNIQUE.quantization,
        build=_build_int8,
        requires=onnx_int8.requires,
    ),
)
