"""An index as JSON, in the terms of Torchlurk."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cnnvis_core.exemplars.crops import input_patch
from cnnvis_core.exemplars.index import Exemplars
from cnnvis_core.models.model import Model


def as_json(found: Exemplars, model: Model) -> dict[str, Any]:
    """The exemplars of all units: top average, top maximum, slices, histograms of classes.

    Parameters
    ----------
    found : Exemplars
        Of this model.
    model : Model
        Tells what each maximum saw.

    Returns
    -------
    dict
        ``{"model", "layers": [{"name", "filters": [{"id", "avg_imgs", "max_imgs", "max_slices",
        "max_windows", "histogram_avg", "histogram_max"}]}]}``; a slice is [top, left, bottom,
        right] in pixels of the network's input, of a long sound of that window, and a histogram
        [class, count], most frequent first.
    """
    layers = []
    for name in found.layers:
        layer = model.layer(name)
        table = found.top_of_layer(name)
        filters = []
        for unit, rows in table.groupby("unit"):
            best, mean = (rows[rows["by"] == by].sort_values("rank") for by in ("max", "mean"))
            patches = (
                input_patch(model, layer, row, col)
                for row, col in zip(best["row"], best["col"], strict=True)
            )
            filters.append(
                {
                    "id": int(unit),
                    "avg_imgs": mean["file"].tolist(),
                    "max_imgs": best["file"].tolist(),
                    "max_slices": [[p.top, p.left, p.bottom, p.right] for p in patches],
                    "max_windows": best["window"].tolist(),
                    "histogram_avg": _counts(mean["class"]),
                    "histogram_max": _counts(best["class"]),
                }
            )
        layers.append({"name": name, "filters": filters})
    return {"model": found.manifest["identity"]["model"], "layers": layers}


def _counts(classes: Any) -> list[list[Any]]:
    return [[name, count] for name, count in Counter(classes.dropna()).most_common()]
