"""Counting a chunk: pass, tally. The same on one machine and on many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from cnnvis_core.datasets import Dataset
from cnnvis_core.datasets.decoding import decoded
from cnnvis_core.errors import InputError
from cnnvis_core.exemplars.tally import Answers, Tally, tally
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe

AHEAD = 3  # batches


@dataclass(frozen=True, eq=False)
class Counted:
    """A chunk, or the part of it that is done.

    Attributes
    ----------
    items : int
        Items that were looked at, broken ones as well.
    tallies : dict
        Layer -> `Tally`.
    broken : dict
        Index -> why.
    """

    items: int
    tallies: dict[str, Tally]
    broken: dict[int, str]


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts chunks of a collection.

    Attributes
    ----------
    model : Model
        Not changed.
    layers : tuple of str
        Whose units.
    k : int
        How many exemplars a unit.
    batch : int
        Inputs a pass.
    """

    model: Model
    layers: tuple[str, ...]
    k: int
    batch: int

    def probe(self) -> Probe:
        """What listens to the layers."""
        return Probe(self.model, self.layers, tuple(self.model.input_shape), folded=True)

    def count(self, dataset: Dataset, start: int, stop: int) -> Iterator[Counted]:
        """Count items from ``start`` up to ``stop``; yields after each pass what is counted."""
        probe, labels = self.probe(), dataset.labels
        classes = len(dataset.classes)
        tallies: dict[str, Tally] = {}
        broken: dict[int, str] = {}
        waiting: list[tuple[int, torch.Tensor]] = []
        seen = 0
        wanted = range(start, stop)
        for index, inputs in decoded(self.model, dataset, wanted, AHEAD * self.batch):
            seen += 1
            if isinstance(inputs, InputError):
                broken[index] = str(inputs)
            else:
                waiting += [(index, x) for x in inputs]
            while len(waiting) >= self.batch:
                waiting = self._count(tallies, probe, waiting, labels, classes)
                yield Counted(seen, tallies, broken)
        while waiting:
            waiting = self._count(tallies, probe, waiting, labels, classes)
        yield Counted(seen, tallies, broken)

    def _count(
        self,
        tallies: dict[str, Tally],
        probe: Probe,
        waiting: list[tuple[int, torch.Tensor]],
        labels: Sequence[int],
        classes: int,
    ) -> list[tuple[int, torch.Tensor]]:
        """Add a batch to the tallies; returns what still waits."""
        now, rest = self._whole(waiting)
        for layer, part in self._pass(probe, now, labels, classes).items():
            tallies[layer] = tallies[layer].plus(part) if layer in tallies else part
        return rest

    def _whole(
        self, waiting: list[tuple[int, torch.Tensor]]
    ) -> tuple[list[tuple[int, torch.Tensor]], list[tuple[int, torch.Tensor]]]:
        """A batch of whole items, and the rest; an item of many windows may be a large batch."""
        cut = min(self.batch, len(waiting))
        while cut < len(waiting) and waiting[cut][0] == waiting[cut - 1][0]:
            cut += 1
        return waiting[:cut], waiting[cut:]

    def _pass(
        self,
        probe: Probe,
        now: Sequence[tuple[int, torch.Tensor]],
        labels: Sequence[int],
        classes: int,
    ) -> dict[str, Tally]:
        device = self.model.device
        whose = [index for index, _ in now]
        items = list(dict.fromkeys(whose))
        with torch.inference_mode():
            counted_on = torch.device("cpu") if device.type == "mps" else device
            ids = torch.tensor(items, device=counted_on)
            own = [labels[index] if labels[index] < classes else -1 for index in items]
            of_class = torch.tensor(own, device=counted_on)
            passes: dict[str, list[Answers]] = {}
            for first in range(0, len(now), self.batch):  # one long sound is many windows
                inputs = torch.cat([x for _, x in now[first : first + self.batch]])
                for layer, values in probe.maps(inputs.to(device)).items():
                    # What Apple's devices lack, doubles, is counted on the processor.
                    passes.setdefault(layer, []).append(Answers.of_maps(values.to(counted_on)))
            found = {}
            for layer, parts in passes.items():
                answers = Answers.joined(parts)
                if len(items) < len(whose):
                    answers = _by_item(answers, whose, items)
                found[layer] = tally(answers, ids, of_class, self.k, classes)
        return found


def _by_item(answers: Answers, whose: list[int], items: list[int]) -> Answers:
    """Answers to items that were looked at in several windows, of which each has its number."""
    owner = torch.tensor(whose, device=answers.mean.device)
    maxima, means, places = [], [], []
    for item in items:
        mine = (owner == item).nonzero()[:, 0]
        maximum, window = answers.maximum[mine].max(0)
        at = answers.place[mine].gather(0, window[None, :, None].expand(1, -1, 3))[0]
        at[:, 2] = window
        places.append(at)
        maxima.append(maximum)
        means.append(answers.mean[mine].mean(0))
    return Answers(torch.stack(maxima), torch.stack(means), torch.stack(places))
