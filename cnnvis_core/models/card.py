"""What is known of a model before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Modality = Literal["image", "audio"]


@dataclass(frozen=True)
class ModelCard:
    """One row of the catalogue.

    Attributes
    ----------
    id : str
        What `load` takes, for example ``"vgg16"``.
    title : str
        For people, for example ``"VGG16"``.
    modality : {"image", "audio"}
        What the model is given.
    source : str
        Where architecture and weights come from.
    licence : str
        The licence of the weights, as their publisher states it.
    bytes : int
        Size of the weights on disk or of the download.
    available_offline : bool
        Whether the weights are on this machine.
    classes : int
        Number of classes.
    parameters : int
        Number of weights.
    accuracy : str
        What was measured, on what, by whom; empty where nobody says.
    details : str
        Data, training and limits in a few sentences.
    """

    id: str
    title: str
    modality: Modality
    source: str
    licence: str
    bytes: int
    available_offline: bool
    classes: int = 0
    parameters: int = 0
    accuracy: str = ""
    details: str = ""
