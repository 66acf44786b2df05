"""Computations and results on their way between machines; networks of the catalogue stay at home.

What is unpacked was packed by another process of the same server, never by a visitor.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch

from cnnvis_core.errors import ModelError
from cnnvis_core.models import Model
from cnnvis_core.models.shelf import Shelf


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, shelf: Shelf) -> None:
        super().__init__(file)
        self._shelf = shelf

    def persistent_id(self, item: Any) -> tuple[str, str] | None:
        """In place of a network that both sides load themselves: its id, and what it must be."""
        if isinstance(item, Model) and self._shelf.there(item.card.id) is item:
            return item.card.id, item.fingerprint
        return None

    def reducer_override(self, item: Any) -> Any:
        """Tensors travel on the CPU, for the other side may have no such device."""
        if isinstance(item, torch.Tensor) and item.device.type != "cpu":
            return torch.Tensor.cpu, (item.detach().cpu(),)
        return super().reducer_override(item)


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shelf: Shelf) -> None:
        super().__init__(file)
        self._shelf = shelf

    def persistent_load(self, pid: Any) -> Model:
        """The network of an id, if it is the same here."""
        name, fingerprint = pid
        model = self._shelf.get(name)
        if model.fingerprint != fingerprint:
            raise ModelError(
                f"A worker of this server has another version of {name}; give all machines the "
                "same files."
            )
        return model


def pack(item: object, shelf: Shelf) -> bytes:
    """An object as bytes.

    Parameters
    ----------
    item : object
        What `cloudpickle` can take: closures and classes of scripts among it.
    shelf : Shelf
        Holds the networks that the other side has, too.
    """
    buffer = io.BytesIO()
    _Packer(buffer, shelf).dump(item)
    return buffer.getvalue()


def unpack(data: bytes, shelf: Shelf) -> Any:
    """The object that was packed.

    Raises
    ------
    ModelError
        If it refers to a network that is not the same here.
    """
    return _Unpacker(io.BytesIO(data), shelf).load()
