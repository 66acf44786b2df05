"""Orientation tuning on the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cnnvis_core import orientation
from cnnvis_core.jobs import Job
from cnnvis_core.models import Layer, Model
from cnnvis_core.orientation import Gratings, OrientationTuning, usual_gratings
from cnnvis_core.orientation.ranking import ORDERS, ranked
from cnnvis_core.render import tuning as drawn
from cnnvis_core.render.pictures import enlarged, png
from cnnvis_core.ui.dial import angle_dial
from cnnvis_core.ui.kernel_views import (
    brightness_of,
    draw_kernel,
    fit_kernels,
    fits_of,
    weights_tuning,
)
from cnnvis_core.ui.tuning import Ranked, Request, choose_place, choose_rectified

STEPS_DEG = (2.5, 5.0, 7.5, 10.0, 15.0, 22.5, 30.0)
PHASES = (4, 8, 12, 16)
DIAMETERS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
WHOLE = "whole picture"
KERNELS, CURVES = "Kernels", "Tuning curves"
SIDE = 150  # pixels of a grating
WORDS = {
    "angle": "nearest to an angle",
    "selectivity": "most selective first",
    "frequency": "finest stripes first",
    "bandwidth": "narrowest tuning first",
    "modulation": "simple before complex",
}
RING = [drawn.tint_hex(angle) for angle in range(0, 180, 10)]


@dataclass(frozen=True)
class GratingView:
    """Units that see, and gratings."""

    model: Model
    title = "Orientation"
    doing = "Showing gratings"
    intro = (
        "Which stripes drive a unit: gratings of every angle, width and phase are shown to the "
        "real network, and each unit is described as a neuroscientist describes a cell of the "
        "visual cortex. Angles are those of the stripes, counter-clockwise from horizontal."
    )
    reading = (
        "**Preferred angle**: direction of the vector average of the responses at twice the "
        "angle. **Selectivity**: one minus circular variance, |Σ R e²ⁱᶿ| / Σ R; 0 for all angles "
        "alike, 1 for one alone (Ringach et al. 2002; Mazurek et al. 2014). **Chance**: kernels "
        "with the same weights in a shuffled order reach some selectivity too; what exceeds 95 % "
        "of them, before the non-linearity, is called beyond chance. **Half width**: degrees from "
        "the peak to half of it. **F1/F0**: how the response follows the stripes as they pass, "
        "over its mean; above 1 a cell is called simple, below complex (Skottun et al. 1991). "
        "**Colour**: response to red-green or blue-yellow stripes over that to brightness (Johnson "
        "et al. 2001).\n\n"
        "A unit is tuned to more than stripes. Deep units answer to a grating by accident of their "
        "parts, at one place of their map; the angle of a unit that is not beyond chance means "
        "little. `docs/tuning.md` defines each figure.\n\n"
        "D. H. Hubel and T. N. Wiesel, *Receptive fields, binocular interaction and functional "
        "architecture in the cat's visual cortex*, J. Physiol. 1962."
    )

    def ask(self, layer: Layer) -> Request[OrientationTuning]:
        """Draw the widgets about the gratings."""
        model, side = self.model, min(self.model.input_shape[1:])
        behind, place = choose_rectified(model, layer), choose_place()
        colours = model.input_shape[0] == 3 and st.toggle(
            "Gratings of colour too", key="colours", bind="query-params",
            help="Red-green and blue-yellow ones, beside those of brightness.",
        )  # fmt: skip
        with st.expander("The gratings", icon=":material/texture:"):
            step = st.select_slider(
                "Between angles (degrees)", STEPS_DEG, 5.0, key="step", bind="query-params",
            )  # fmt: skip
            phases = st.select_slider("Phases", PHASES, 8, key="phases", bind="query-params")
            contrast = st.slider(
                "Contrast (%)", 5, 100, 100, step=5, key="contrast", bind="query-params",
                help="Michelson contrast about middle gray.",
            )  # fmt: skip
            offered = [WHOLE, *(str(size) for size in DIAMETERS if size < side)]
            size = st.select_slider(
                "Diameter (px)", offered, WHOLE, key=f"diameter-{side}", bind="query-params",
                help="A round window in the middle; cells often prefer a small one.",
            )  # fmt: skip
        diameter = None if size == WHOLE else float(size)
        full = usual_gratings(side, step, phases, contrast / 100)
        shown = Gratings(full.orientations_deg, full.frequencies, phases, contrast / 100, diameter)

        def start(
            layers: Sequence[str], control: bool
        ) -> Job[OrientationTuning, OrientationTuning]:
            return orientation.rank_orientation(
                model, layers, shown, place, behind, control, bool(colours and control)
            )

        common = model.card.id, shown, place, behind
        return Request((*common, colours), common, start)

    def ask_order(self, layer: Layer) -> Callable[[OrientationTuning], Ranked]:
        """Draw the dial and the choice of an order."""
        by = st.selectbox(
            "Rank by", ORDERS, format_func=str.capitalize, key="rank", bind="query-params",
        )  # fmt: skip
        angle = angle_dial("Angle (degrees)", "angle", RING) if by == "angle" else 0
        weight = brightness_of(self.model, layer.name)
        tiles = CURVES
        if weight is not None:
            tiles = st.segmented_control(
                "Tiles", [KERNELS, CURVES], default=KERNELS, required=True, key="tiles",
                bind="query-params",
            )  # fmt: skip
        words = f"nearest to {angle}° first" if by == "angle" else WORDS[by]

        def rank(found: OrientationTuning) -> Ranked:
            one = found.layers[layer.name]
            order = ranked(one.table, by, angle)
            sheet = (
                drawn.tinted_kernels(weight, one.table, order)
                if weight is not None and tiles == KERNELS
                else drawn.polar_tiles(one, order)
            )
            return Ranked(order, sheet, drawn.tuned_names(one.table, order), words)

        return rank

    def say(self, found: OrientationTuning, layer: Layer) -> str:
        """What was shown, and how many units answered."""
        table, shown = found.layers[layer.name].table, found.gratings
        beyond = table["selective"]
        said = (
            f"{len(shown):,} gratings: {len(shown.orientations_deg)} angles, "
            f"{len(shown.frequencies)} widths, {shown.phases} phases. The tint is the preferred "
            "angle, as on the dial's ring, and gray where all angles are alike. "
        )
        if not beyond.isna().all():
            said += f"**{int(beyond.sum()):,} of {len(table):,} are selective beyond chance.** "
        silent = int((~table["responds"]).sum())
        if silent:
            said += f"{silent:,} respond to no brightness and have no angle; they stand last."
        return said

    def _full_table(self, found: OrientationTuning, layer: Layer) -> pd.DataFrame:
        """The table with what the weights say, where there are kernels."""
        table, weights = found.layers[layer.name].table, weights_tuning(self.model, layer.name)
        if weights is None:
            return table
        table = orientation.beside_weights(table, weights.orientation_deg, weights.coherence)
        fits = fits_of(self.model, layer.name)
        if fits is not None:
            table = table.assign(
                gabor_deg=fits.orientation_deg, gabor_frequency=fits.frequency,
                gabor_residual=fits.residual,
            )  # fmt: skip
        return table

    def draw_curves(self, found: OrientationTuning, layer: Layer, unit: int) -> None:
        """Draw the tuning curve, straight and around a circle."""
        one = found.layers[layer.name]
        row = one.table.iloc[unit]
        if not row["responds"]:
            if row.get("colour_ratio") == np.inf:
                st.info(f"This unit responds to {row['colour']} stripes alone; it has no angle.")
            else:
                st.info("This unit responds to none of these gratings, so it has no angle.")
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width=290):
                st.altair_chart(
                    drawn.tuning_curve(one, unit), width="stretch",
                    alt=f"Response over the angle, preferred {row['preferred_deg']:.0f} degrees",
                )  # fmt: skip
            st.altair_chart(
                drawn.polar_plot(one, unit), width="content", alt="The same around a circle"
            )
        st.caption(
            "Response at the best stripe width, in the network's own unit; the dashed line is the "
            "preferred angle. The same is drawn around a circle."
        )

    def draw_details(self, found: OrientationTuning, layer: Layer, unit: int) -> None:
        """Draw the indices, best and worst grating, the kernel and the frequency curve."""
        one = found.layers[layer.name]
        fit_kernels(self.model, layer.name)
        row = self._full_table(found, layer).iloc[unit]
        if row["responds"]:
            with st.container(horizontal=True, gap="medium"):
                with st.container(width=390):
                    st.markdown(_indices(row))
                with st.container(width=390):
                    st.altair_chart(
                        drawn.frequency_curve(one, found.gratings, unit), width="stretch",
                        alt=f"Response over the frequency, best {row['preferred_frequency']:.3f}",
                    )  # fmt: skip
                    st.caption("Response at the best angle.")
        with st.container(horizontal=True, gap="medium"):
            if row["responds"]:
                for title, at in (("Best grating", one.best[unit]), ("Worst", one.worst[unit])):
                    self._draw_grating(found.gratings, title, at)
            with st.container(width=SIDE + 50):
                draw_kernel(self.model, layer, unit)

    def _draw_grating(self, gratings: Gratings, title: str, at: Any) -> None:
        channels, height, width = self.model.input_shape
        picture = drawn.grating_picture(gratings, (height, width), channels, at)
        angle = gratings.orientations_deg[at[0]]
        frequency = gratings.frequencies[at[1]]
        with st.container(width=SIDE):
            st.image(
                png(enlarged(picture, SIDE)), width=SIDE,
                alt=f"{title}: stripes at {angle:g} degrees, {frequency:.3f} cycles a pixel",
            )  # fmt: skip
            st.caption(f"{title}: {angle:g}°, {frequency:.3f} cycles a px.")

    def draw_layer(self, found: OrientationTuning, layer: Layer) -> None:
        """Draw how often each angle is preferred, and how weights agree."""
        table = self._full_table(found, layer)
        st.altair_chart(
            drawn.angle_histogram(table), width="stretch",
            alt="How many units prefer each angle",
        )  # fmt: skip
        near, count = orientation.cardinal(table)
        unknown = bool(table["selective"].isna().all())
        said = "No unit has an angle." if unknown else "No unit is selective beyond chance."
        if count:
            kind = "units" if unknown else "selective units"
            said = (
                f"{near} of {count} {kind} ({near / count:.0%}) prefer an angle within "
                "22.5° of horizontal or vertical; without any oblique effect it would be half."
            )
        if unknown:
            said += " The layer has no kernels to shuffle, so what chance would do is not known."
        elif "apart_deg" in table:
            both, share, median = orientation.agreeing(table)
            said += (
                f"  \n**Beside the weights:** of {both} units that are selective by their "
                f"responses and by their weights, {share:.0%} have the same angle within 10° "
                f"(median {median:.1f}°)."
                if both
                else "  \n**Beside the weights:** no unit is selective by both."
            )
        st.caption(said)

    def draw_depth(self, found: OrientationTuning) -> None:
        """Draw selectivity from the first convolution to the last."""
        tables = {name: one.table for name, one in found.layers.items()}
        st.altair_chart(
            drawn.through_the_layers(tables, "selectivity", "selectivity"), width="stretch",
            alt="Median selectivity of each convolution",
        )  # fmt: skip
        st.caption("Selectivity of each convolution's units: median, and the middle half as a bar.")

    def files(self, found: OrientationTuning, layer: Layer) -> dict[str, Callable[[], bytes]]:
        """Numbers of the layer."""
        table = self._full_table(found, layer)
        return {
            "CSV": lambda: drawn.tuning_csv(table),
            "NPZ": lambda: drawn.orientation_npz(found, layer.name, table),
        }


def _indices(row: pd.Series) -> str:
    """A unit's figures, a line each."""
    kind = "simple" if row["modulation"] > 1 else "complex"
    chance = "" if row["selective"] is pd.NA else " (beyond chance)" * bool(row["selective"])
    if row["selective"] is not pd.NA and not row["selective"]:
        chance = " (no more than chance)"
    ratio = row["modulation"]
    lines = [
        f"**Preferred angle** {row['preferred_deg']:.1f}°",
        f"**Selectivity** {row['selectivity']:.2f}{chance}",
        f"**Across over along** {row['orthogonal_to_preferred']:.2f}",
        "**Half width** "
        + (
            f"{row['half_width_deg']:.0f}°"
            if np.isfinite(row["half_width_deg"])
            else "none, it never falls to half"
        ),
        f"**Frequency** {row['preferred_frequency']:.3f} cycles a px"
        + (
            f", {row['preferred_cycles_per_field']:.1f} a receptive field"
            if np.isfinite(row["preferred_cycles_per_field"])
            else ""
        ),
        f"**F1/F0** {f'{ratio:.2f}' if ratio < 100 else 'above 100'} ({kind})",
        f"**Peak response** {row['peak_response']:.3g}",
    ]
    if "colour_ratio" in row:
        lines.append(
            f"**Colour over brightness** {row['colour_ratio']:.2f} ({row['colour'] or 'neither'})"
        )
    if "weight_deg" in row and np.isfinite(row["weight_deg"]):
        lines.append(
            f"**By the weights** {row['weight_deg']:.1f}°, coherence "
            f"{row['weight_coherence']:.2f}, {row['apart_deg']:.1f}° apart"
        )
    if "gabor_deg" in row and np.isfinite(row["gabor_residual"]):
        lines.append(
            f"**Gabor fit** {row['gabor_deg']:.1f}°, {row['gabor_frequency']:.3f} cycles a px, "
            f"leaves {row['gabor_residual']:.0%} of the weights' energy"
        )
    return "  \n".join(lines)
