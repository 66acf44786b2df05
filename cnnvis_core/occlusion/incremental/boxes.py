"""Rectangles of change: one for every occluded input, all of one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Boxes:
    """One rectangle a row of a batch, along two axes of a tensor.

    The first axis of every array is (vertical, horizontal).

    Attributes
    ----------
    low, high : ndarray of int64, shape (2, rows)
        The positions that can differ from the clean value, the last one excluded.
    origin : ndarray of int64, shape (2, rows)
        Where the rectangles of common size begin; they contain the ones above.
    size : tuple of int
        Common size.
    extent : tuple of int
        Positions of the whole map.
    """

    low: Ints
    high: Ints
    origin: Ints
    size: tuple[int, int]
    extent: tuple[int, int]

    @staticmethod
    def around(low: Ints, high: Ints, extent: tuple[int, int]) -> Boxes:
        """Rectangles of the smallest common size that contain the given ones."""
        size = np.minimum((high - low).max(1), extent)
        origin = np.clip(np.minimum(low, (np.array(extent) - size)[:, None]), 0, None)
        return Boxes(low, high, origin, (int(size[0]), int(size[1])), extent)

    def __len__(self) -> int:
        return int(self.low.shape[1])

    @property
    def share(self) -> float:
        """Share of the map that one rectangle takes, in [0, 1]."""
        return self.size[0] * self.size[1] / (self.extent[0] * self.extent[1])

    def same_place(self, other: Boxes) -> bool:
        """Whether the rectangles of common size are the same."""
        return self.size == other.size and (
            self.origin is other.origin or bool((self.origin == other.origin).all())
        )

    def mask(self) -> torch.Tensor:
        """Which places of the rectangles of common size can differ, (rows, height, width)."""
        inside = []
        for axis, size in enumerate(self.size):
            place = self.origin[axis][:, None] + np.arange(size)
            inside.append((place >= self.low[axis][:, None]) & (place < self.high[axis][:, None]))
        return torch.from_numpy(inside[0][:, :, None] & inside[1][:, None, :])


@dataclass(frozen=True, eq=False)
class Change:
    """What a value is for the inputs of a batch in which it differs from the clean value.

    Attributes
    ----------
    rows : ndarray of int64, shape (R,), or None
        Which rows along the first axis differ, ascending; None: all, and the first axis may be
        another one than that of the batch.
    content : Tensor (R, ...)
        The rectangles, or the whole value of each row where ``boxes`` is None.
    boxes : Boxes or None
        Where the rectangles lie.
    axes : tuple of int
        Which axes of the value are vertical and horizontal.
    windows : int
        Above 0: the value is (n, windows, ...), while rows count through both axes.
    """

    rows: Ints | None
    content: torch.Tensor
    boxes: Boxes | None = None
    axes: tuple[int, int] = (2, 3)
    windows: int = 0


@dataclass(frozen=True)
class Window:
    """A sliding window, as in convolution and pooling: (vertical, horizontal) of each setting."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def reach(self) -> Ints:
        """Positions from the first to the last that a window sees, as a column."""
        return (np.array(self.dilation) * (np.array(self.kernel) - 1))[:, None]

    def behind(self, boxes: Boxes, extent: tuple[int, int]) -> tuple[Ints, Ints]:
        """Low and high of what changes behind the window, for an output of an extent."""
        stride, padding = np.array(self.stride)[:, None], np.array(self.padding)[:, None]
        low = -((self.reach - padding - boxes.low) // stride)
        high = (boxes.high - 1 + padding) // stride + 1
        return np.maximum(low, 0), np.minimum(high, np.array(extent)[:, None])

    def before(self, boxes: Boxes) -> tuple[Ints, tuple[int, int]]:
        """Origin and size of what the window must see to compute rectangles of its output."""
        stride, padding = np.array(self.stride)[:, None], np.array(self.padding)[:, None]
        origin = boxes.origin * stride - padding
        size = (np.array(boxes.size) - 1) * self.stride + self.reach[:, 0] + 1
        return origin, (int(size[0]), int(size[1]))


def pixels(origin: Ints, size: tuple[int, int], extent: tuple[int, int]) -> tuple[Ints, Ints]:
    """Flat position in a map of every place of every rectangle, and whether it lies in the map.

    Both have the shape (rows, height, width).
    """
    down = origin[0][:, None] + np.arange(size[0])
    across = origin[1][:, None] + np.arange(size[1])
    inside = ((down >= 0) & (down < extent[0]))[:, :, None] & (
        (across >= 0) & (across < extent[1])
    )[:, None, :]
    return down[:, :, None] * extent[1] + across[:, None, :], inside


class MapRows:
    """Clean maps (m, C, H, W) as rows of channels, from which rectangles are gathered.

    Parameters
    ----------
    maps : Tensor (m, C, H, W)
        The clean value.
    fill : float
        What stands outside the map.
    """

    def __init__(self, maps: torch.Tensor, fill: float) -> None:
        m, channels, height, width = maps.shape
        self.extent, self.count = (height, width), m
        rows = maps.permute(0, 2, 3, 1).reshape(-1, channels)
        self.rows = torch.cat([rows, rows.new_full((1, channels), fill)])

    def gather(self, which: Ints, origin: Ints, size: tuple[int, int]) -> torch.Tensor:
        """Rectangles (rows, h, w, C) of the maps numbered ``which``."""
        place, inside = pixels(origin, size, self.extent)
        place += (which * (self.extent[0] * self.extent[1]))[:, None, None]
        index = np.where(inside, place, len(self.rows) - 1)
        found = self.rows.index_select(0, torch.from_numpy(index.ravel()).to(self.rows.device))
        return found.view(len(which), *size, -1)


def paste(onto: torch.Tensor, at: Ints, content: torch.Tensor, origin: Ints) -> None:
    """Write rectangles into others, in place.

    Parameters
    ----------
    onto : Tensor (rows, h, w, C)
        Contiguous.
    at : ndarray (2, rows)
        Where each rectangle of ``onto`` begins in the map.
    content : Tensor (rows, h', w', C)
        What is written; parts that lie outside of ``onto`` are left out.
    origin : ndarray (2, rows)
        Where each rectangle of ``content`` begins in the map.
    """
    offset = origin - at
    target, size = onto.shape[1:3], content.shape[1:3]
    first = offset[:, 0]
    if (offset == first[:, None]).all() and (first >= 0).all():
        (top, left), (bottom, right) = first, first + size
        if bottom <= target[0] and right <= target[1]:
            onto[:, top:bottom, left:right] = content
            return
    place, inside = pixels(offset, (size[0], size[1]), (target[0], target[1]))
    place += (np.arange(len(onto)) * (target[0] * target[1]))[:, None, None]
    rows = content.reshape(-1, content.shape[-1])
    if not inside.all():
        kept = torch.from_numpy(np.flatnonzero(inside)).to(rows.device)
        rows, place = rows.index_select(0, kept), place[inside]
    flat = onto.view(-1, onto.shape[-1])
    flat.index_copy_(0, torch.from_numpy(place.ravel()).to(rows.device), rows)
