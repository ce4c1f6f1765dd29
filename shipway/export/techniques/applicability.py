"""Which kinds of models a technique is for, judged by their layers."""

from torch import nn

from shipway.export.techniques.base import heavy_layers


def convolutional(module: nn.Module) -> str | None:
    """The reason why a technique with static ranges is not for this module, or None.

    Static ranges fit convolutions, whose activations vary little from input to input.
    """
    convolutions, linear = heavy_layers(module)
    if convolutions:
        return None
    return (
        f"for convolutional models only; this model has {linear} linear layers and no convolution"
    )


def linear(module: nn.Module) -> str | None:
    """The reason why a technique with dynamic ranges is not for this module, or None.

    Linear layers gain from ranges computed in every run; for convolutions they cost too much.
    """
    convolutions, linear = heavy_layers(module)
    if not linear:
        return "for models with linear layers only; this model has none"
    if convolutions:
        return f"for models with linear layers only; this model has {convolutions} convolutions"
    return None
