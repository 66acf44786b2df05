"""What the network answers, and the class that is to be explained."""

from __future__ import annotations

from collections import Counter

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from cnnvis_core.models import Model
from cnnvis_core.render.charts import top_classes

# Labels never change with the input: Streamlit keeps a choice, and the address bar, by its label.
OWN_ANSWER = "the network's answer"


def class_labels(classes: tuple[str, ...]) -> list[str]:
    """Names of classes, made distinct: ImageNet has two cranes."""
    count = Counter(classes)
    return [f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(classes)]


def probabilities(model: Model, x: torch.Tensor) -> NDArray[np.float32]:
    """Probabilities (classes,) of one input (1, C, H, W)."""
    return model.predict(x)[0].float().cpu().numpy()


def choose_class(model: Model, answer: NDArray[np.float32] | None = None) -> int:
    """Draw the box with all classes and return the index of the chosen one.

    With an answer (classes,) the strongest come first, and the network's own is a choice.
    """
    labels = class_labels(model.classes)
    if answer is None:
        label = st.selectbox("Class", labels, key="drawn-class", bind="query-params")
        return labels.index(label)
    order = [labels[i] for i in np.argsort(-answer, kind="stable")]
    label = st.selectbox(
        "Class to explain",
        [OWN_ANSWER, *order],
        key="class",
        bind="query-params",
        help="The strongest classes come first; type to search all of them.",
    )
    return labels.index(label if label in labels else order[0])


def draw_top(model: Model, answer: NDArray[np.float32], target: int, key: str) -> None:
    """The five strongest answers as bars; the explained class is added if it is not among them."""
    labels = class_labels(model.classes)
    best = list(np.argsort(-answer, kind="stable")[:5])
    if target not in best:
        best.append(target)
    st.altair_chart(
        top_classes([labels[i] for i in best], [float(answer[i]) for i in best], labels[target]),
        width="stretch",
        key=key,
        alt="Strongest answers: "
        + ", ".join(f"{labels[i]} {100 * answer[i]:.0f} percent" for i in best),
    )
