"""The extras of the distribution, and the error for a command whose extra is not installed."""

import importlib.util
from types import MappingProxyType

from shipway.errors import ShipwayError

EXTRAS = MappingProxyType(
    {
        "export": ("onnx", "onnxscript", "safetensors", "torchao"),
        "bench": ("locust", "hdrh"),
        "openvino": ("openvino",),
        "ray": ("ray",),
        "signing": ("model_signing",),
        "traces": ("opentelemetry",),
        "demo": ("efficientnet_lite_pytorch", "skimage", "sklearn", "torchvision", "transformers"),
    }
)
"""Each extra of pyproject.toml, with the packages by which an installation of it is recognised."""


class MissingExtra(ShipwayError):
    """Something was asked for whose dependencies are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f'{what} needs the extra "{extra}". Install it with `{install_command(extra)}`.'
        )


def install_command(extra: str) -> str:
    """What installs an extra, for messages."""
    return f"pip install 'shipway[{extra}]'"


def require_extra(extra: str, what: str) -> None:
    """Raises MissingExtra unless the packages of `extra` are installed. It imports none of them.

    `what` begins the message: "Exporting" needs the extra "export".
    """
    if not is_installed(extra):
        raise MissingExtra(what, extra)


def is_installed(extra: str) -> bool:
    """Whether the packages of `extra` are installed."""
    return all(importlib.util.find_spec(package) is not None for package in EXTRAS[extra])
