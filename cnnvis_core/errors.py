"""The errors that this library raises; each message says what is wrong and what to do."""

from __future__ import annotations


class CnnvisError(Exception):
    """Anything that a user can be told in one sentence."""


class InputError(CnnvisError):
    """A file or a value that the user gave cannot be used."""


class ModelError(CnnvisError):
    """A model, a layer or a unit is not there or cannot be used."""


class BusyError(CnnvisError):
    """There is too much to do at the moment; the same thing can be tried again."""


class LostError(BusyError):
    """What computed something is gone; the same thing can be tried again."""
