"""ResNet-50 with random weights, for speed work only: its answers mean nothing.

Trained ones are a file away: shipway export resnet50 --weights resnet50-11ad3fa6.pth
"""

import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.resnet import Bottleneck

from export.recipes._photos import CALIBRATION_PHOTOS, EVALUATION_PHOTOS
from shipway.export.photos import crops
from shipway.export.served_module import as_served
from shipway.recipe import Axis, ImagePreprocessing, Recipe

TRAINED = ResNet50_Weights.IMAGENET1K_V2


def random_resnet50() -> nn.Module:
    """The same random weights each time, made such that what quantization changes shows.

    As it is initialised, the network gives every photo the same class. So BatchNorm takes its
    statistics from eight calibration photos, and each block adds little to what it is given, as it
    does in trained networks: int8 then agrees with fp32 on 29 of the 32 photos, instead of 25.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = resnet50()
        for each in module.modules():
            if isinstance(each, Bottleneck):
                nn.init.constant_(each.bn3.weight, 0.2)
            if isinstance(each, nn.BatchNorm2d):
                each.momentum = None  # the plain average of what it has seen
        (pixels_BHWC,) = recipe.calibration.load(recipe).arrays
        torch.set_num_threads(1)  # sums cut into other parts would round otherwise
        try:
            as_served(module, recipe).train()(torch.from_numpy(pixels_BHWC[::4]))
        finally:
            torch.set_num_threads(threads)
    return module.eval()


recipe = Recipe(
    name="resnet50",
    task="image_classification",
    module=random_resnet50,
    weights=lambda: None,
    batch=Axis(name="batch", min=1, max=32),
    preprocessing=ImagePreprocessing(
        height=224,
        width=224,
        crop_fraction=224 / 232,
        resample="bilinear",
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
        std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
        source="torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms(): resize to 232, "
        "crop 224, ImageNet's mean and deviation",
    ),
    labels=lambda: TRAINED.meta["categories"],
    calibration=crops(CALIBRATION_PHOTOS, each=4, seed=0, augment=True),
    evaluation=crops(EVALUATION_PHOTOS, each=4, seed=1),
)
