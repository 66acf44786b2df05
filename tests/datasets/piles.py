"""Small collections of pictures in every form that can be indexed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def pictures(count: int = 60, side: int = 40, seed: int = 0) -> dict[str, bytes]:
    """PNG files by name, in folders by class; each another noise of another coarseness."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(count):
        coarse = 1 + number % 5
        noise = rng.integers(0, 256, (side // coarse, side // coarse, 3), np.uint8)
        picture = Image.fromarray(noise).resize((side, side), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        found[f"{CLASSES[number % 3]}/{number:03d}.png"] = buffer.getvalue()
    return dict(sorted(found.items()))


def as_folder(files: dict[str, bytes], where: Path) -> Path:
    for name, data in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return where


def as_zip(files: dict[str, bytes], where: Path) -> Path:
    with zipfile.ZipFile(where, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return where


def as_parquet(files: dict[str, bytes], where: Path, rows: int = 17) -> Path:
    labels = [CLASSES.index(name.split("/")[0]) for name in files]
    table = pa.table({"name": list(files), "label": labels, "webp": list(files.values())})
    pq.write_table(table, where, row_group_size=rows)
    return where
