"""Running a network on inputs that differ from a clean one in a rectangle each.

The clean input's values are computed once. Behind every operation only the rectangle that can
differ is computed again, with its surroundings taken from the clean value (Nakandala et al. 2019,
"Incremental and approximate inference for faster occlusion-based deep CNN explanations"). The
arithmetic is the network's own, so the answers are those of the full network but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cnnvis_core.models.graph import Graph, Node, Ref, Scaled, UntraceableError, compute
from cnnvis_core.occlusion.incremental.boxes import Change, Ints, MapRows, paste

Outcome = Change | None | list[Change | None]
Rule = Callable[["Pass", Node], Any]


class CleanPass:
    """A graph and its values for the clean input.

    Parameters
    ----------
    graph : Graph
        From `simplify`.
    x : Tensor (1, C, H, W)
        The clean input.
    forgets : callable
        Tells for a node whether its rule hardly ever asks for the clean value of its inputs.
    """

    def __init__(self, graph: Graph, x: torch.Tensor, forgets: Callable[[Node], bool]) -> None:
        self.graph = graph
        readers: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for ref in node.refs():
                readers.setdefault(ref.node, []).append(node)
        self.reader_count = {number: len(nodes) for number, nodes in readers.items()}
        self.reader_count[graph.output.node] = self.reader_count.get(graph.output.node, 0) + 1
        kept = {number for number, nodes in readers.items() if not all(map(forgets, nodes))}
        kept |= {0, graph.output.node}
        self.last: dict[int, int] = {}
        for number, node in enumerate(graph.nodes):
            for ref in node.refs():
                self.last[ref.node] = number
        self.values: list[Any] = [None] * len(graph.nodes)
        self.values[0] = x.contiguous(memory_format=torch.channels_last)
        for number, node in enumerate(graph.nodes):
            if node.op is None:
                continue
            self.values[number] = compute(node, self.value, 1)
            for ref in node.refs():
                if self.last[ref.node] == number and ref.node not in kept:
                    self.values[ref.node] = None
        self._map_rows: dict[tuple[Ref, float], MapRows] = {}

    def value(self, ref: Ref) -> torch.Tensor:
        """The clean value; one that was not kept is computed again."""
        found = self.values[ref.node]
        if found is None:
            found = self.values[ref.node] = compute(self.graph.nodes[ref.node], self.value, 1)
        value: torch.Tensor = found if ref.item is None else found[ref.item]
        return value

    def map_rows(self, ref: Ref, fill: float) -> MapRows:
        """The clean value (m, C, H, W) for gathering, with what stands outside of it."""
        if (ref, fill) not in self._map_rows:
            self._map_rows[ref, fill] = MapRows(self.value(ref), fill)
        return self._map_rows[ref, fill]

    def each(self, ref: Ref) -> int:
        """How many rows of a value belong to one input; 0 if its first axis is not the batch's."""
        first = self.graph.nodes[ref.node].shapes[ref.item or 0][:1]
        grows = bool(first) and isinstance(first[0], Scaled) and first[0].base == 0
        return first[0].each if grows and isinstance(first[0], Scaled) else 0


