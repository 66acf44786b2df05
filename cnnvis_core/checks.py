"""Checks of values that a caller gives."""

from __future__ import annotations

import operator

from cnnvis_core.errors import InputError


def whole_number(name: str, value: object, least: int, most: int) -> int:
    """A number that is counted.

    Raises
    ------
    InputError
        If it is no whole number from ``least`` to ``most``.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise InputError(f"{name} must be a whole number from {least:,} to {most:,}.")
    return number
