"""Covering patches of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion.grid import Cell, Grid, pixel_axis
from cnnvis_core.occlusion.incremental.boxes import Boxes, Change, MapRows

PictureFill = str | tuple[float, ...] | None
PICTURE_FILLS = ("mean", "black", "white", "gray", "blur", "noise")
_PLAIN = {"black": 0.0, "white": 1.0, "gray": 0.5}
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L


def _pair(value: object, what: str) -> tuple[int, int]:
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not all(
        isinstance(v, int | float | np.integer) and not isinstance(v, bool) for v in values
    ):
        raise InputError(
            f"The {what} is a number of input pixels or a pair (height, width), not {value!r}."
        )
    return values[0], values[1]


def default_patch(model: Model) -> tuple[int, int]:
    """Patch and stride, in input pixels, that suit a network's input size.

    A seventh and a fourteenth of the side for large inputs (32 and 16 at 224 pixels); networks for
    small pictures get larger shares, since a few of their pixels change too little.
    """
    side = min(model.input_shape[-2:])
    if side >= 160:
        return max(1, round(side / 7)), max(1, round(side / 14))
    return max(1, round(side * 3 / 16)), max(1, round(side / 16))


@dataclass(frozen=True, eq=False)
class PictureOccluder:
    """Covers rectangles of one preprocessed picture.

    Attributes
    ----------
    x : Tensor (1, C, H, W)
        The clean, preprocessed picture.
    replacement : Tensor (1, C, H, W)
        What shows where a patch covers it, preprocessed likewise.
    grid : Grid
        Where the patches lie.
    fill : str
        The fill in words.
    """

    x: torch.Tensor
    replacement: torch.Tensor
    grid: Grid
    fill: str

    def clean(self) -> torch.Tensor:
        """The picture itself."""
        return self.x

    def covered(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Pictures (len(cells), C, H, W), each with one patch covered."""
        batch = self.x.repeat(len(cells), 1, 1, 1)
        for picture, cell in zip(batch, cells, strict=True):
            top, left, bottom, right = self.grid.box(cell)
            picture[:, top:bottom, left:right] = self.replacement[0, :, top:bottom, left:right]
        return batch

    def changes(self, cells: Sequence[Cell]) -> Change:
        """How the pictures of `covered` differ from the clean one."""
        top, left, bottom, right = np.array([self.grid.box(cell) for cell in cells]).T
        extent = (self.grid.rows.extent, self.grid.cols.extent)
        boxes = Boxes.around(np.stack([top, left]), np.stack([bottom, right]), extent)
        rows, zeros = np.arange(len(cells)), np.zeros(len(cells), np.int64)
        content = self._new.gather(zeros, boxes.origin, boxes.size)
        if (boxes.high - boxes.low != np.array(boxes.size)[:, None]).any():
            # Patches that the border cuts; the rest of their rectangle stays as it is.
            clean = self._clean.gather(zeros, boxes.origin, boxes.size)
            covered = boxes.mask().to(content.device)
            content = torch.where(covered[..., None], content, clean)
        return Change(rows, content.permute(0, 3, 1, 2), boxes)

    @cached_property
    def _new(self) -> MapRows:
        return MapRows(self.replacement, 0.0)

    @cached_property
    def _clean(self) -> MapRows:
        return MapRows(self.x, 0.0)

    def masked(self, cover: Sequence[NDArray[np.bool_]]) -> torch.Tensor:
        """Pictures (len(cover), C, H, W), each with all places of a map (H, W) covered."""
        masks = torch.from_numpy(np.stack(cover)).to(self.x.device)[:, None]
        return torch.where(masks, self.replacement, self.x)


def picture_occluder(
    model: Model,
    x: torch.Tensor,
    patch: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: PictureFill = None,
) -> PictureOccluder:
    """Prepare to cover patches of a picture.

    Parameters
    ----------
    model : Model
        Gives the normalisation that ``x`` went through.
    x : Tensor (1, C, H, W)
        From ``model.preprocess``.
    patch, stride : int or (height, width), optional
        In input pixels; by default what `default_patch` says.
    fill : str or tuple of float, optional
        See `occlude`.

    Raises
    ------
    InputError
        If ``x``, a size or the fill cannot be used.
    """
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or len(x) != 1:
        raise InputError("A picture is given as model.preprocess(image), a tensor (1, C, H, W).")
    usual_patch, usual_stride = default_patch(model)
    patch = usual_patch if patch is None else patch
    # A patch smaller than the usual stride must not fail for a stride nobody chose.
    (height, width) = _pair(patch, "patch")
    if stride is None:
        stride = (min(usual_stride, height), min(usual_stride, width))
    (down, across) = _pair(stride, "stride")
    grid = Grid(
        pixel_axis(x.shape[2], height, down),
        pixel_axis(x.shape[3], width, across),
    )
    x = x.detach().to(model.device, torch.float32)
    replacement, words = _replacement(model, x, fill)
    return PictureOccluder(x, replacement, grid, words)


def _replacement(model: Model, x: torch.Tensor, fill: PictureFill) -> tuple[torch.Tensor, str]:
    """The covering picture in the network's units, and the fill in words."""
    channels = x.shape[1]
    mean, std = (
        torch.tensor(getattr(model.frontend, name), device=x.device).view(1, -1, 1, 1)
        for name in ("mean", "std")
    )
    picture = x * std + mean  # [0, 1], as the user sees it
    average = picture.mean((2, 3), keepdim=True)
    if fill is None or fill == "mean":
        return ((average - mean) / std).expand_as(x), "the picture's mean colour"
    if isinstance(fill, str) and fill in _PLAIN:
        return ((_PLAIN[fill] - mean) / std).expand_as(x), fill
    if fill == "blur":
        from torchvision.transforms.functional import gaussian_blur

        sigma = max(x.shape[2:]) / 20
        kernel = [min(2 * int(3 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in x.shape[:1:-1]]
        return (gaussian_blur(picture, kernel, [sigma, sigma]) - mean) / std, "blur"
    if fill == "noise":
        seeded = torch.Generator().manual_seed(0)
        noise = torch.rand(x.shape, generator=seeded).to(x.device)
        return (noise - mean) / std, "noise"
    if isinstance(fill, tuple | list) and len(fill) == 3:
        colour = torch.tensor([float(v) for v in fill], device=x.device)
        if not bool(((colour >= 0) & (colour <= 1)).all()):
            raise InputError("A fill colour is three numbers from 0 to 1 (red, green, blue).")
        words = "the colour " + ", ".join(f"{float(v):.2f}" for v in fill)
        if channels == 1:
            colour = (colour * torch.tensor(_LUMINANCE, device=x.device)).sum()[None]
        elif channels != 3:
            colour = torch.cat([colour, average.flatten()[3:]])[:channels]
        return ((colour.view(1, -1, 1, 1) - mean) / std).expand_as(x), words
    raise InputError(
        f"The fill {fill!r} is not known; use one of {', '.join(PICTURE_FILLS)} "
        "or three numbers from 0 to 1 (red, green, blue)."
    )
