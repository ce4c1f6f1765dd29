"""The module as it is served: from the inputs of a request to the module's outputs.

B = rows, H, W = pixels, C = channels, K = classes.
"""

import torch
from torch import Tensor, nn

from shipway.recipe import ImagePreprocessing, Recipe


def as_served(module: nn.Module, recipe: Recipe) -> nn.Module:
    """The module in eval mode, with preprocessing in front of it.

    Modules for text, tables and tensors take the inputs of a request directly.
    """
    if isinstance(recipe.preprocessing, ImagePreprocessing):
        module = FromPixels(module, recipe.preprocessing)
    return module.eval()


def layer_prefix(served: nn.Module) -> str:
    """What `as_served` put before the names of the user's own layers."""
    return "module." if isinstance(served, FromPixels) else ""


class FromPixels(nn.Module):
    """uint8 pixels (B, H, W, C) to the module's outputs, (B, K).

    Layout, cast and normalisation are part of the program: they run once per batch instead of once
    per image, and requests carry a quarter of the bytes. The layout changes first, on uint8.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, preprocessing: ImagePreprocessing) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        """uint8 pixels (B, H, W, C) to the module's outputs."""
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32)
        logits_BK: Tensor = self.module((pixels_BCHW - self.mean) * self.scale)
        return logits_BK
