"""Trains a small convolutional network on scikit-learn's 1,797 handwritten digits.

    python -m export.training.digits

It trains on what will be served: uint8 pixels that the serving decoder made of a PNG.
B = rows, H, W = pixels, C = channels, K = 10 classes.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from torch import Tensor, nn

from export.training.loop import WEIGHTS, Schedule, Split, fit, save, split_rows
from shipway.export.served_module import FromPixels
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing, Rows

CHECKPOINT = WEIGHTS / "digits.safetensors"
SCHEDULE = Schedule(epochs=15, batch_size=64, learning_rate=3e-3, weight_decay=0.05, seed=0)
PREPROCESSING = ImagePreprocessing(
    height=32,
    width=32,
    crop_fraction=1.0,
    resample="bilinear",
    mean=(78.0, 78.0, 78.0),
    std=(83.0, 83.0, 83.0),
    source="export/training/digits.py, which trains on these very pixels; "
    "mean and deviation are those of its training digits, rounded",
)


class Digits(nn.Module):
    """Three convolutions, 66,000 weights: normalised pixels (B, 3, 32, 32) to logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_block(1, 32), *_block(32, 64), *_block(64, 64))
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        grey_B1HW = pixels_BCHW.mean(1, keepdim=True)  # ink of any colour is ink
        logits_BK: Tensor = self.classifier(self.features(grey_B1HW).flatten(1))
        return logits_BK


def _block(channels: int, out: int) -> tuple[nn.Module, ...]:
    """Half the height and width, `out` channels."""
    convolution = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(out), nn.ReLU()


def levels() -> Split:
    """The digits as scikit-learn has them: 8 × 8 levels of ink from 0 to 16, light on dark."""
    digits = load_digits()
    rows = Rows((digits.images,), digits.target.astype(np.int64))
    return split_rows(rows, validation=0.1, test=0.3, seed=0)


def split() -> Split:
    """60% to train on, 10% to choose the epoch by, 30% to test on; the same ones each time."""
    parts = levels()
    return Split(
        train=served(parts.train), validation=served(parts.validation), test=served(parts.test)
    )


def served(digits: Rows, enlarged: int = 1) -> Rows:
    """The pixels that serving makes of these digits, each sent as a PNG."""
    pixels = [decode_image(png(each, enlarged), PREPROCESSING) for each in digits.arrays[0]]
    return Rows((np.stack(pixels),), digits.targets)


def png(levels_HW: np.ndarray, enlarged: int = 1) -> bytes:
    """A digit as an image file: 8 × 8 squares of grey from 0 to 255, `enlarged` pixels wide."""
    grey_HW = (levels_HW * 255 / 16).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey_HW.repeat(enlarged, 0).repeat(enlarged, 1)).save(file, "PNG")
    return file.getvalue()


def shifted(pixels_BHWC: Tensor, random: torch.Generator) -> Tensor:
    """Each image moved by up to an eighth of its side, black coming in."""
    most = PREPROCESSING.height // 8
    padded_BHWC = nn.functional.pad(pixels_BHWC, (0, 0, most, most, most, most))
    height, width = pixels_BHWC.shape[1:3]
    corners = torch.randint(0, 2 * most + 1, (len(pixels_BHWC), 2), generator=random).tolist()
    return torch.stack(
        [
            image_HWC[top : top + height, left : left + width]
            for image_HWC, (top, left) in zip(padded_BHWC, corners, strict=True)
        ]
    )


def train(schedule: Schedule = SCHEDULE, console: Console | None = None) -> dict[str, Tensor]:
    """The trained Digits' state_dict."""
    # At eight pixels a digit can hardly be seen, so people will send enlarged ones: it trains on
    # both. Enlarged by ten they keep the edges of their squares, which the resizing smooths away
    # in the others.
    small, parts = levels().train, split()
    large = served(small, enlarged=10)
    both = np.concatenate([*parts.train.arrays, *large.arrays])
    targets = np.concatenate([small.targets, small.targets])
    trained = fit(
        lambda: FromPixels(Digits(), PREPROCESSING),
        replace(parts, train=Rows((both,), targets)),
        schedule,
        augment=shifted,
        console=console,
    )
    return {
        name.removeprefix("module."): tensor
        for name, tensor in trained.state.items()
        if name.startswith("module.")  # the rest is the preprocessing, which export adds itself
    }


def main(out: Path = typer.Option(CHECKPOINT, help="Where the state_dict goes.")) -> None:
    """Train the digits' network and save its best epoch."""
    console = Console(highlight=False, soft_wrap=True)
    save(train(console=console), out, console)


if __name__ == "__main__":
    typer.run(main)
