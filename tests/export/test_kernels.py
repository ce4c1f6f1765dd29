"""What a program really computes in, read from logs, profiles and code."""

import os
import subprocess
import sys
import zipfile
from collections import Counter

import pytest
import torch
from torch import nn

from export.kernels import (
    of_torch,
    read_compiled_code,
    read_onednn_log,
    why_not_what_it_claims,
)
from shipway.artifact.certificate import Kernels

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


@pytest.mark.parametrize(
    ("ran", "precision", "refused"),
    [
        ({"int8": 9, "fp32": 1}, "int8", False),
        ({"int8": 8, "fp32": 2}, "int8", True),
        ({"fp32": 4}, "int8", True),
        ({}, "int8", True),
        ({}, "fp32", False),
        ({"bf16": 4}, "fp32", True),
    ],
)
def test_nine_in_ten_heavy_operations_must_run_as_claimed(ran, precision, refused):
    reason = why_not_what_it_claims(Kernels(source="a test", ran=ran), precision)
    assert (reason is not None) == refused


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
from export.kernels import of_torch
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
