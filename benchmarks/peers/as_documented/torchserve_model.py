"""The model file that TorchServe's archiver asks for: one class, made without arguments."""

from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_model_params


class EfficientNetLite0(EfficientNet):
    def __init__(self) -> None:
        super().__init__(*get_model_params("efficientnet-lite0", {}))
