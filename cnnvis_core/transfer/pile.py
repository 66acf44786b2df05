"""Items of a dataset as inputs, as many at a time as memory holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from cnnvis_core.datasets import Dataset
from cnnvis_core.datasets.decoding import decoded
from cnnvis_core.errors import InputError
from cnnvis_core.models.model import Model

MEMORY = 2**30  # bytes of decoded inputs
MOST_WINDOWS = 16  # of a long sound
LOOKED = 16  # sounds by which their length is judged


@dataclass(frozen=True, eq=False)
class Block:
    """Items in memory.

    Attributes
    ----------
    inputs : list of Tensor (windows, C, H, W)
        A picture has one window.
    labels : Tensor of int64 (items,)
        Their classes.
    """

    inputs: list[torch.Tensor]
    labels: torch.Tensor

    def drawn(self, items: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One window of each of some items, drawn at random: (len(items), C, H, W)."""
        chosen = []
        for item in items.tolist():
            windows = self.inputs[item]
            at = 0
            if len(windows) > 1:
                at = int(torch.randint(len(windows), (1,), generator=generator))
            chosen.append(windows[at])
        return torch.stack(chosen)


@dataclass(eq=False)
class Pile:
    """Some items of a dataset.

    Attributes
    ----------
    model : Model
        Whose inputs they become.
    dataset : Dataset
        Where they come from.
    indices : sequence of int
        Which items.
    seed : int
        Of the way they are cut into blocks, where memory does not hold them all.
    memory : int
        Bytes of inputs that may be held.
    broken : dict
        Index -> why it cannot be used, of those looked at so far.
    """

    model: Model
    dataset: Dataset
    indices: Sequence[int]
    seed: int = 0
    memory: int = MEMORY
    broken: dict[int, str] = field(default_factory=dict)
    _kept: Block | None = None

    @property
    def whole(self) -> Block | None:
        """All items at once, once they were looked at; None where memory does not hold them."""
        return self._kept

    @cached_property
    def count(self) -> int:
        """Blocks that the items are cut into; some are decoded to see how long sounds are."""
        each = 4 * math.prod(self.model.input_shape)
        some = [
            self.indices[n] for n in range(0, len(self.indices), 1 + len(self.indices) // LOOKED)
        ]
        windows = 1.0
        if self.model.modality == "audio":
            found = [parts for _, parts in decoded(self.model, self.dataset, some)]
            counts = [min(len(x), MOST_WINDOWS) for x in found if not isinstance(x, InputError)]
            windows = sum(counts) / len(counts) if counts else 1.0
        return max(1, math.ceil(len(self.indices) * each * windows / self.memory))

    def blocks(self) -> Iterator[Block | int]:
        """All items once, in blocks; in between, how many items were decoded just now."""
        if self._kept is not None:
            yield self._kept
            return
        generator = torch.Generator().manual_seed(self.seed)
        mixed = torch.randperm(len(self.indices), generator=generator)
        for number in range(self.count):
            wanted = sorted(self.indices[place] for place in mixed[number :: self.count].tolist())
            inputs: list[torch.Tensor] = []
            labels: list[int] = []
            for index, found in decoded(self.model, self.dataset, wanted):
                if isinstance(found, InputError):
                    self.broken[index] = str(found)
                else:
                    inputs.append(torch.cat(found[:MOST_WINDOWS]))
                    labels.append(self.dataset.labels[index])
                yield 1
            block = Block(inputs, torch.tensor(labels, dtype=torch.long))
            if self.count == 1:
                self._kept = block
            if inputs:
                yield block

    def lost(self) -> dict[int, str]:
        """Classes none of whose items can be used, and why not; to be asked after one round."""
        labels = self.dataset.labels
        left = {labels[index] for index in self.indices if index not in self.broken}
        return {labels[i]: why for i, why in self.broken.items() if labels[i] not in left}
