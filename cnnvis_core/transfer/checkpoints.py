"""What a training keeps: weights after every epoch, and where it stands."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import nn

from cnnvis_core.brief import Brief
from cnnvis_core.disk import write
from cnnvis_core.errors import InputError
from cnnvis_core.models.blueprint import DeviceLike, choose_device, move
from cnnvis_core.models.model import Model
from cnnvis_core.transfer.network import as_model, trainable
from cnnvis_core.transfer.settings import Finetuning

VERSION = 1
MARK = "cnnvis"  # of our part of a weight file's metadata
RUN, LOG, STATE = "run.json", "log.csv", "state.pt"
COLUMNS = (
    "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "seconds",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Brief):
    """The weights after an epoch.

    Attributes
    ----------
    base : Model
        What was trained further.
    classes : tuple of str
        What it tells apart now.
    epoch : int
        After how many epochs, from 1.
    accuracy : float
        Share of the held-back items that are named rightly, 0 to 1.
    data : bytes or None
        The safetensors file; None where it lies on disk.
    path : Path or None
        Where it lies.
    """

    base: Model
    classes: tuple[str, ...]
    epoch: int
    accuracy: float
    data: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """The safetensors file, which `load_checkpoint` takes as well.

        Raises
        ------
        InputError
            If it is gone.
        """
        if self.data is not None:
            return self.data
        try:
            return Path(self.path or "").read_bytes()
        except OSError as error:
            raise InputError(f"The weights of epoch {self.epoch} are gone; train again.") from error

    def load(self, device: DeviceLike = None) -> Model:
        """The model, frozen as all are; by default on the device of the model it was made from.

        Raises
        ------
        InputError
            If the file is gone or damaged.
        """
        module, data = trainable(self.base, self.classes, 0, False), self.read()
        load_weights(module, data, self.epoch)
        place = self.base.device if device is None else choose_device(device)
        title = f"{self.base.card.title}, epoch {self.epoch}"
        name = f"{self.base.card.id}-{hashlib.sha256(data).hexdigest()[:12]}"
        found = as_model(self.base, move(module, place), self.classes, name, title)
        return replace(found, device=place)


@dataclass(frozen=True, eq=False, repr=False)
class Finetuned(Brief):
    """A training, or as much of it as is done.

    Attributes
    ----------
    checkpoints : tuple of Checkpoint
        After each epoch.
    log : DataFrame
        An epoch a row: ``epoch``, ``learning_rate`` at its end, ``train_loss``, ``train_accuracy``
        while it was learned, ``test_loss`` and ``test_accuracy`` of the held-back items, and
        ``seconds``.
    classes : tuple of str
        What is told apart.
    losses : tuple of float
        Mean loss of each batch so far of the running epoch.
    broken : dict
        File -> why it was left out.
    state : bytes or None
        What the optimiser knows, of a training in memory.
    """

    checkpoints: tuple[Checkpoint, ...]
    log: pd.DataFrame
    classes: tuple[str, ...]
    losses: tuple[float, ...]
    broken: dict[str, str]
    state: bytes | None = None

    @property
    def best(self) -> Checkpoint:
        """The checkpoint that names most held-back items rightly, of equal ones the surest.

        Raises
        ------
        InputError
            If no epoch is finished.
        """
        if not self.checkpoints:
            raise InputError("No epoch is finished yet; let the training go on.")
        losses = self.log["test_loss"].tolist()
        return max(self.checkpoints, key=lambda point: (point.accuracy, -losses[point.epoch - 1]))

    @property
    def nbytes(self) -> int:
        """Bytes that the weights take in memory."""
        own = sum(len(checkpoint.data or b"") for checkpoint in self.checkpoints)
        return own + len(self.state or b"")


def identity(base: Model, data: str, settings: Finetuning) -> dict[str, Any]:
    """What a training is made of; two of the same identity give the same weights."""
    return {
        "version": VERSION,
        "model": base.card.id,
        "weights": base.fingerprint,
        "data": data,
        "settings": settings.as_json(),
    }


def packed(module: nn.Module, card: dict[str, Any]) -> bytes:
    """A safetensors file of a network's weights, with a card in its metadata."""
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }
    return safetensors.torch.save(state, {MARK: json.dumps(card)})


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the weights after an epoch lie."""
    return folder / f"epoch-{epoch:03d}.safetensors"


def load_weights(module: nn.Module, data: bytes, epoch: int) -> None:
    """Put the weights of an epoch into a network.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        module.load_state_dict(safetensors.torch.load(data))
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"The weights of epoch {epoch} are damaged; put the file back, or train anew elsewhere."
        ) from error


def packed_state(optimizer: torch.optim.Optimizer, epoch: int, broken: dict[str, str]) -> bytes:
    """What the optimiser knows after an epoch, and the files that were left out."""
    buffer = io.BytesIO()
    state = {"epoch": epoch, "optimizer": optimizer.state_dict(), "broken": broken}
    torch.save(state, buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """The inverse of `packed_state`.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(content), "cpu", weights_only=True)
        _ = found["epoch"], found["optimizer"], found["broken"]
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(
            "The state of the training is damaged; put it back, or train anew elsewhere."
        ) from error
    return found


def read_state(folder: Path) -> dict[str, Any]:
    """What a training in a folder knew after its last epoch.

    Raises
    ------
    InputError
        If it is damaged.
    """
    return unpacked((folder / STATE).read_bytes())


def write_log(folder: Path, log: pd.DataFrame) -> None:
    """Keep the figures of all epochs."""
    write(folder / LOG, log.to_csv(index=False).encode())


def read_log(folder: Path) -> pd.DataFrame:
    """The figures of all epochs.

    Raises
    ------
    InputError
        If they are damaged.
    """
    try:
        log = pd.read_csv(folder / LOG)
    except (OSError, ValueError):
        log = pd.DataFrame()
    if tuple(log.columns) != COLUMNS or log["epoch"].tolist() != list(range(1, len(log) + 1)):
        raise InputError(
            f"The log in {folder.name!r} is damaged; put it back, or train anew elsewhere."
        )
    return log


def claim(folder: Path, made_of: dict[str, Any]) -> None:
    """Say what training a folder is for.

    Raises
    ------
    InputError
        If it is for another one, or holds other things.
    """
    try:
        found = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(
                f"{folder.name!r} holds other files; choose an empty folder."
            ) from None
        write(folder / RUN, json.dumps(made_of, indent=1).encode())
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{folder.name!r} is no training, or a damaged one.") from error
    if found != made_of:
        raise InputError(
            f"The training in {folder.name!r} is of another model, other data or other settings; "
            "choose another folder."
        )
