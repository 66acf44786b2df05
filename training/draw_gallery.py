"""Draw the README's gallery: the first units of some layers of the embedded picture network.

    python -m training.draw_gallery [--out docs/maximization_gallery.webp]

No unit is picked by hand; the same call gives the same picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import cnnvis_core as cv

LAYERS = ("stages.0.0.conv2", "stages.1.0.conv2", "stages.2.0.conv2", "stages.3.0.conv2")
UNITS = 10
SIZE = 96  # pixels
STEPS = 256
GAP = 4  # pixels


def main() -> None:
    """Draw a row a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/maximization_gallery.webp"))
    out: Path = parser.parse_args().out
    model = cv.load("resnet64-tiny-imagenet")
    side = SIZE + GAP
    canvas = np.full((side * len(LAYERS) - GAP, side * UNITS - GAP, 4), 0, np.uint8)
    for row, layer in enumerate(LAYERS):
        units = list(range(UNITS))
        found = cv.run(cv.maximize(model, layer, units, STEPS, SIZE, rectified=True))
        pixels = (found.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for col, picture in enumerate(pixels):
            place = canvas[row * side : row * side + SIZE, col * side : col * side + SIZE]
            place[..., :3], place[..., 3] = picture, 255
        print(
            layer, *(f"{value:.3g}" for value in found.end_activation), *filter(None, found.notes)
        )
    Image.fromarray(canvas, "RGBA").save(out, quality=88, method=6)


if __name__ == "__main__":
    main()
