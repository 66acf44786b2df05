"""A visitor's own network: weights for an architecture of the catalogue, or a whole program."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.typing import UploadedFile

from cnnvis_core.errors import BusyError, CnnvisError, InputError
from cnnvis_core.limits import limits
from cnnvis_core.models import Model, ModelCard, load_checkpoint
from cnnvis_core.models.card import Modality
from cnnvis_core.programs import Trials, load_program, told_shape
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.uploads import content, upload_box

MOST_CLASSES = 100_000
SHAPE = "Input shape: channels, height, width"


@dataclass(frozen=True)
class Own:
    """What a visitor sent.

    Attributes
    ----------
    weights : UploadedFile or None
        For the architecture that is chosen.
    program : UploadedFile or None
        A network of any architecture; it goes before weights.
    modality : str
        What a program is given.
    shape, mean, std, classes : str
        As the visitor wrote them.
    """

    weights: UploadedFile | None
    program: UploadedFile | None
    modality: Modality
    shape: str = ""
    mean: str = ""
    std: str = ""
    classes: str = ""

    def __bool__(self) -> bool:
        return self.weights is not None or self.program is not None


# Keyed by the upload's own name: to hash 200 MB at every click would be felt.
@st.cache_resource(scope="session", max_entries=2, show_spinner="Reading your weights")
def own_weights(model_id: str, file_id: str, _file: UploadedFile) -> Model:
    """A visitor's weights in an architecture of the catalogue; seen by that visitor alone."""
    return load_checkpoint(
        model_id, content(_file, limits().weights_mb, "save the weights in half precision")
    )


# A refusal is kept as well, for it costs as much as a network.
@st.cache_resource(scope="session", max_entries=2, show_spinner="Reading your network")
def _own_program(
    file_id: str, told: tuple[str, ...], modality: Modality, _file: UploadedFile
) -> Model | CnnvisError:
    shape, mean, std, classes = told
    names = tuple(line.strip() for line in classes.splitlines() if line.strip())[:MOST_CLASSES]
    try:
        data = _program_bytes(_file)
        asked: dict[str, Any] = {
            "input_shape": _sizes(shape) or None,
            "mean": numbers(mean, "Mean") or None,
            "std": numbers(std, "Standard deviation") or None,
            "classes": names or None,
            "modality": modality,
        }
        _trials().load(data, asked)
        return load_program(data, **asked)
    except BusyError:  # nothing was found out
        raise
    except CnnvisError as error:
        return error


@st.cache_resource(show_spinner=False)
def _trials() -> Trials:
    """One for all visitors, whose trials stand in line."""
    return Trials()


def _sizes(text: str) -> list[int]:
    """Whole numbers; one that is none becomes 0, which no shape has."""
    return [int(n) if n.is_integer() else 0 for n in numbers(text, SHAPE)]


@st.cache_data(scope="session", max_entries=2, show_spinner=False)
def _told_shape(file_id: str, _file: UploadedFile) -> str:
    """The shape as text; empty for a file that is no program, which is said where it is loaded."""
    try:
        return ", ".join(map(str, told_shape(_program_bytes(_file))))
    except CnnvisError:
        return ""


def _program_bytes(file: UploadedFile) -> bytes:
    return content(file, limits().weights_mb, "export the network in half precision")


def numbers(text: str, what: str) -> list[float]:
    """Numbers between commas, spaces or crosses, as people write them.

    Raises
    ------
    InputError
        If anything else stands there.
    """
    parts = text.replace(",", " ").replace("×", " ").replace("x", " ").split()
    try:
        found = [float(part) for part in parts]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise InputError(
            f"{what}: write numbers with commas between them, such as 0.485, 0.456, 0.406."
        )
    return found


def draw_own(card: ModelCard) -> Own:
    """Draw the boxes for a visitor's own weights or network, below the choice of a model."""
    with st.expander("Your own weights", icon=":material/upload_file:"):
        weights = upload_box(
            f"A state_dict for {card.title} (.safetensors or .pth)",
            limits().weights_mb,
            key=f"weights-{card.id}",
            help="Another number of classes or of input channels is adapted from the file. "
            "Files that would run code are refused.",
        )
    if not limits().programs:
        return Own(weights, None, card.modality)
    with st.expander("Your own network", icon=":material/deployed_code:"):
        program = upload_box(
            "A program of torch.export.save (.pt2)",
            limits().weights_mb,
            key=f"program-{card.modality}",
            help="Any architecture: torch.export.save(torch.export.export(model.eval(), (x,), "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'mine.pt2'). "
            "It is read as data; nothing in it is run that is not a known operation.",
        )
        if program is None:
            return Own(weights, None, card.modality)
        return Own(weights, program, card.modality, *_asked(program, card.modality))


def _asked(program: UploadedFile, modality: Modality) -> tuple[str, str, str, str]:
    """What only its owner knows of a network."""
    told = _told_shape(program.file_id, program)
    key = f"-{program.file_id}"
    shape = st.text_input(
        SHAPE, told, key=f"shape{key}", max_chars=50,
        help="As it was exported" + ("." if modality == "image" else ": 1, mel bands, frames."),
    )  # fmt: skip
    mean = st.text_input(
        "Mean", key=f"mean{key}", max_chars=200, placeholder="0.485, 0.456, 0.406",
        help="One number a channel, for values from 0 to 1; empty for 0.",
    )  # fmt: skip
    std = st.text_input(
        "Standard deviation", key=f"std{key}", max_chars=200, placeholder="0.229, 0.224, 0.225",
        help="One number a channel; empty for 1.",
    )  # fmt: skip
    classes = st.text_area(
        "Names of the classes, one a line", key=f"classes{key}", max_chars=5_000_000, height=100,
        help="In the order of the network's answers; empty for class 0, class 1 and so on.",
    )  # fmt: skip
    return shape, mean, std, classes


def own_model(own: Own, card: ModelCard) -> Model | None:
    """The visitor's own network, if there is one that can be used; draws a sentence on it."""
    try:
        if own.program is not None:
            told = (own.shape, own.mean, own.std, own.classes)
            found = _own_program(own.program.file_id, told, own.modality, own.program)
            if isinstance(found, CnnvisError):
                draw_error(found)
                return None
            model = found
        elif own.weights is not None:
            model = own_weights(card.id, own.weights.file_id, own.weights)
        else:
            return None
    except CnnvisError as error:
        draw_error(error)
        return None
    st.success(f"{model.card.title}: {len(model.classes)} classes.", icon=":material/check:")
    return model
