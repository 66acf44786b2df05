"""Networks that several visitors share, as many as memory is meant for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from cnnvis_core.models.model import Model


class Shelf:
    """Loads each network once and keeps those that were asked for last.

    A network that is taken off the shelf lives on where somebody still computes with it.

    Parameters
    ----------
    load : callable
        Makes a network of an id.
    most : int
        Bytes of weights that may stay; the network that was asked for last stays in any case.
    """

    def __init__(self, load: Callable[[str], Model], most: int) -> None:
        self._load, self._most = load, most
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: OrderedDict[str, tuple[Model, int]] = OrderedDict()

    def get(self, name: str) -> Model:
        """The network of an id; who asks while another visitor's request loads it waits for that.

        Raises
        ------
        ModelError
            If it cannot be loaded; the next request tries again.
        """
        found = self.there(name)
        if found is not None:
            return found
        with self._lock:
            own = self._loading.setdefault(name, threading.Lock())
        with own:
            found = self.there(name)
            if found is None:
                found = self._load(name)
                self._put(name, found)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the networks that are there, the one that was asked for last at the end."""
        with self._lock:
            return tuple(self._models)

    def there(self, name: str) -> Model | None:
        """The network of an id if it is on the shelf."""
        with self._lock:
            if name not in self._models:
                return None
            self._models.move_to_end(name)
            return self._models[name][0]

    def _put(self, name: str, model: Model) -> None:
        with self._lock:
            self._models[name] = model, weight_bytes(model)
            self._loading.pop(name, None)
            while len(self._models) > 1 and sum(n for _, n in self._models.values()) > self._most:
                self._models.popitem(last=False)


def weight_bytes(model: Model) -> int:
    """Bytes of a network's weights and buffers."""
    values = (*model.module.parameters(), *model.module.buffers())
    return sum(value.numel() * value.element_size() for value in values)
