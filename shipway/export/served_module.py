"""The module as it is served: from what the wire carries to logits.

B = rows, H, W = pixels, C = channels, K = classes.
"""

import torch
from torch import Tensor, nn

from shipway.recipe import ImagePreprocessing, Recipe


def as_served(module: nn.Module, recipe: Recipe) -> nn.Module:
    """The module in eval mode, around it what turns the wire's inputs into its own.

    Token ids and raw numbers are what modules for text and tables take already.
    """
    if isinstance(recipe.preprocessing, ImagePreprocessing):
        module = FromPixels(module, recipe.preprocessing)
    return module.eval()


class FromPixels(nn.Module):
    """uint8 pixels (B, H, W, C) to the module's own outputs, (B, K).

    Layout, cast and normalisation are part of the program: once per batch instead of once per
    photo, and a quarter of the bytes to move. The layout changes first, on the bytes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, preprocessing: ImagePreprocessing) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32)
        logits_BK: Tensor = self.module((pixels_BCHW - self.mean) * self.scale)
        return logits_BK
