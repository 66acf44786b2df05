"""How a network is trained further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cnnvis_core.checks import whole_number
from cnnvis_core.errors import InputError

Schedule = Literal["cosine", "constant", "steps"]
Augmentation = Literal["none", "light", "strong"]

MOST_EPOCHS, MOST_BATCH = 1000, 4096


@dataclass(frozen=True)
class Finetuning:
    """How a network is trained further.

    Attributes
    ----------
    train : "all", "head", int or tuple of str
        Which stages learn: all, the new last layer alone, so many last ones, or these of
        `stages_of`. The others stay as they are, the statistics of their batch normalisation too.
    epochs : int
        How often each item is seen, 1 to 1,000.
    batch : int
        Items a step, 2 to 4,096.
    learning_rate : float
        Of AdamW (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019).
    schedule : {"cosine", "constant", "steps"}
        The rate falls to nothing as a cosine does, stays, or falls to a tenth after two thirds.
    weight_decay : float
        Of AdamW.
    augmentation : {"none", "light", "strong"}
        Of training data alone. Light: pictures are mirrored, sounds shifted in time. Strong:
        pictures are shifted as well, and of sounds a band and a moment are left out (D. S. Park et
        al., "SpecAugment", 2019).
    validation : float
        Share of each class that is not trained on but tested, 0.05 to 0.5.
    seed : int
        Of the split, the new last layer, the order and the augmentation.
    scratch : bool
        Forget all weights first, for comparison.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    train: str | int | tuple[str, ...] = "all"
    epochs: int = 4
    batch: int = 32
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    weight_decay: float = 0.01
    augmentation: Augmentation = "light"
    validation: float = 0.2
    seed: int = 0
    scratch: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if isinstance(self.train, Sequence) and not isinstance(self.train, str):
            object.__setattr__(self, "train", tuple(self.train))
        whole_number("epochs", self.epochs, 1, MOST_EPOCHS)
        whole_number("batch", self.batch, 2, MOST_BATCH)
        whole_number("seed", self.seed, 0, 2**31 - 1)
        numbers = (self.learning_rate, self.weight_decay, self.validation)
        if not all(isinstance(number, int | float) for number in numbers):
            raise InputError("Rate, decay and the share for validation are numbers.")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 10):
            raise InputError("The learning rate lies above 0 and up to 10.")
        if not (math.isfinite(self.weight_decay) and 0 <= self.weight_decay <= 10):
            raise InputError("The weight decay lies in 0 to 10.")
        if not 0.05 <= self.validation <= 0.5:
            raise InputError("The share for validation lies in 0.05 to 0.5.")
        if self.schedule not in get_args(Schedule):
            raise InputError(f"The schedule is one of {', '.join(get_args(Schedule))}.")
        if self.augmentation not in get_args(Augmentation):
            raise InputError(f"The augmentation is one of {', '.join(get_args(Augmentation))}.")

    def rate_at(self, share: float) -> float:
        """Learning rate after a share of the training, 0 to 1."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        if self.schedule == "steps" and share >= 2 / 3:
            return self.learning_rate / 10
        return self.learning_rate

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        values = asdict(self)
        values["train"] = list(self.train) if isinstance(self.train, tuple) else self.train
        return values
