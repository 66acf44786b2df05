"""What an ascent climbs: scores of pictures that add and scale.

An objective gives one number a picture. Objectives of several pictures, such as `units`, give the
n-th picture the score of their n-th part, so that many units share a batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.probe import ANSWER

Maps = Mapping[str, torch.Tensor]
Score = Callable[[Maps, torch.Tensor], torch.Tensor]  # also of maps (N, h, w)


@dataclass(frozen=True, eq=False)
class Objective:
    """A score of pictures.

    Attributes
    ----------
    layers : frozenset of str
        Whose maps it needs; `ANSWER` stands for the logits.
    score : callable
        Maps (N, units, h, w) by layer, and the numbers (N,) of the pictures that they belong to
        -> scores (N,).
    words : tuple of str
        What each picture shows; one entry where any number of pictures may share it.
    map_of : callable or None
        Likewise, but gives the map (N, h, w) that the score is made of; None where there is none.
    together : bool
        Whether pictures are scored against each other, so that they must share a batch.
    penalty : callable or None
        Likewise, but counts neither as activation nor is it turned around where a minimum is
        sought.
    placed : bool
        Whether it is about a place of the picture, so that nothing may be seen around it.
    reads : callable or None
        Numbers of pictures -> layer -> the only units of it that they are scored by.
    """

    layers: frozenset[str]
    score: Score
    words: tuple[str, ...]
    map_of: Score | None = None
    together: bool = False
    reads: Callable[[Sequence[int]], Mapping[str, Sequence[int]]] | None = None
    penalty: Score | None = None
    placed: bool = False

    def __len__(self) -> int:
        return len(self.words)

    def __add__(self, other: Objective) -> Objective:
        """Sum, picture by picture; an objective of one picture is added to each of the other's.

        Raises
        ------
        InputError
            If they ask for different numbers of pictures.
        """
        if not isinstance(other, Objective):
            return NotImplemented
        if len(self) != len(other) and 1 not in (len(self), len(other)):
            raise InputError(
                f"Objectives of {len(self)} and of {len(other)} pictures cannot be added; "
                "give both as many, or one of them a single one."
            )
        longer = max(len(self), len(other))
        words = tuple(
            dict.fromkeys((self.words[i % len(self)], other.words[i % len(other)]))
            for i in range(longer)
        )
        return Objective(
            self.layers | other.layers,
            lambda maps, numbers: self.score(maps, numbers) + other.score(maps, numbers),
            tuple(" + ".join(filter(None, both)) for both in words),
            self.map_of or other.map_of,
            self.together or other.together,
            penalty=_sum(self.penalty, other.penalty),
            placed=self.placed or other.placed,
        )

    def __mul__(self, factor: float) -> Objective:
        return Objective(
            self.layers,
            lambda maps, numbers: factor * self.score(maps, numbers),
            tuple(words and f"{factor:g} x {words}" for words in self.words),
            self.map_of,
            self.together,
            self.reads,
            _times(factor, self.penalty),
            self.placed,
        )

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __sub__(self, other: Objective) -> Objective:
        return self + (-other)


def units(model: Model, layer: str, channels: int | Sequence[int] | None = None) -> Objective:
    """Mean of a unit's map, a picture a unit; all units of the layer by default.

    Raises
    ------
    ModelError
        If there is no such layer or unit.
    """
    found = model.layer(layer)
    numbers = _channels(found, channels)
    chosen = torch.tensor(numbers)

    def own(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return _own(maps[layer], chosen, pictures)

    words = tuple(f"unit {n} of {layer}" for n in numbers)
    return Objective(
        frozenset({layer}), _mean_of(own), words, own, reads=_reads_own(layer, numbers)
    )


def neurons(
    model: Model,
    layer: str,
    channels: int | Sequence[int],
    row: int | None = None,
    col: int | None = None,
) -> Objective:
    """One place of a unit's map, a picture a unit; the middle by default.

    The place is counted in the map that the layer makes of the picture, which need not be as large
    as for the network's usual input; a place beyond it is refused when the ascent begins.

    Raises
    ------
    InputError
        If the place is negative, or half of it is left out.
    ModelError
        If there is no such layer or unit.
    """
    found = model.layer(layer)
    numbers = _channels(found, channels)
    if (row is None) != (col is None) or min(row or 0, col or 0) < 0:
        raise InputError("Give a row and a column, counted from 0, or neither for the middle.")
    chosen = torch.tensor(numbers)
    where = "the middle" if row is None else f"row {row}, column {col}"

    def own(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return _own(maps[layer], chosen, pictures)

    def score(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        mine = own(maps, pictures)
        height, width = mine.shape[1:]
        r, c = (height // 2, width // 2) if row is None or col is None else (row, col)
        if r >= height or c >= width:
            raise InputError(
                f"The maps of {layer} have {height} rows and {width} columns here, no {where}."
            )
        return mine[:, r, c]

    words = tuple(f"unit {n} of {layer} at {where}" for n in numbers)
    return Objective(
        frozenset({layer}), score, words, own, reads=_reads_own(layer, numbers), placed=True
    )


def group(model: Model, layer: str, channels: Sequence[int] | None = None) -> Objective:
    """Mean of the maps of several units in one picture; of the whole layer by default.

    Raises
    ------
    ModelError
        If there is no such layer or unit.
    """
    numbers = _channels(model.layer(layer), channels)
    chosen = torch.tensor(numbers)
    whole = channels is None

    def mean_map(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return maps[layer][:, chosen.to(maps[layer].device)].mean(1)

    words = f"all of {layer}" if whole else f"units {_ranges(numbers)} of {layer} together"
    return Objective(
        frozenset({layer}), _mean_of(mean_map), (words,), mean_map,
        reads=lambda pictures: {layer: numbers},
    )  # fmt: skip


def classes(model: Model, targets: int | str | Sequence[int | str]) -> Objective:
    """Logit of a class, a picture a class.

    Raises
    ------
    ModelError
        If there is no such class.
    """
    one = isinstance(targets, str) or not isinstance(targets, Iterable)
    several = [targets] if one else list(targets)  # type: ignore[arg-type]
    if not several:
        raise InputError("Name at least one class.")
    numbers = [model.class_index(t if isinstance(t, str) else _whole(t)) for t in several]
    chosen = torch.tensor(numbers)

    def score(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return _own(maps[ANSWER], chosen, pictures).flatten(1).mean(1)

    return Objective(frozenset({ANSWER}), score, tuple(model.classes[n] for n in numbers))


def direction(model: Model, layer: str, vector: torch.Tensor) -> Objective:
    """Mean over the map of the activations' component along a direction (units,).

    Raises
    ------
    InputError
        If the vector is zero or has not one number a unit.
    ModelError
        If there is no such layer.
    """
    found = model.layer(layer)
    along = torch.as_tensor(vector, dtype=torch.float32).detach().cpu()
    if along.shape != (found.channels,) or not float(along.norm()) > 0:
        raise InputError(
            f"A direction in {layer} has {found.channels} numbers that are not all 0, "
            f"not a shape of {tuple(along.shape)}."
        )
    along = along / along.norm()

    def component(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nuhw,u->nhw", maps[layer], along.to(maps[layer].device))

    words = (f"a direction in {layer}",)
    return Objective(frozenset({layer}), _mean_of(component), words, component)


def energy(model: Model, layer: str) -> Objective:
    """Mean square of all activations of a layer: deep dream (Mordvintsev et al. 2015).

    Raises
    ------
    ModelError
        If there is no such layer.
    """
    model.layer(layer)

    def squares(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return maps[layer].square().mean(1)

    words = (f"the energy of {layer}",)
    return Objective(frozenset({layer}), _mean_of(squares), words, squares)


def diversity(model: Model, layer: str) -> Objective:
    """Minus the mean likeness of a picture to the others: cosine of their Gram matrices.

    Added to an objective it keeps several pictures of one unit apart (Olah et al. 2017).

    Raises
    ------
    ModelError
        If there is no such layer.
    """
    model.layer(layer)

    def nothing(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        return maps[layer].new_zeros(len(maps[layer]))

    def penalty(maps: Maps, pictures: torch.Tensor) -> torch.Tensor:
        flat = maps[layer].flatten(2)
        grams = torch.nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
        alike = grams @ grams.T
        others = max(len(alike) - 1, 1)
        return -(alike.sum(1) - alike.diagonal()) / others

    return Objective(frozenset({layer}), nothing, ("",), together=True, penalty=penalty)


def repeated(objective: Objective, times: int) -> Objective:
    """Several pictures of one objective."""
    if len(objective) != 1:
        raise InputError("Only an objective of one picture can be drawn several times.")
    return Objective(
        objective.layers,
        objective.score,
        objective.words * times,
        objective.map_of,
        True,
        objective.reads,
        objective.penalty,
        objective.placed,
    )


def _sum(a: Score | None, b: Score | None) -> Score | None:
    if a is None or b is None:
        return a or b
    return lambda maps, pictures: a(maps, pictures) + b(maps, pictures)


def _times(factor: float, score: Score | None) -> Score | None:
    return None if score is None else lambda maps, pictures: factor * score(maps, pictures)


def _mean_of(map_of: Score) -> Score:
    return lambda maps, pictures: map_of(maps, pictures).flatten(1).mean(1)


def _reads_own(
    layer: str, units: Sequence[int]
) -> Callable[[Sequence[int]], Mapping[str, Sequence[int]]]:
    return lambda pictures: {layer: sorted({units[n % len(units)] for n in pictures})}


def _own(maps: torch.Tensor, chosen: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Each picture's own unit (N, h, w), of maps (N, units, h, w)."""
    mine = chosen[pictures % len(chosen)].to(maps.device)
    return maps[torch.arange(len(maps), device=maps.device), mine]


def _channels(layer: Layer, channels: int | Sequence[int] | None) -> list[int]:
    if channels is None:
        return list(range(layer.channels))
    several = channels if isinstance(channels, Iterable) else [channels]
    numbers = [_whole(n) for n in several]
    if not numbers:
        raise ModelError(f"Name at least one unit of {layer.name}.")
    wrong = next((n for n in numbers if not 0 <= n < layer.channels), None)
    if wrong is not None:
        raise ModelError(f"{layer.name} has units 0 to {layer.channels - 1}, not {wrong}.")
    return numbers


def _whole(number: object) -> int:
    """A whole number, of Python's or of any library's."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"Units and classes are whole numbers, not {number!r}.") from None


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in words: "3 to 7" where they follow each other."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    shown = ", ".join(map(str, numbers[:6]))
    return shown + (" and others" if len(numbers) > 6 else "")
