"""Reaching a Ray cluster; needs the optional requirement in ``requirements-ray.txt``."""

from __future__ import annotations

import socket
from typing import Any

from cnnvis_core.errors import InputError

KNOCK_SECONDS = 5.0
NO_CLUSTER = "There is no Ray cluster at {!r}; start one with `ray start`, or do without."


def ray_module() -> Any:
    """Ray, if it is installed.

    Raises
    ------
    InputError
        If it is not.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Ray is not installed; run `pip install -r requirements-ray.txt`, or do without it."
        ) from error
    return ray


def connected(address: str) -> Any:
    """Ray, connected to a cluster; who was connected before stays so.

    Raises
    ------
    InputError
        If Ray is not installed, or nobody answers at the address.
    """
    ray = ray_module()
    if not ray.is_initialized():
        _knock(address)
        try:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(NO_CLUSTER.format(address)) from error
    return ray


def _knock(address: str) -> None:
    """Refuse an address at which nobody answers; Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
    except OSError as error:
        raise InputError(NO_CLUSTER.format(address)) from error
