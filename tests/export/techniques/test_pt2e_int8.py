"""PyTorch's own int8, static and dynamic."""

from shipway.export.techniques.pt2e_int8 import quantized
from tests.export.workbench import passes


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "pt2e_int8") == {"int8": 4}


def test_a_transformer_comes_back_from_disk_and_agrees(texts):
    assert passes(texts, "pt2e_dynamic_int8") == {"int8": 6}


def test_the_dynamic_variant_is_not_for_convolutions(images):
    assert images.attempt("pt2e_dynamic_int8").verdict == (
        "skipped: for models with linear layers only; this model has 3 convolutions"
    )


def test_the_static_variant_is_not_for_linear_layers_alone(texts):
    verdict = texts.attempt("pt2e_int8").verdict
    assert verdict == (
        "skipped: for convolutional models only; this model has 6 linear layers and no convolution"
    )


def test_the_normalisation_before_the_first_layer_is_not_quantized(images):
    graph = quantized(images.job, dynamic=False).graph
    operators = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    first = next(i for i, name in enumerate(operators) if "quantize_per_tensor" in name)
    assert any("mul" in name for name in operators[:first])
