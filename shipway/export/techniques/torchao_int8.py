"""torchao's `quantize_`, for models of linear layers, compiled by AOTInductor."""

import copy
from pathlib import Path

from torch import Tensor, nn

from shipway.export.techniques import applicability as suits
from shipway.export.techniques import register
from shipway.export.techniques.aot_inductor import compile_package, requires
from shipway.export.techniques.base import Job, Technique, require_package
from shipway.export.techniques.torch_export import exported


def build_dynamic(job: Job, path: Path) -> None:
    require_package("torchao")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    module = copy.deepcopy(job.module)
    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    compile_package(exported(job, module), path)


def build_weight_only(job: Job, path: Path) -> None:
    require_package("torchao")
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    module = with_linear_in_bf16(copy.deepcopy(job.module))
    quantize_(module, Int8WeightOnlyConfig())
    # Freezing would fold the int8 weights back into bf16 ones: the same program as without them.
    compile_package(exported(job, module), path, freezing=False)


class InBf16(nn.Module):
    """A linear layer whose weights and product are bf16, amid a model in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.bfloat16())
        return y.to(x.dtype)


def with_linear_in_bf16(module: nn.Module) -> nn.Module:
    """The module, changed in place: only with bf16 does torch multiply int8 weights as they are."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, InBf16(child))
        else:
            with_linear_in_bf16(child)
    return module


register(
    Technique(
        order=50,
        name="torchao_dynamic_int8",
        file="torchao_dynamic_int8.pt2",
        format="aot_inductor",
        runtime="torch",
        precision="int8",
        quantization="dynamic torchao, int8 activations per token, int8 weights per channel",
        dynamic=True,
        suits=suits.linear,
        build=build_dynamic,
        requires=requires,
    ),
    Technique(
        order=50,
        name="torchao_int8_weights",
        file="torchao_int8_weights.pt2",
        format="aot_inductor",
        runtime="torch",
        # What it computes in: the weights alone are int8.
        precision="bf16",
        quantization="int8 weights per channel, bf16 activations",
        suits=suits.linear,
        build=build_weight_only,
        requires=requires,
    ),
)
