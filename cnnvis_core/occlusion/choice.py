"""Choosing between the engines by what was measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch

from cnnvis_core.models.graph import UntraceableError
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion.evaluators import (
    Evaluator,
    FullEvaluator,
    IncrementalEvaluator,
)
from cnnvis_core.occlusion.grid import Cell
from cnnvis_core.occlusion.occluder import Occluder

Engine = Literal["auto", "full", "incremental"]
LARGEST_GAP = 1e-4  # of the range of the logits
TRIAL = 2  # positions that both engines measure first, to compare answers and speed
TOO_LARGE = "there is too little memory to keep what does not change"
CLEAR_LEAD = 1.5  # a smaller one is measured twice, since first calls are slow


class EngineChoice:
    """The engine of one job.

    The first positions are measured by both engines: the answers must agree, and for ``"auto"``
    the quicker one goes on. Nothing that was measured is thrown away.

    Parameters
    ----------
    model, occluder
        What is measured.
    engine : {"auto", "full", "incremental"}
        What the user asked for.
    """

    def __init__(self, model: Model, occluder: Occluder, engine: Engine) -> None:
        self.full = FullEvaluator(model, occluder)
        self.current: Evaluator = self.full
        self.other: Evaluator | None = None
        self.note = "too few positions to time" if engine == "auto" else "as asked for"
        self.used = "full"
        self._auto = engine == "auto"
        self._seconds: dict[str, float] = {}
        if engine != "full":
            try:
                self.current = IncrementalEvaluator(model, occluder)
                self.other = self.full
            except UntraceableError as reason:
                self._fall_back(str(reason))
            except torch.OutOfMemoryError:
                self._fall_back(TOO_LARGE)
        self.used = self.current.name

    def size(self) -> int:
        """How many positions to take at once."""
        size = self.current.size()
        if self.other is None or "full" in self._seconds:
            return size
        # Whole batches of the full engine, which may have to take them over.
        return max(1, size // self.full.size()) * self.full.size()

    def shrink(self) -> bool:
        """Take fewer at once; False if one is already too many."""
        smaller = self.current.shrink()
        if self.other is not None:
            smaller = self.other.shrink() or smaller
        if not smaller and self.current is not self.full:
            self._fall_back(TOO_LARGE)
            return True
        return smaller

    def logits(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Logits (len(cells), classes)."""
        if self.current is self.full:
            return self.full.logits(cells)
        try:
            if self.other is None:
                return self.current.logits(cells)
            return self._compare(cells) if "full" not in self._seconds else self._race(cells)
        except UntraceableError as reason:
            self._fall_back(str(reason))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self._fall_back("one of its operations cannot be followed")
        return self._in_full(cells)

    def _in_full(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Answers of the full engine in batches of its own size."""
        size = self.full.size()
        batches = [cells[first : first + size] for first in range(0, len(cells), size)]
        return torch.cat([self.full.logits(batch) for batch in batches])

    def _compare(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Both engines for the first positions; the answers must be the same."""
        # From all over the batch, so that inputs which see their neighbours in it are noticed.
        count = min(TRIAL, self.full.size(), len(cells))
        trial = [(i + 1) * len(cells) // (count + 1) for i in range(count)]
        expected = self._timed(self.full, [cells[i] for i in trial])
        found = self.current.logits(cells)
        span = float(expected.max() - expected.min())
        gap = float((found[trial] - expected).abs().max())
        if not gap <= LARGEST_GAP * span + 1e-30:
            self._fall_back("its recorded operations give other answers")
            return self._in_full(cells)
        if not self._auto:
            self.other = None
        return found

    def _race(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Time the incremental engine, and the full one again if they are close; then decide."""
        if "incremental" not in self._seconds:
            found = self._timed(self.current, cells)
            if self._seconds["incremental"] * CLEAR_LEAD <= self._seconds["full"]:
                self._decide()
            return found
        found = self._timed(self.full, cells[: self.full.size()])
        self._decide()
        rest = cells[len(found) :]
        return torch.cat([found, self.current.logits(rest)]) if rest else found

    def _decide(self) -> None:
        full, incremental = self._seconds["full"], self._seconds["incremental"]
        if full < incremental:
            self.current = self.full
        self.used, self.other = self.current.name, None
        self.note = (
            f"measured {1000 * incremental:.2g} ms a position incrementally, "
            f"{1000 * full:.2g} ms in full"
        )

    def _timed(self, evaluator: Evaluator, cells: Sequence[Cell]) -> torch.Tensor:
        began = time.perf_counter()
        found = evaluator.logits(cells)
        if found.is_cuda:
            torch.cuda.synchronize(found.device)
        self._seconds[evaluator.name] = (time.perf_counter() - began) / len(cells)
        return found

    def _fall_back(self, reason: str) -> None:
        self.current, self.other, self.used = self.full, None, "full"
        self.note = f"the whole network each time, since {reason}"
