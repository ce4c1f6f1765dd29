"""The kernels that torch ran, read from logs, profiles and compiled code."""

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from shipway.artifact.certificate import Kernels
from shipway.export.kernels import why_not_what_it_claims
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import ProgramFile
from shipway.runtime.backends.torch import (
    of_cuda,
    of_torch,
    read_compiled_code,
    read_cuda_kernels,
    read_onednn_log,
)
from shipway.runtime.backends.torch_programs import TorchExportProgram, TorchScriptProgram

LOG = "onednn_verbose,v1,primitive,exec,cpu,"
CONVOLUTION_INT8 = (
    "convolution,brg_conv_fwd:avx512_core_vnni,forward_inference,src:u8::blocked:acdb::f0 "
    "wei:s8:a:blocked:AcdB64a4b::f0 bia:f32:a:blocked:a::f0 dst:u8::blocked:acdb::f0,"
    "attr-scratchpad:user attr-scales:src0:0:f32+dst:0:f32+wei:1:f32,alg:convolution_direct,"
    "mb2_ic32oc64_ih32oh32kh3sh1dh0ph1_iw32ow32kw3sw1dw0pw1,0.115967"
)
CONVOLUTION_FP32 = (
    "convolution,brg_conv_fwd:avx512_core,forward_training,src:f32::blocked:acdb::f0 "
    "wei:f32:a:blocked:Acdb32a::f0 bia:f32:a:blocked:a::f0 dst:f32::blocked:acdb::f0,"
    "attr-scratchpad:user,alg:convolution_direct,"
    "mb2_ic3oc32_ih64oh32kh3sh2dh0ph1_iw64ow32kw3sw2dw0pw1,11.21"
)
MATMUL_INT8 = (
    "matmul,brg_matmul:avx512_core_vnni,undef,src:u8:a:blocked:ab::f0 "
    "wei:s8:p:blocked:AB16a64b4a::f8:zpm2 dst:f32:a:blocked:ab::f0,attr-scratchpad:user,,"
    "2x64:64x10,0.00805664"
)
GEMM_INT8 = (
    "gemm_api,,undef,src_u8::blocked:ab:f0 wei_s8::blocked:ba:f0 dst_s32::blocked:ab:f0,,,"
    "32x128:128x512,0.0109863"
)
ATTENTION_FP32 = (
    "matmul,brg_matmul:avx512_core,undef,src:f32:a:blocked:abcd::f0 wei:f32:a:blocked:abcd::f0 "
    "dst:f32:a:blocked:abcd::f0,attr-scratchpad:user,,8x12x128x32:8x12x32x128,0.4"
)
REORDER = (
    "reorder,jit:uni,undef,src:f32::blocked:acdb::f0 dst:f32::blocked:Acdb32a::f0,"
    "attr-scratchpad:user,,32x3x3x3,0.00317383"
)


@pytest.mark.parametrize(
    ("lines", "ran"),
    [
        ([CONVOLUTION_INT8, CONVOLUTION_FP32, CONVOLUTION_INT8], {"int8": 2, "fp32": 1}),
        ([MATMUL_INT8, GEMM_INT8], {"int8": 2}),
        ([REORDER, ATTENTION_FP32], {}),
        ([], {}),
    ],
)
def test_onednns_log_is_counted_by_what_goes_in(lines, ran):
    text = "\n".join(["onednn_verbose,v1,info,cpu,runtime:OpenMP", *(LOG + each for each in lines)])
    assert Counter(precision for _, precision in read_onednn_log(text)) == ran


def test_a_line_of_a_kind_never_seen_is_counted_as_unread_and_not_passed_over():
    [(_, unread)] = read_onednn_log(
        LOG + "convolution,new,forward,weird things here,attr,alg,mb1,0.1"
    )
    assert why_not_what_it_claims(Kernels(source="oneDNN's log", ran={unread: 1}), "int8")


