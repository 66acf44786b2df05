"""How the change between two networks is drawn on the page."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import streamlit as st

from cnnvis_core.jobs import Job, Step, run
from cnnvis_core.maximization import Maximization, maximize
from cnnvis_core.models import Layer, Model
from cnnvis_core.network import family
from cnnvis_core.render import transfer as drawn
from cnnvis_core.render.pictures import png
from cnnvis_core.transfer import Alignment, By, Change, align, common_layers, compare
from cnnvis_core.ui.collections import tiles_of
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.layers import take_unit
from cnnvis_core.ui.models import is_public
from cnnvis_core.ui.relatives import Chosen
from cnnvis_core.ui.tiles import tile_sheet

SHOWN = 128  # inputs
DRAWN = 8  # units
STEPS, LARGEST = 64, 96  # of pictures, and pixels of their side
SIDE = 112  # pixels of a picture on the page
ORDERS: dict[By, tuple[str, str, str]] = {
    "response": ("Responses", "response_change", "response_noise"),
    "excess": ("Excess", "response_change", "response_noise"),
    "weight": ("Weights", "weight_change", "weight_noise"),
}
TITLES = {
    "response": "response change (1 - r)",
    "excess": "response change (1 - r)",
    "weight": "weight change",
}


def choose_order() -> By:
    """Draw the choice of the measure by which units are ranked."""
    return st.segmented_control(
        "Most changed by", list(ORDERS), format_func=lambda by: ORDERS[by][0], default="response",
        required=True, key="changed-by", bind="query-params",
        help="Responses: how differently a unit answers to the same inputs in both networks. "
        "Excess: the same less its noise. Weights: how far its own weights moved.",
    ) or "response"  # fmt: skip


@dataclass(frozen=True)
class ChangeView:
    """Two networks and a layer.

    Attributes
    ----------
    before, after : Chosen
        The networks.
    layer : Layer
        Of the one before.
    by : By
        Measure by which units are ranked.
    """

    before: Chosen
    after: Chosen
    layer: Layer
    by: By

    @cached_property
    def models(self) -> tuple[Model, Model]:
        """Both networks."""
        return self.before.model, self.after.model

    @cached_property
    def controls(self) -> tuple[Model, ...]:
        """What the same training with another seed came to, where there is such a one."""
        control = self.after.control
        return () if control is None else (control,)

    @property
    def key(self) -> tuple[str, ...]:
        """All that a result depends on."""
        networks = (*self.models, *self.controls)
        return *(model.card.id for model in networks), self.layer.name

    @property
    def public(self) -> bool:
        """Whether no network of the visitor's own is among them."""
        return is_public(*self.models, *self.controls)

    @property
    def sound(self) -> bool:
        """Whether the networks hear."""
        return self.models[0].modality == "audio"

    @property
    def size(self) -> int:
        """Pixels of a drawn picture's side."""
        return min(max(self.models[0].input_shape[1:]), LARGEST)

    def measure(self) -> Change | None:
        """Compare all units of the layer; None where that was cancelled."""
        a, b = self.models
        outcome = run_job(
            ("change", *self.key),
            partial(
                compare, a, b, self.layer.name, tiles_of(a.modality), controls=self.controls,
                most=SHOWN,
            ),
            "Showing inputs to both networks",
            public=self.public,
        )  # fmt: skip
        return outcome.value

    def draw_ranking(self, found: Change, unit: int) -> None:
        """Draw the change of all units, most changed first."""
        _, column, noise = ORDERS[self.by]
        table = found.ranked(self.by)
        if table[column].isna().all():
            st.info(f"{self.layer.name} has no weights of its own; rank its units by responses.")
            return
        st.altair_chart(
            drawn.changes(table, column, noise, unit, TITLES[self.by]), width="stretch",
            alt=f"Change of the {len(table)} units, most for unit {table['unit'][0]}",
        )  # fmt: skip
        other = ""
        if self.controls:
            other = f"; between both seeds {found.cka_control:.3f}"
        st.caption(
            f"Dots: each unit's change; gray: {self._noise(self.by)}. The whole layer sees "
            f"{found.inputs} inputs alike to {found.cka:.3f} ± {found.cka_noise:.3f}{other} (CKA; "
            "1 for the same, up to turning)."
        )

    def _noise(self, by: By) -> str:
        """What the noise of a measure is, in words."""
        if self.controls:
            return "how far the same training with another seed came out elsewhere"
        if by == "weight":
            return "no noise, for there is no training with another seed to compare with"
        return "its standard error over other draws of the inputs"

    def drawn_units(self, found: Change, unit: int) -> tuple[int, ...]:
        """The units that are drawn in both networks: the most changed ones, and the chosen one."""
        first = found.ranked(self.by)["unit"].head(DRAWN).tolist()
        return tuple(first if unit in first else [*first[: DRAWN - 1], unit])

    def draw_pairs(self, units: tuple[int, ...], unit: int) -> Change | None:
        """Draw units in both networks from the same start; None where that was cancelled."""
        a, b = self.models
        outcome = run_job(
            ("pairs", *self.key, units),
            partial(
                compare,
                a,
                b,
                self.layer.name,
                None,
                units,
                controls=self.controls,
                seeds=1,
                steps=STEPS,
                size=self.size,
            ),
            "Drawing units in both networks",
            public=self.public,
        )
        found: Change | None = outcome.value
        if found is None:
            return None
        names = [self._name(found, u) for u in units]
        tile_sheet(
            drawn.pair_sheet(found.pictures, units, self.sound), names, units.index(unit),
            lambda index: take_unit(units[index]), key=f"pairs-{'-'.join(self.key)}",
            alt=f"What {len(units)} units look for, before above, after below",
        )  # fmt: skip
        failed = ", ".join(map(str, found.failed))
        again = ", ".join(str(u) for u in units if found.pictures[u].redrawn)
        st.caption(
            "What each unit looks for before (above) and after (below), from the same first noise. "
            "Change: 1 - cosine of both pictures' embeddings in the network before; noise: the "
            + ("same between the trainings of both seeds." if self.controls else
               "same of two pictures from different noise without any training.")
            + (f" Blank, and so not judged (crossed): units {failed}." if failed else "")
            + (f" Blank at first, so drawn from another start: units {again}." if again else "")
        )  # fmt: skip
        return found

    def _name(self, found: Change, unit: int) -> str:
        """What to say of a unit's pair of pictures."""
        if found.pictures[unit].failed:
            return f"Unit {unit}: blank {found.pictures[unit].failed}"
        row = found.table.set_index("unit").loc[unit]
        return f"Unit {unit}: change {row.picture_change:.2f}, noise {row.picture_noise:.2f}"

    def draw_unit(self, measured: Change, pairs: Change | None, unit: int) -> None:
        """Draw a unit's figures beside their noise."""
        row = measured.table.set_index("unit").loc[unit]
        figures = [
            ("Responses, 1 - r", row["response_change"], row["response_noise"]),
            ("Weights", row["weight_change"], row["weight_noise"]),
        ]
        if pairs is not None and unit in pairs.pictures:
            picture = pairs.table.set_index("unit").loc[unit]
            figures += [
                ("Picture, 1 - cosine", picture["picture_change"], picture["picture_noise"]),
                ("Picture, texture", picture["gram_distance"], picture["gram_noise"]),
            ]
        place = int((measured.ranked(self.by)["unit"] == unit).to_numpy().argmax()) + 1
        st.dataframe(
            pd.DataFrame(figures, columns=["measure", "change", "noise"]),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.3f") for name in ("change", "noise")
            },
            alt=f"How unit {unit} changed",
        )
        st.caption(f"Place {place} of {len(measured.table)} by {ORDERS[self.by][0].lower()}.")

    def draw_epochs(self, unit: int) -> None:
        """Draw what a unit looks for after each epoch, from the same first noise."""
        relative = self.after.relative
        steps = [(self.before.title, self.before)]
        steps += [(f"Epoch {epoch}", Chosen(relative, epoch)) for epoch in relative.epochs]
        if not relative.epochs:
            steps.append((self.after.title, self.after))
        models = [chosen.model for _, chosen in steps]
        outcome = run_job(
            ("epochs", *(chosen.key for _, chosen in steps), self.layer.name, unit),
            partial(_each_drawn, models, self.layer.name, unit, self.size),
            "Drawing the unit after each epoch",
            public=is_public(*models),
        )
        if outcome.value is None:
            return
        with st.container(horizontal=True):
            for (title, chosen), found in zip(steps, outcome.value, strict=True):
                picture = drawn.unit_picture(found.images[0], self.sound, 2 * SIDE)
                with st.container(width=SIDE):
                    st.image(
                        png(picture, quick=True), width=SIDE,
                        alt=f"What unit {unit} looks for: {title}",
                    )  # fmt: skip
                    mark = "**" if chosen.epoch == self.after.epoch else ""
                    st.caption(f"{mark}{title}{mark}")

    def draw_depth(self) -> None:
        """Draw how far the weights of every convolution moved."""
        a, b = self.models
        outcome = run_job(
            ("depth", a.card.id, b.card.id),
            lambda: Job(_depth(a, b)),
            "Comparing all layers' weights",
            public=is_public(a, b),
        )
        if outcome.value is None:
            return
        if outcome.value.empty:
            st.info("The networks share no layer with weights.")
            return
        st.altair_chart(
            drawn.by_layer(outcome.value, self.layer.name), width="stretch",
            alt="Weight change of the units of each layer",
        )  # fmt: skip
        st.caption("For each layer the least and the most changed unit, half of them, the median.")

    def draw_alignment(self) -> None:
        """Draw the alignment of every convolution with every other one."""
        a, b = self.models
        outcome = run_job(
            ("alignment", a.card.id, b.card.id),
            partial(
                align, a, b, tiles_of(a.modality), layers_shown(a), layers_shown(b), most=SHOWN
            ),
            "Aligning all layers",
            public=is_public(a, b),
        )
        found: Alignment | None = outcome.value
        if found is not None:
            st.altair_chart(
                drawn.alignment_map(found), width="stretch",
                alt="Alignment of all layers before with all layers after",
            )  # fmt: skip
            st.caption(
                f"Centred kernel alignment over {found.inputs} inputs. A light diagonal: layers "
                "kept their place; light beside it: neighbours see alike."
            )
            draw_downloads("alignment", {"CSV": lambda: found.table().to_csv().encode()})


