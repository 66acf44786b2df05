"""Bytes that a visitor uploads become validated pictures and clips here, and nowhere else."""

from __future__ import annotations

from cnnvis_core.inputs.audio import read_audio
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.inputs.images import Picture, decode_image, read_image

__all__ = ["Clip", "Picture", "decode_image", "read_audio", "read_image"]
