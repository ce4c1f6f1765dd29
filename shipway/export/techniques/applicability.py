"""Which models a technique is for, told from their layers."""

from torch import nn

from shipway.export.techniques.base import heavy_layers


def convolutional(module: nn.Module) -> str | None:
    """Static ranges suit convolutions, whose activations differ little from input to input."""
    convolutions, linear = heavy_layers(module)
    if convolutions:
        return None
    return f"for convolutional models; this one has {linear} linear layers and no convolution"


def linear(module: nn.Module) -> str | None:
    """Ranges taken afresh in every run suit linear layers; convolutions would pay more for them."""
    convolutions, linear = heavy_layers(module)
    if not linear:
        return "for models of linear layers, of which this one has none"
    if convolutions:
        return f"for models of linear layers; this one has {convolutions} convolutions"
    return None
