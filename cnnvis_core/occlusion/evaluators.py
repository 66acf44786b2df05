"""Two ways to ask a network about occluded inputs: all of it anew, or only what changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from cnnvis_core.models.graph import UntraceableError
from cnnvis_core.models.memory import free_bytes
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion.grid import Cell
from cnnvis_core.occlusion.incremental import CleanPass, Pass, forgets, rule_for
from cnnvis_core.occlusion.occluder import Occluder

_BATCH_BYTES = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
_LARGEST_BATCH = {"cpu": 32, "cuda": 256}
_LARGEST_INCREMENTAL = {"cpu": 256, "cuda": 1024}
FIRST_BATCH = 16
SECONDS_A_BATCH = 0.7  # so that previews come and Cancel works


class Evaluator(Protocol):
    """Answers of a network for occluded inputs."""

    name: str

    def size(self) -> int:
        """How many positions to take at once."""
        ...

    def shrink(self) -> bool:
        """Take half as many from now on; False if one is already too many."""
        ...

    def logits(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Logits (len(cells), classes)."""
        ...


class FullEvaluator:
    """The whole network for every position."""

    name = "full"

    def __init__(self, model: Model, occluder: Occluder) -> None:
        self.model, self.occluder = model, occluder
        self._size = batch_size(model, occluder.clean().shape)

    def size(self) -> int:
        """How many positions to take at once."""
        return self._size

    def shrink(self) -> bool:
        """Take half as many from now on; False if one is already too many."""
        self._size, before = max(1, self._size // 2), self._size
        return before > 1

    def logits(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Logits (len(cells), classes)."""
        return self.model.score(self.occluder.covered(cells), "logit")


class IncrementalEvaluator:
    """Only what changes (see `incremental`).

    Raises
    ------
    UntraceableError
        Here and from `logits`, if the forward pass cannot be followed.
    """

    name = "incremental"

    def __init__(self, model: Model, occluder: Occluder) -> None:
        self.occluder, self.device = occluder, model.device
        x = occluder.clean()
        with torch.inference_mode():
            graph = model.graph(tuple(x.shape[1:]))
            try:
                self.clean = CleanPass(graph, x, forgets)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                raise UntraceableError("its recorded operations cannot be run") from error
        # More than the full engine's, lest it mix the same inputs when the answers are compared.
        self._size = min(FIRST_BATCH, max(3, 2 * batch_size(model, x.shape)))
        self._most = _LARGEST_INCREMENTAL["cuda" if self.device.type == "cuda" else "cpu"]

    def size(self) -> int:
        """How many positions to take at once."""
        return self._size

    def shrink(self) -> bool:
        """Take half as many from now on; False if one is already too many."""
        self._size, before = max(1, self._size // 2), self._size
        self._most = self._size
        return before > 1

    def logits(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Logits (len(cells), classes)."""
        began = time.perf_counter()
        with torch.inference_mode():
            run = Pass(self.clean, len(cells), self.occluder.changes(cells))
            found = run.run(rule_for)
        self._adapt(len(cells), run.largest, time.perf_counter() - began)
        return found

    def _adapt(self, count: int, largest: int, seconds: float) -> None:
        """Choose the next batch by what the last one took."""
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        budget = min(_BATCH_BYTES[kind], free_bytes(self.device) // 8)
        # A rectangle, its surroundings and a working copy.
        by_memory = budget * count // max(1, 3 * largest)
        by_time = int(SECONDS_A_BATCH * count / max(seconds, 1e-9))
        size = max(1, min(self._most, by_memory, by_time, 4 * count))
        # Round numbers: torch keeps a compiled operation for every shape that it has met.
        self._size = 1 << size.bit_length() - 1 if size < 16 else size // 8 * 8


def batch_size(model: Model, shape: torch.Size | tuple[int, ...]) -> int:
    """How many inputs of a shape fit in a batch of bounded memory.

    A forward pass holds about the input and the output of the widest layer and a working copy.
    Small batches are quicker on a CPU, whose caches they fit.
    """
    kind = "cuda" if model.device.type == "cuda" else "cpu"
    values = max([int(np.prod(layer.output_shape)) for layer in model.layers], default=0)
    usual = int(np.prod(model.input_shape))
    scale = int(np.prod(shape[1:])) / usual if usual else 1.0
    bytes_each = 3 * 4 * max(values, 4 * usual) * max(1.0, scale)
    budget = min(_BATCH_BYTES[kind], free_bytes(model.device) // 8)
    return int(max(1, min(_LARGEST_BATCH[kind], budget // bytes_each)))
