"""The module as it is served: preprocessing is part of it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipway.export.errors import BadInputs
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import FromPixels, Unwrapped, as_served, layer_prefix, unwrapped
from shipway.recipe import Recipe, TensorPreprocessing
from tests.conftest import DATA, TINY_RECIPE


def test_pixels_are_normalised_and_their_channels_come_first(spec):
    module = FromPixels(nn.Identity(), spec)
    pixels_BHWC = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    found = module(torch.from_numpy(pixels_BHWC)).numpy()
    expected = (pixels_BHWC.astype(np.float32) - np.array(spec.mean)) / np.array(spec.std)
    assert np.allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_images_get_a_wrapper_and_tables_do_not_and_both_are_in_eval_mode():
    images, _ = find_recipe(str(TINY_RECIPE))
    served = as_served(images.module(), images)
    assert (type(served), layer_prefix(served), served.training) == (FromPixels, "module.", False)
    table, _ = find_recipe(str(DATA / "tiny_table_recipe.py"))
    module = table.module()
    assert as_served(module, table) is module and not module.training
    assert layer_prefix(module) == ""


class Profit(nn.Module):
    def forward(self, price: Tensor, cost: Tensor) -> Tensor:
        return price - cost


class Masked(nn.Module):
    """Like those of Hugging Face: an optional argument between the two that are given."""

    def forward(
        self, values: Tensor, types: Tensor | None = None, *, which: Tensor
    ) -> Mapping[str, Tensor]:
        assert types is None
        return {"sum": values.sum(dim=(1, 2)), "which": which}


def named(*names: str) -> Recipe:
    recipe, _ = find_recipe(str(DATA / "tiny_tensors_recipe.py"))
    assert isinstance(recipe.preprocessing, TensorPreprocessing)
    inputs = recipe.preprocessing.inputs
    specs = tuple(inputs[0].model_copy(update={"name": name}) for name in names)
    preprocessing = recipe.preprocessing.model_copy(update={"inputs": specs})
    return replace(recipe, preprocessing=preprocessing)


EXAMPLE = [torch.full((2, 6, 5), 3.0), torch.full((2, 6, 5), 1.0)]


def test_inputs_are_passed_by_the_names_of_forwards_parameters():
    in_order = unwrapped(Profit(), named("price", "cost"), EXAMPLE)
    assert isinstance(in_order.module, Profit)
    swapped = unwrapped(Profit(), named("cost", "price"), EXAMPLE)
    assert layer_prefix(swapped.module) == "module."
    assert (swapped.module(*EXAMPLE) == -2).all()
    by_place = unwrapped(Profit(), named("a", "b"), EXAMPLE)
    assert (by_place.module(*EXAMPLE) == 2).all()


def test_names_of_which_forward_knows_only_some_are_refused():
    with pytest.raises(BadInputs, match="has no parameter costs"):
        unwrapped(Profit(), named("price", "costs"), EXAMPLE)


def test_several_outputs_become_a_tuple_and_one_of_them_a_tensor():
    recipe = named("values", "which")
    served = unwrapped(Masked(), recipe, EXAMPLE)
    assert isinstance(served.module, Unwrapped)
    assert served.outputs == ("sum", "which")
    total, which = served.module(*EXAMPLE)
    assert total.tolist() == [90.0, 90.0] and (which == 1).all()
    one = unwrapped(Masked(), replace(recipe, outputs={"sum": "total"}), EXAMPLE)
    assert one.outputs == ("total",)
    assert one.module(*EXAMPLE).tolist() == [90.0, 90.0]