def layers_shown(model: Model) -> list[str]:
    """The layers that stand for a network's depth: its convolutions, else all."""
    kinds = [layer.name for layer in model.layers if family(layer) == "convolution"]
    return kinds or [layer.name for layer in model.layers]


def _each_drawn(
    models: Sequence[Model], layer: str, unit: int, size: int
) -> Job[tuple[Maximization, ...], None]:
    """The same unit of several networks, drawn one after the other."""

    def drawn_steps() -> Generator[Step[None], None, tuple[Maximization, ...]]:
        found = []
        for number, model in enumerate(models):
            with maximize(model, layer, [unit], STEPS, size) as job:
                for progress in job:
                    share = progress.done / max(progress.total, 1)
                    yield Step(round((number + share) * STEPS), len(models) * STEPS)
            found.append(job.result)
        return tuple(found)

    return Job(drawn_steps())


def _depth(a: Model, b: Model) -> Generator[Step[None], None, pd.DataFrame]:
    shared = set(common_layers(a, b))
    names = [name for name in layers_shown(a) if name in shared]
    rows = []
    for number, name in enumerate(names):
        yield Step(number, len(names))
        found = run(compare(a, b, name))
        values = found.table["weight_change"].dropna()
        if len(values):
            parts = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
            rows.append((name, *parts))
    return pd.DataFrame(rows, columns=["layer", "low", "q1", "median", "q3", "high"])
