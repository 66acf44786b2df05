"""An index of exemplars, as it lies in a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnnvis_core.brief import Brief
from cnnvis_core.datasets import Dataset
from cnnvis_core.disk import write
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.exemplars.store import (
    STATE,
    VERSION,
    Identity,
    State,
    identity_of,
    manifest_of,
    read_manifest,
    write_manifest,
)
from cnnvis_core.exemplars.tally import QUANTILES, Tally, quantiles
from cnnvis_core.models.model import Model

By = Literal["max", "mean"]
PLACE = ("row", "col", "window")
TOP, UNITS, CLASSES, ITEMS = "top.parquet", "units.parquet", "classes.parquet", "items.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class Exemplars(Brief):
    """Which items of a collection drive each unit most.

    Attributes
    ----------
    manifest : dict
        What it was made of.
    path : Path or None
        The folder; None for an index in memory.
    tables : dict
        Parquet files by name, of an index in memory.
    """

    manifest: Mapping[str, Any]
    path: Path | None = None
    tables: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose units are in it."""
        return tuple(self.manifest["units"])

    @property
    def classes(self) -> list[str]:
        """Names of the collection's classes; empty where it has none."""
        return list(self.manifest["classes"])

    @property
    def broken(self) -> list[dict[str, str]]:
        """Files that could not be read, each with the reason."""
        return list(self.manifest["broken"])

    def top(self, layer: str, unit: int, by: By = "max") -> pd.DataFrame:
        """The items that drive a unit most, strongest first.

        Parameters
        ----------
        layer : str
            Its layer.
        unit : int
            The unit.
        by : {"max", "mean"}
            By the maximum of its map, or by the mean of it.

        Returns
        -------
        DataFrame
            ``file``, ``class``, ``activation``, ``row`` and ``col`` of the maximum in the map (-1
            for means), ``window`` of a long sound, ``item`` and ``rank``.

        Raises
        ------
        ModelError
            If the layer or the unit is not in it.
        InputError
            If there is no such order.
        """
        if by not in ("max", "mean"):
            raise InputError(f"Exemplars are ranked by 'max' or 'mean', not by {by!r}.")
        found = self._rows(TOP, layer, unit)
        found = found[found["by"] == by].sort_values("rank", ignore_index=True)
        return self._named(found).drop(columns=["layer", "unit", "by"])

    def top_of_layer(self, layer: str) -> pd.DataFrame:
        """The same for all units of a layer and both orders, with the columns ``unit`` and ``by``.

        Raises
        ------
        ModelError
            If the layer is not in it.
        """
        self._check(layer, 0)
        return self._named(self._table(TOP, layer))

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the file and the class of each item in front."""
        items = self._items.iloc[table["item"]]
        table.insert(0, "file", items["file"].to_numpy())
        table.insert(1, "class", items["class"].to_numpy())
        return table

    def by_class(self, layer: str, unit: int) -> pd.DataFrame:
        """Mean activation of a unit for each class, the most typical class first.

        Returns
        -------
        DataFrame
            ``class``, ``count`` of items, ``mean_max`` and ``mean_mean``.
        """
        found = self._rows(CLASSES, layer, unit).drop(columns=["layer", "unit"])
        return found.sort_values("mean_max", ascending=False, ignore_index=True, kind="stable")

    def quantiles(self, layer: str, unit: int) -> pd.DataFrame:
        """Quantiles of a unit's maxima and means over the items, within 5 % of the value.

        Returns
        -------
        DataFrame
            ``share``, ``max`` and ``mean``.
        """
        row = self._rows(UNITS, layer, unit).iloc[0]
        return pd.DataFrame(
            {
                "share": QUANTILES,
                **{by: [row[f"{by}_{_percent(s)}"] for s in QUANTILES] for by in ("max", "mean")},
            }
        )

    def units_for(self, layer: str, name: str) -> pd.DataFrame:
        """Units of a layer that like a class, most typical first.

        How much more strongly a unit answers to the class than to classes on average, in standard
        deviations of its means over the classes.

        Raises
        ------
        InputError
            If there is no such class.
        """
        if name not in self.classes:
            raise InputError(f"The collection has no class named {name!r}.")
        self._check(layer, 0)
        wanted = [("layer", "==", layer)]
        table = self._read(CLASSES, wanted, ["mean_max", "mean_mean"])
        maxima, means = (
            table[name].to_numpy().reshape(-1, len(self.classes)) for name in table.columns
        )
        at = self.classes.index(name)
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # units without any answer
            middle, spread = np.nanmean(maxima, 1), np.nanstd(maxima, 1, ddof=1)
        preference = (maxima[:, at] - middle) / np.where(spread > 0, spread, np.nan)
        found = pd.DataFrame(
            {
                "unit": np.arange(len(maxima)),
                "preference": preference,
                "mean_max": maxima[:, at],
                "mean_mean": means[:, at],
            }
        ).dropna(subset=["preference"])
        return found.sort_values("preference", ascending=False, kind="stable", ignore_index=True)

    def neighbours(self, layer: str, unit: int, count: int = 5) -> pd.DataFrame:
        """Units of the layer that are driven by the same items.

        Returns
        -------
        DataFrame
            ``unit`` and ``likeness``, the share of exemplars by maximum or by mean, 0 to 1, that
            both have, the likest first; without those that share nothing.
        """
        self._check(layer, unit)
        table = self._table(TOP, layer)[["unit", "by", "item", "activation"]]
        # What answers to all alike, such as a dead unit, shares its items by chance.
        levels = table[table["by"] == "max"].groupby("unit")["activation"]
        alive = levels.nunique().index[levels.nunique() > min(1, levels.size().max() - 1)]
        table = table[table["unit"].isin(alive)]
        mine = table[table["unit"] == unit]
        shared = table.merge(mine[["by", "item"]], on=["by", "item"]).groupby("unit").size()
        found = (
            (shared / max(len(mine), 1))
            .drop(unit, errors="ignore")
            .rename("likeness")
            .reset_index()
        )
        found = found.sort_values("likeness", ascending=False, kind="stable", ignore_index=True)
        return found.head(count)

    @cached_property
    def _items(self) -> pd.DataFrame:
        return self._read(ITEMS)

    def _table(self, name: str, layer: str) -> pd.DataFrame:
        return self._read(name, [("layer", "==", layer)])

    def _read(
        self,
        name: str,
        wanted: list[tuple[str, str, Any]] | None = None,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        where = pa.BufferReader(self.tables[name]) if self.path is None else self.path / name
        try:
            return pq.read_table(where, columns=columns, filters=wanted).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"The table {name!r} of the index is missing or damaged; build it again."
            ) from error

    def _check(self, layer: str, unit: int) -> None:
        if layer not in self.manifest["units"]:
            raise ModelError(f"The index has no layer {layer!r}; it has {', '.join(self.layers)}.")
        count = self.manifest["units"][layer]
        if not 0 <= unit < count:
            raise ModelError(f"The layer {layer!r} has units 0 to {count - 1}, not {unit}.")

    def _rows(self, name: str, layer: str, unit: int) -> pd.DataFrame:
        self._check(layer, unit)
        return self._read(name, [("layer", "==", layer), ("unit", "==", unit)])


def open_exemplars(path: str | Path, model: Model | None = None) -> Exemplars:
    """Open an index that is finished.

    Parameters
    ----------
    path : str or Path
        Its folder.
    model : Model, optional
        The model that it should be of.

    Raises
    ------
    InputError
        If it is none, is not finished, was written by another version, or is of another model.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder.name!r} holds no index of exemplars; build one there first.")
    identity = identity_of(manifest)
    if identity.version != VERSION:
        raise InputError(
            f"The index in {folder.name!r} was written by another version of cnnvis (format "
            f"{identity.version}, this one reads {VERSION}); build one in another folder."
        )
    if not manifest.get("complete"):
        raise InputError(f"The index in {folder.name!r} is not finished; run its job to the end.")
    if model is not None and identity.weights != model.fingerprint:
        raise InputError(
            f"The index in {folder.name!r} is of another model ({identity.model!r}, or other "
            f"weights or input of it), not of {model.card.title}; choose that model, or build an "
            "index of this one in another folder."
        )
    return Exemplars(manifest, folder)


