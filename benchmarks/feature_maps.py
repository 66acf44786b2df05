"""Time from a layer's activation maps to a sheet that a browser can show.

    python -m benchmarks.feature_maps [--runs 15] [--threads 1]

Ours ranks the units by their maximum, draws each map on its own scale, and encodes the sheet as the
page about feature maps does. Beside it stands torchvision's `make_grid`, each map scaled on its
own, saved by Pillow: as it comes, and with the weak compression that ours has. Ours is in colour,
with each value enlarged to a square of pixels that can be seen; torchvision's has a pixel a value.

The maps are noise cut at zero, which compresses badly. Times are medians over interleaved runs in
one process; nothing is kept from run to run. Maps this small gain nothing from further threads, and
on a busy machine torch waits for them.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.utils import make_grid

from cnnvis_core import activations
from cnnvis_core.render.maps import map_sheet
from cnnvis_core.render.pictures import png

UNITS = 512
SIDES = (14, 28)
PNG_LEVELS = {"make_grid + Pillow": 6, "make_grid + Pillow, quick": 1}


def ours(maps: torch.Tensor) -> bytes:
    """Rank, draw and encode maps (units, h, w)."""
    order = activations.statistics(maps).order("maximum")
    return png(map_sheet(maps.cpu().numpy()[order], common=False).picture, quick=True)


def torchvisions(maps: torch.Tensor, level: int) -> bytes:
    """Draw and encode maps (units, h, w), in the order that they have."""
    grid = make_grid(maps[:, None], nrow=32, normalize=True, scale_each=True)
    pixels = grid.mul(255).add_(0.5).clamp_(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(side: int, runs: int) -> list[str]:
    """Lines of the table for maps of one size."""
    maps = torch.randn(UNITS, side, side, generator=torch.Generator().manual_seed(0)).relu()
    ways: dict[str, Callable[[], bytes]] = {"cnnvis": lambda: ours(maps)}
    for name, level in PNG_LEVELS.items():
        ways[name] = lambda level=level: torchvisions(maps, level)  # type: ignore[misc]
    # The first call of each imports and allocates.
    sheets = {name: work() for name, work in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, work in ways.items():
            times[name].append(seconds(work))
    medians = {name: statistics.median(values) for name, values in times.items()}
    lines = []
    for name, median in medians.items():
        width, height = Image.open(io.BytesIO(sheets[name])).size
        lines.append(
            f"| {UNITS} x {side} x {side} | {name} | {1000 * median:.1f} ms | "
            f"{median / medians['cnnvis']:.2f} x | {width} x {height} px, "
            f"{len(sheets[name]) / 1024:.0f} KiB |"
        )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| maps | way | median time | to ours | sheet |")
    print("|---|---|---|---|---|")
    for side in SIDES:
        print("\n".join(measure(side, arguments.runs)), flush=True)


if __name__ == "__main__":
    main()
