"""torchao's `quantize_`, for models of linear layers, compiled by AOTInductor."""

import copy
from pathlib import Path

from torch import Tensor, nn

from shipway.export.techniques import applicability, register
from shipway.export.techniques.aot_inductor import compile_package, requires
from shipway.export.techniques.base import Job, Technique, require_package
from shipway.export.techniques.torch_export import exported


def build_dynamic(job: Job, path: Path) -> None:
    """Writes a package with int8 weights and activations quantized in every run."""
    require_package("torchao")
    # torchao is optional and takes seconds to import
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    module = copy.deepcopy(job.module)
    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    compile_package(exported(job, module), path)


def build_weight_only(job: Job, path: Path) -> None:
    """Writes a package with int8 weights that computes in bf16."""
    require_package("torchao")
    # torchao is optional and takes seconds to import
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    module = with_linear_in_bf16(copy.deepcopy(job.module))
    quantize_(module, Int8WeightOnlyConfig())
    # Freezing would fold the int8 weights back into bf16, and nothing would be gained.
    compile_package(exported(job, module), path, freezing=False)


class InBf16(nn.Module):
    """A linear layer that computes in bf16 inside a float32 model."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Features (…, in) to (…, out), in the dtype of `x`."""
        y: Tensor = self.linear(x.bfloat16())
        return y.to(x.dtype)


def with_linear_in_bf16(module: nn.Module) -> nn.Module:
    """Wraps the linear layers in place: torch multiplies int8 weights directly only with bf16."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, InBf16(child))
        else:
            with_linear_in_bf16(child)
    return module


register(
    Technique(
        packages=("torchao",),
        order=50,
        name="torchao_dynamic_int8",
        file="torchao_dynamic_int8.pt2",
        format="aot_inductor",
        runtime="torch",
        precision="int8",
        quantization="dynamic torchao, int8 activations per token, int8 weights per channel",
        dynamic=True,
        unsupported_reason=applicability.linear,
        build=build_dynamic,
        requires=requires,
    ),
    Technique(
        packages=("torchao",),
        order=50,
        name="torchao_int8_weights",
        file="torchao_int8_weights.pt2",
        format="aot_inductor",
        runtime="torch",
        # The precision of the arithmetic: only the weights are int8.
        precision="bf16",
        quantization="int8 weights per channel, bf16 activations",
        unsupported_reason=applicability.linear,
        build=build_weight_only,
        requires=requires,
    ),
)