def is_whole(folder: Path) -> bool:
    """Whether all tables of an index can be opened."""
    try:
        for name in (TOP, UNITS, CLASSES, ITEMS):
            pq.read_metadata(folder / name)
    except (OSError, pa.ArrowException):
        return False
    return True


def finish(folder: Path | None, identity: Identity, dataset: Dataset, state: State) -> Exemplars:
    """Write the tables of a run that has seen everything, and then the manifest."""
    names, classes = _as_text(dataset.names), _as_text(dataset.classes)
    named = [classes[label] if 0 <= label < len(classes) else None for label in dataset.labels]
    broken = [{"file": names[i], "reason": why} for i, why in sorted(state.broken.items())]
    tallies = state.tallies.items()
    tables = {
        ITEMS: _parquet([{"file": names, "class": pa.array(named, pa.string())}]),
        TOP: _parquet(_top(layer, tally) for layer, tally in tallies),
        UNITS: _parquet(_units(layer, tally) for layer, tally in tallies),
        CLASSES: _parquet(_classes(layer, tally, classes) for layer, tally in tallies),
    }
    further = {
        "complete": True,
        "items": len(names),
        "classes": classes,
        "units": {layer: tally.units for layer, tally in state.tallies.items()},
        "broken": broken,
    }
    if folder is None:
        return Exemplars(manifest_of(identity, further), tables=tables)
    for name, data in tables.items():
        write(folder / name, data)
    write_manifest(folder, identity, further)
    (folder / STATE).unlink(missing_ok=True)
    return open_exemplars(folder)


