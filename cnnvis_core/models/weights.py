"""Telling weights apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch

from cnnvis_core.models.model import Model


@lru_cache(maxsize=16)
def weights_hash(model: Model) -> str:
    """SHA-256 of a model's weights and buffers, with their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.module.state_dict().items()):
        data = value.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
