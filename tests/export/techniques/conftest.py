"""Both tiny models with their ONNX programs built, for the tests of all techniques."""

import pytest

from tests.conftest import TINY_RECIPE
from tests.export.workbench import Workbench, passes

TINY_TEXT_RECIPE = TINY_RECIPE.with_name("tiny_text_recipe.py")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A convolutional network on images."""
    bench = Workbench(tmp_path_factory.mktemp("images"), TINY_RECIPE)
    assert passes(bench, "onnx_fp32") == {"fp32": 4}
    assert passes(bench, "onnx_int8") == {"int8": 4}
    return bench


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A transformer on texts."""
    bench = Workbench(tmp_path_factory.mktemp("texts"), TINY_TEXT_RECIPE)
    assert passes(bench, "onnx_fp32") == {"fp32": 6}
    assert passes(bench, "onnx_dynamic_int8") == {"int8": 6}
    return bench