def _parquet(parts: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet file with a row group a part, so that one layer is read without the others."""
    buffer = pa.BufferOutputStream()
    writer = None
    for part in parts:
        table = pa.table(dict(part))
        writer = writer or pq.ParquetWriter(buffer, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return bytes(buffer.getvalue().to_pybytes())


def _top(layer: str, tally: Tally) -> dict[str, Any]:
    parts = tally.arrays()
    units, k = parts["max_value"].shape
    columns: dict[str, list[Any]] = {}
    for by in ("max", "mean"):
        place = parts["max_place"] if by == "max" else np.full((units, k, 3), -1)
        for name, values in (
            ("unit", np.repeat(np.arange(units), k)),
            ("rank", np.tile(np.arange(k), units)),
            ("item", parts[f"{by}_item"].ravel()),
            ("activation", parts[f"{by}_value"].ravel()),
            *(
                (name, place[..., axis].ravel())
                for axis, name in enumerate(("row", "col", "window"))
            ),
        ):
            columns.setdefault(name, []).append(values)
        columns.setdefault("by", []).append(np.full(units * k, by))
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    # Too few items, or answers that are no numbers.
    there = (joined["item"] >= 0) & (joined["activation"] > -np.inf)
    found = {name: values[there] for name, values in joined.items()}
    order = np.lexsort((found["rank"], found["by"], found["unit"]))
    found = {name: values[order] for name, values in found.items()}
    return {"layer": np.full(len(order), layer), **found}


def _units(layer: str, tally: Tally) -> dict[str, Any]:
    parts = tally.arrays()
    found: dict[str, Any] = {
        "layer": np.full(tally.units, layer),
        "unit": np.arange(tally.units),
    }
    for by in ("max", "mean"):
        values = quantiles(parts[f"{by}_sketch"])
        found |= {f"{by}_{_percent(s)}": values[:, i] for i, s in enumerate(QUANTILES)}
    return found


def _classes(layer: str, tally: Tally, classes: list[str]) -> dict[str, Any]:
    parts, units = tally.arrays(), tally.units
    counts = parts["class_count"]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = {by: parts[f"class_{by}"] / counts for by in ("max", "mean")}
    return {
        "layer": np.full(units * len(classes), layer),
        "unit": np.repeat(np.arange(units), len(classes)),
        "class": pa.array(classes * units, pa.string()),
        "count": counts.astype(np.int64).ravel(),
        "mean_max": means["max"].ravel(),
        "mean_mean": means["mean"].ravel(),
    }


def _as_text(names: Sequence[str]) -> list[str]:
    """Names of files need not be text; such parts of them are written as question marks."""
    return [name.encode("utf-8", "replace").decode() for name in names]


def _percent(share: float) -> str:
    return f"{round(100 * share):02d}"
