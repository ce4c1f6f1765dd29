"""The photos that installed packages bring, one of each scene, for recipes of image classifiers.

Photos of scenes and things are what a classifier will be asked about; most of them evaluate. The
calibration photos are as varied as possible, since they set the ranges of int8 programs.
"""

from pathlib import Path

import skimage.data
import sklearn.datasets

SCIKIT_IMAGE = Path(skimage.data.__file__).parent
SCIKIT_LEARN = Path(sklearn.datasets.__file__).parent / "images"

CALIBRATION_PHOTOS = (
    SCIKIT_IMAGE / "astronaut.png",
    SCIKIT_IMAGE / "cell.png",
    SCIKIT_IMAGE / "clock_motion.png",
    SCIKIT_IMAGE / "hubble_deep_field.jpg",
    SCIKIT_IMAGE / "ihc.png",
    SCIKIT_IMAGE / "motorcycle_left.png",  # motorcycle_right.png shows the same scene
    SCIKIT_IMAGE / "retina.jpg",
    SCIKIT_LEARN / "flower.jpg",
)
EVALUATION_PHOTOS = (
    SCIKIT_IMAGE / "brick.png",
    SCIKIT_IMAGE / "camera.png",
    SCIKIT_IMAGE / "chelsea.png",
    SCIKIT_IMAGE / "coffee.png",
    SCIKIT_IMAGE / "coins.png",
    SCIKIT_IMAGE / "grass.png",
    SCIKIT_IMAGE / "gravel.png",
    SCIKIT_IMAGE / "moon.png",
    SCIKIT_IMAGE / "page.png",
    SCIKIT_IMAGE / "rocket.jpg",
    SCIKIT_IMAGE / "text.png",
    SCIKIT_LEARN / "china.jpg",
)