def test_one_run_is_read_from_onednn_and_stdout_is_as_before(capfd):
    layer = nn.Conv2d(32, 64, 3).eval()
    given = torch.randn(2, 32, 64, 64)
    with torch.inference_mode():
        found = of_torch(lambda: layer(given))
    print("after")
    assert found.ran == {"fp32": 1}
    assert capfd.readouterr().out == "after\n"


def test_it_is_read_with_stdout_going_to_a_file_as_in_the_exports_child(tmp_path):
    code = """
import os, torch
from torch import nn
from shipway.runtime.backends.torch import of_torch
log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1); os.dup2(log, 2)
print("before", flush=True)
layer, given = nn.Conv2d(32, 64, 3).eval(), torch.randn(2, 32, 64, 64)
with torch.inference_mode():
    print(of_torch(lambda: layer(given)).ran, flush=True)
"""
    log = tmp_path / "log"
    environment = os.environ | {"LOG": str(log)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert log.read_text().splitlines()[-2:] == ["before", "{'fp32': 1}"]


def test_torchs_product_with_int8_weights_is_counted_in_the_compiled_code(tmp_path):
    call = (
        "    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__weight_int8pack_mm(buf0, weights, s));\n"
    )
    with zipfile.ZipFile(tmp_path / "p.pt2", "w") as archive:
        archive.writestr("p/model/a.wrapper.cpp", call * 6)
        archive.writestr("p/model/a.kernel.cpp", "void kernel() {}")
    assert read_compiled_code(tmp_path / "p.pt2") == {"_weight_int8pack_mm": 6}


CUDA_KERNELS = {
    # cuDNN
    "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64": "fp16",
    "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x64x64": "bf16",
    "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16": "tf32",
    "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs": "int8",
    "turing_h1688cudnn_256x128_ldg8_relu_exp_interior_nhwc_tn_v1": "fp16",
    "turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_interior_nhwc_tn_v1": "fp16",
    "ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1": "fp32",
    "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, 0, 0, int, __half, "
    "__half, __half, float, float, float>(cudnnTensorStruct)": "fp16",
    "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, 0, 0, int, float, "
    "float, float, float, float, float>(cudnnTensorStruct)": "fp32",
    "void conv2d_c1_k1_nhwc_kernel_specialized<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, "
    "float, float, 5, 1, 8, 3, true>(float, cudnnTensorStruct)": "bf16",
    "void implicit_convolve_sgemm<__half, __half, 128, 5, 5, 3, 3, 3, 1, true>(int)": "fp16",
    # cuBLAS
    "ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_64x4_tn": "fp16",
    "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn": "bf16",
    "ampere_h16816gemm_128x128_ldg8_stages_32x5_nn": "fp16",
    "ampere_sgemm_128x64_tn": "fp32",
    "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_warpsize1x2x1": "fp32",
    "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT": "fp16",
    "nvjet_sm90_hss_64x8_64x16_1x1_h_bz_splitK_NNT": "fp16",
    "nvjet_tst_64x32_64x16_2x2_2cta_h_bz_splitK_TNT": "bf16",
    "nvjet_sss_64x8_64x16_2x1_v_bz_splitK_TNT": "tf32",
    "void gemv2T_kernel_val<int, int, __half, __half, __half, float, 128, 16, 4, 4>(float)": "fp16",
    # CUTLASS
    "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x128_32x5_nn_align8>"
    "(cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x128_32x5_nn_align8::Params)": "bf16",
    "cutlass_80_wmma_tensorop_f16_s161616gemm_f16_16x16_128x2_tn_align8": "fp16",
    "cutlass_80_tensorop_s8_i16832gemm_s8_256x128_128x3_tn_align16": "int8",
    "cutlass_80_tensorop_s1688gemm_128x128_16x4_tn_align4": "tf32",
    "cutlass_80_simt_sgemm_128x64_8x5_tn_align1": "fp32",
    # torch
    "void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<3, c10::Half, int>"
    "(at::GenericPackedTensorAccessor<c10::Half const, 4ul>)": "fp16",
}
LIGHT_CUDA_KERNELS = (
    "triton_poi_fused_convolution_relu_0",
    "triton_per_fused_mm_native_layer_norm_3",
    "triton_red_fused_conv2d_mean_1",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __half, float, __half, true>(float)",
    "void cudnn::ops::nchwToNhwcKernel<__half, __half, float, false, true>(float)",
    "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>(float)",
    "void cask__5x_cudnn::computeOffsetsKernel<false, false>(cask__5x_cudnn::Params)",
    "void pytorch_flash::flash_fwd_kernel<traits<64, 128, 128, 4, cutlass::half_t>>",
    "fmha_cutlassF_f16_aligned_64x64_rf_sm80(AttentionKernel<cutlass::half_t>::Params)",
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_6_64x128x64",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>>(int)",
    "Memcpy HtoD (Pinned -> Device)",
    "Memset (Device)",
)


@pytest.mark.parametrize(("name", "precision"), CUDA_KERNELS.items())
def test_a_gpus_kernel_is_known_by_its_name(name, precision):
    assert read_cuda_kernels([name]) == [(name, precision)]


@pytest.mark.parametrize("name", LIGHT_CUDA_KERNELS)
def test_a_gpus_kernel_that_multiplies_no_weights_is_not_counted(name):
    assert read_cuda_kernels([name]) == []


@pytest.mark.parametrize("name", ["sm120_gemm_in_a_type_of_2027", "triton_tem_fused_addmm_2"])
def test_a_gpus_product_in_an_unknown_precision_is_counted_as_unread(name):
    [(_, unread)] = read_cuda_kernels([name])
    assert why_not_what_it_claims(Kernels(source="a profile", ran={unread: 1}), "fp16")


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none"
)
@pytest.mark.parametrize(("dtype", "precision"), [("float16", "fp16"), ("bfloat16", "bf16")])
def test_one_run_on_a_gpu_is_read_from_torchs_profile(dtype, precision):
    dtype = getattr(torch, dtype)
    convolution = nn.Conv2d(32, 64, 3, device="cuda", dtype=dtype)
    linear = nn.Linear(256, 128, device="cuda", dtype=dtype)
    pixels = torch.randn(2, 32, 64, 64, device="cuda", dtype=dtype)
    features = torch.randn(8, 256, device="cuda", dtype=dtype)

    def run() -> None:
        with torch.inference_mode():
            convolution(pixels)
            linear(features)

    run()
    found = of_cuda(run)
    assert set(found.ran) == {precision}, found
    assert sum(found.ran.values()) >= 2


