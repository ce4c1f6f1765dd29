"""ONNX in dynamic int8."""

from shipway.export.techniques import TECHNIQUES
from tests.export.workbench import passes


def test_a_transformer_comes_back_from_disk_and_agrees(texts):
    assert passes(texts, "onnx_dynamic_int8") == {"int8": 6}


def test_it_is_not_for_convolutions(images):
    assert images.attempt("onnx_dynamic_int8").verdict == (
        "skipped: for models with linear layers only; this model has 3 convolutions"
    )


def test_its_file_is_smaller_than_that_of_fp32(texts):
    sizes = {
        name: (texts.job.programs / TECHNIQUES.get(name).file).stat().st_size
        for name in ("onnx_fp32", "onnx_dynamic_int8")
    }
    assert sizes["onnx_dynamic_int8"] < sizes["onnx_fp32"]
