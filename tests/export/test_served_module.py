"""The module as it is served: preprocessing is part of it."""

import numpy as np
import torch
from torch import nn

from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import FromPixels, as_served, layer_prefix
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