class Pass:
    """One batch on its way through the graph.

    Parameters
    ----------
    clean : CleanPass
        The clean input's.
    n : int
        Number of inputs in the batch.
    change : Change
        How they differ from the clean input.
    """

    def __init__(self, clean: CleanPass, n: int, change: Change | None) -> None:
        self.clean, self.n = clean, n
        self.changes: list[Outcome] = [None] * len(clean.graph.nodes)
        self.changes[0] = change
        self.largest = 0  # bytes of the largest value

    def change(self, ref: Ref) -> Change | None:
        """How a value differs; None where it does not."""
        found = self.changes[ref.node]
        return found[ref.item or 0] if isinstance(found, list) else found

    def changed(self, node: Node) -> list[Change]:
        """The changes of all inputs of a node that differ."""
        return [change for ref in node.refs() if (change := self.change(ref)) is not None]

    def gather(
        self, ref: Ref, rows: Ints, origin: Ints, size: tuple[int, int], fill: float = 0.0
    ) -> torch.Tensor:
        """Rectangles (R, C, h, w) of maps (N, C, H, W) as they are in the batch.

        What lies outside of the map is ``fill``.
        """
        source = self.clean.map_rows(ref, fill)
        found = source.gather(rows % source.count, origin, size)
        change = self.change(ref)
        if change is not None and change.boxes is not None:
            at, content = change.boxes.origin, change.content.permute(0, 2, 3, 1)
            if change.rows is rows:
                paste(found, origin, content, at)
            elif (both := common(rows, change)) is not None:
                mine, theirs = both
                part = found[mine]
                paste(part, origin[:, mine.numpy()], content[theirs], at[:, theirs.numpy()])
                found[mine] = part
        return found.permute(0, 3, 1, 2)

    def whole(self, ref: Ref, rows: Ints) -> torch.Tensor:
        """Values (R, ...) of some rows in full."""
        value, change = self.clean.value(ref), self.change(ref)
        if change is not None and change.rows is rows and change.boxes is None:
            return change.content
        clean = value.flatten(0, 1) if change is not None and change.windows else value
        index = torch.from_numpy(rows % len(clean)).to(clean.device)
        if change is None:
            return clean.index_select(0, index)
        if change.boxes is not None and change.axes == (2, 3) and value.ndim == 4:
            origin = np.zeros((2, len(rows)), np.int64)
            return self.gather(ref, rows, origin, change.boxes.extent)
        full = clean.index_select(0, index)
        both = common(rows, change)
        if both is None:
            return full
        mine, theirs = both
        if change.boxes is None:
            return full.index_copy_(0, mine.to(full.device), change.content[theirs])
        # Any order of axes: one rectangle after the other.
        a, b = change.axes
        for i, j in zip(mine.tolist(), theirs.tolist(), strict=True):
            top, left = change.boxes.origin[:, j].tolist()
            place = full[i].narrow(a - 1, top, change.boxes.size[0])
            place.narrow(b - 1, left, change.boxes.size[1]).copy_(change.content[j])
        return full

    def everything(self, ref: Ref) -> torch.Tensor:
        """A value for all inputs of the batch, as the full network would have it."""
        change, each = self.change(ref), self.clean.each(ref)
        if change is not None and change.rows is None:
            return change.content
        node = self.clean.graph.nodes[ref.node]
        if not (node.depends and each):
            found = compute(node, self.everything, self.n)
            return found if ref.item is None else found[ref.item]
        count = max(1, change.windows if change else 0)
        full = self.whole(ref, np.arange(self.n * each * count, dtype=np.int64))
        return full.unflatten(0, (-1, count)) if change and change.windows else full

    def run(self, rules: Callable[[Node], Rule]) -> torch.Tensor:
        """Answer of the network for the batch, (n, classes)."""
        graph = self.clean.graph
        for number, node in enumerate(graph.nodes):
            if node.op is None or not self.changed(node):
                continue
            outcome = self.changes[number] = rules(node)(self, node)
            for change in outcome if isinstance(outcome, list) else [outcome]:
                if change is not None:
                    self.largest = max(self.largest, change.content.nbytes)
            for ref in node.refs():
                if self.clean.last[ref.node] == number and ref.node != graph.output.node:
                    self.changes[ref.node] = None
        return self.everything(graph.output)


def common(rows: Ints, change: Change) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Positions of the rows that a change has too, in ``rows`` and in the change."""
    if change.rows is None:
        raise UntraceableError("it mixes the inputs of a batch")
    _, mine, theirs = np.intersect1d(rows, change.rows, assume_unique=True, return_indices=True)
    return (torch.from_numpy(mine), torch.from_numpy(theirs)) if len(mine) else None