def test_each_format_is_opened_by_its_own_program(tiny):
    for name, kind in (("torchscript", TorchScriptProgram), ("torch_export", TorchExportProgram)):
        program = tiny.manifest.programs[name]
        file = ProgramFile(
            path=tiny.path / program.file, format=program.format, precision=program.precision
        )
        assert type(BACKENDS.get("torch").open(file, threads=1)) is kind


def test_nothing_is_said_of_the_kernels_of_fp32(tmp_path: Path):
    file = ProgramFile(path=tmp_path / "p.pt", format="torchscript", precision="fp32")
    assert BACKENDS.get("torch").kernels(file, None, [], []) is None  # type: ignore[arg-type]


def test_lines_of_onednns_log_that_run_nothing_are_passed_over():
    assert read_onednn_log("onednn_verbose,v1,info,cpu,isa:AVX2\nsomething else\n") == []


def test_a_package_without_torchs_own_product_counts_none(tmp_path: Path):
    path = tmp_path / "p.pt2"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("kernel.cpp", "void kernel() {}")
    assert read_compiled_code(path) == {}


def test_the_backend_says_that_it_computes_with_torch():
    uses = {name: backend.uses_torch for name, backend in BACKENDS.all().items()}
    assert (uses["torch"], uses["onnxruntime"], uses["openvino"]) == (True, False, False)


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_every_format_of_a_backend_is_a_name_that_a_manifest_may_hold(name):
    assert all(format.isidentifier() for format in BACKENDS.get(name).formats)
