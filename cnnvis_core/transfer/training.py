"""Training a network further, epoch by epoch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from cnnvis_core.datasets import Dataset
from cnnvis_core.disk import locked, write
from cnnvis_core.errors import InputError
from cnnvis_core.jobs import Step
from cnnvis_core.models.memory import forget_spare, in_halves
from cnnvis_core.models.model import Model
from cnnvis_core.transfer import checkpoints as kept
from cnnvis_core.transfer.augmentation import augmented
from cnnvis_core.transfer.checkpoints import COLUMNS, Checkpoint, Finetuned
from cnnvis_core.transfer.network import ALL, learning, logits_of, set_learning, trainable
from cnnvis_core.transfer.pile import MEMORY, Block, Pile
from cnnvis_core.transfer.settings import Finetuning
from cnnvis_core.transfer.splitting import Split

TRAINING, TESTING = 3, 1  # how long an item takes, in passes; decoding it counts as one
CLIP = 5.0  # largest norm of a gradient

Steps = Generator[Step[Finetuned], None, Finetuned]


@dataclass(eq=False)
class Training:
    """One training from its beginning, or from the last epoch that is kept, to its end.

    Attributes
    ----------
    base : Model
        Not changed.
    dataset : Dataset
        Where the items come from.
    parts : Split
        Which are trained on, and which are tested.
    settings : Finetuning
        How.
    folder : Path or None
        Where it is kept; None for memory.
    begun : Finetuned or None
        An earlier part of the same training in memory, which is gone on with.
    """

    base: Model
    dataset: Dataset
    parts: Split
    settings: Finetuning
    folder: Path | None
    begun: Finetuned | None = None
    done: int = 0
    losses: list[float] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)
    saved: list[Checkpoint] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    state: bytes | None = None
    pieces: int = 1  # of a batch, where the memory does not hold it whole

    def __post_init__(self) -> None:
        """Look at what learns before anything is computed."""
        self.classes = tuple(self.dataset.classes)
        self.stages = learning(self.base, self.settings.train, self.classes)
        seed = self.settings.seed
        room = 3 * MEMORY // 4, MEMORY // 4
        self.train = Pile(self.base, self.dataset, self.parts.train, seed, room[0])
        self.test = Pile(self.base, self.dataset, self.parts.test, seed, room[1])
        self.log = self._table()

    @cached_property
    def each(self) -> int:
        """Work of one epoch; what memory does not hold is decoded in every one."""
        again = sum(len(p.indices) for p in (self.train, self.test) if p.count > 1)
        return TRAINING * len(self.parts.train) + TESTING * len(self.parts.test) + again

    @cached_property
    def total(self) -> int:
        """All work."""
        once = sum(len(p.indices) for p in (self.train, self.test) if p.count == 1)
        return once + self.settings.epochs * self.each

    def run(self) -> Steps:
        """Train; yields after every batch what there is by then."""
        with contextlib.nullcontext() if self.folder is None else locked(self.folder):
            made_of = kept.identity(self.base, self.dataset.fingerprint, self.settings)
            if self.folder is not None:
                kept.claim(self.folder, made_of)
            module = trainable(self.base, self.classes, self.settings.seed, self.settings.scratch)
            weights = self._set_learning(module)
            optimizer = torch.optim.AdamW(
                weights, self.settings.learning_rate, weight_decay=self.settings.weight_decay
            )
            self._resume(module, optimizer)
            yield self._step()
            for epoch in range(len(self.saved) + 1, self.settings.epochs + 1):
                yield from self._epoch(module, optimizer, weights, epoch, made_of)
            module.eval()
            return self.so_far()

    def so_far(self) -> Finetuned:
        """What is finished by now."""
        broken = {**self.train.broken, **self.test.broken}
        names = self.dataset.names
        return Finetuned(
            tuple(self.saved),
            self.log,
            self.classes,
            tuple(self.losses),
            {**self.left_out, **{names[index]: why for index, why in sorted(broken.items())}},
            self.state,
        )

    def _table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"epoch": int})

    def _set_learning(self, module: nn.Module) -> list[nn.Parameter]:
        return set_learning(module, self.stages, self.settings.train == ALL)

    def _resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the last epoch that is kept whole."""
        if self.begun is not None and self.begun.checkpoints:
            self.saved, self.state = list(self.begun.checkpoints), self.begun.state
            log, data = self.begun.log, self.saved[-1].read()
            state = kept.unpacked(self.state or b"")
        elif self.folder is not None and (self.folder / kept.STATE).exists():
            state, log = kept.read_state(self.folder), kept.read_log(self.folder)
            paths = [kept.checkpoint_path(self.folder, n + 1) for n in range(state["epoch"])]
            accuracies = log["test_accuracy"].tolist()
            self.saved = [
                Checkpoint(self.base, self.classes, number, accuracy, None, path)
                for number, (path, accuracy) in enumerate(zip(paths, accuracies, strict=False), 1)
            ]
            data = self.saved[-1].read()
            log = log.head(state["epoch"])
        else:
            return
        kept.load_weights(module, data, self.saved[-1].epoch)
        optimizer.load_state_dict(state["optimizer"])
        self.left_out = state["broken"]
        self.rows = [tuple(row) for row in log.itertuples(index=False)]
        self.log = self._table()
        self.done = len(self.saved) * self.each

    def _epoch(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: list[nn.Parameter],
        epoch: int,
        made_of: dict[str, Any],
    ) -> Generator[Step[Finetuned], None, None]:
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(self.settings.seed * 100_003 + epoch)
        self._set_learning(module)
        self.losses = []
        seen, right, loss_sum = 0, 0.0, 0.0
        for block in self._blocks(self.train):
            if isinstance(block, Step):
                yield block
                continue
            self._check(self.train, finished=self.train.count == 1)
            for items in _batches(len(block.labels), self.settings.batch, generator):
                share = (epoch - 1 + min(seen / len(self.parts.train), 1)) / self.settings.epochs
                rate = self.settings.rate_at(share)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss, hits = self._learn(module, optimizer, weights, block, items, generator)
                seen += len(items)
                right += hits
                loss_sum += loss * len(items)
                self.losses.append(loss)
                self.done += TRAINING * len(items)
                yield self._step()
        self._check(self.train)
        module.eval()
        test_loss, test_accuracy = yield from self._tested(module)
        self.rows.append(
            (
                epoch, self.settings.rate_at(epoch / self.settings.epochs), loss_sum / seen,
                right / seen, test_loss, test_accuracy, round(time.perf_counter() - began, 2),
            )
        )  # fmt: skip
        self._keep(module, optimizer, epoch, {**made_of, "epoch": epoch})
        yield self._step()

    def _learn(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: list[nn.Parameter],
        block: Block,
        items: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[float, float]:
        """One step; returns the loss and how many were named rightly."""
        x = block.drawn(items, generator)
        x = augmented(x, self.settings.augmentation, self.base.modality, generator)
        y = block.labels[items].to(self.base.device)
        devices = [self.base.device] if self.base.device.type == "cuda" else []
        # Dropout draws from the process's own generator.
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            value, right = self._gradients(module, weights, x, y)
        if not math.isfinite(value):
            raise InputError("The loss is no number any more; choose a smaller learning rate.")
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return value, right

    def _gradients(
        self, module: nn.Module, weights: list[nn.Parameter], x: torch.Tensor, y: torch.Tensor
    ) -> tuple[float, float]:
        """Give the weights their gradients; returns the loss and how many were named rightly.

        Where the memory does not suffice the batch is halved and the gradients of its parts are
        added up; batch normalisation then sees each part by itself.
        """
        pieces = self.pieces
        while True:
            total = right = 0.0
            try:
                for inputs, labels in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
                    with _precision(self.base.device):
                        logits = logits_of(module, inputs.to(self.base.device))
                        share = len(labels) / len(y)
                        loss = share * F.cross_entropy(logits.float(), labels)
                    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                    for weight, gradient in zip(weights, gradients, strict=True):
                        if weight.grad is None:
                            weight.grad = gradient
                        elif gradient is not None:
                            weight.grad = weight.grad + gradient
                    total += float(loss.detach())
                    right += float((logits.argmax(1) == labels).sum())
                return total, right
            except torch.OutOfMemoryError:
                # Batch normalisation needs two inputs at least.
                if len(x) < 4 * pieces:
                    raise
            pieces = self.pieces = 2 * pieces
            for weight in weights:
                weight.grad = None
            forget_spare(self.base.device)

    def _tested(self, module: nn.Module) -> Generator[Step[Finetuned], None, tuple[float, float]]:
        """Loss and accuracy of the held-back items, which are never changed."""
        count, right, loss = 0, 0.0, 0.0
        for block in self._blocks(self.test):
            if isinstance(block, Step):
                yield block
                continue
            self._check(self.test, finished=self.test.count == 1)
            for first in range(0, len(block.labels), self.settings.batch):
                windows = block.inputs[first : first + self.settings.batch]
                y = block.labels[first : first + self.settings.batch].to(self.base.device)
                with torch.no_grad(), _precision(self.base.device):
                    x = torch.cat(windows).to(self.base.device)
                    logits = in_halves(module, x, torch.cat).float()
                sizes = [len(part) for part in windows]
                mean = torch.stack([part.mean(0) for part in logits.split(sizes)])
                loss += float(F.cross_entropy(mean, y, reduction="sum"))
                right += float((mean.argmax(1) == y).sum())
                count += len(y)
                self.done += TESTING * len(y)
                yield self._step()
        self._check(self.test)
        return loss / count, right / count

    def _blocks(self, pile: Pile) -> Iterator[Block | Step[Finetuned]]:
        """The blocks of a pile, and steps at which the job can be stopped while they are read."""
        for found in pile.blocks():
            if isinstance(found, Block):
                yield found
            else:
                self.done += found
                yield self._step()

    def _check(self, pile: Pile, finished: bool = True) -> None:
        """Refuse data of which a class is lost, once all items were looked at.

        Raises
        ------
        InputError
            If no file of a class can be read.
        """
        for label, why in pile.lost().items() if finished else ():
            part = "to train on" if pile is self.train else "to test"
            raise InputError(
                f"No file {part} of the class {self.classes[label]!r} can be read: {why}"
            )

    def _step(self) -> Step[Finetuned]:
        return Step(min(self.done, self.total), self.total, self.so_far())

    def _keep(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, card: dict[str, Any]
    ) -> None:
        """Keep the weights after an epoch, on disk if there is a folder."""
        accuracy = self.rows[-1][5]
        card |= {"classes": list(self.classes), "accuracy": accuracy}
        data = kept.packed(module, card)
        self.state = kept.packed_state(optimizer, epoch, self.so_far().broken)
        self.log = self._table()
        if self.folder is None:
            self.saved.append(Checkpoint(self.base, self.classes, epoch, accuracy, data))
            return
        # In this order: a crash in between costs an epoch at most.
        path = kept.checkpoint_path(self.folder, epoch)
        write(path, data)
        kept.write_log(self.folder, self.log)
        write(self.folder / kept.STATE, self.state)
        self.state = None  # of a training in a folder it lies there
        self.saved.append(Checkpoint(self.base, self.classes, epoch, accuracy, None, path))


def _batches(count: int, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """All items in random order, in batches; batch normalisation cannot learn from one item."""
    batches = list(torch.randperm(count, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Half precision where a GPU computes with it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()
