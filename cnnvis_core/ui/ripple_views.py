"""Tuning to moving ripples on the page."""

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
from cnnvis_core.orientation import ModulationTuning, RippleStimuli
from cnnvis_core.orientation.modulation import ORDERS, Order, ranked
from cnnvis_core.render import charts
from cnnvis_core.render import ripples as drawn
from cnnvis_core.render.files import wav
from cnnvis_core.render.tuning import through_the_layers, tuning_csv
from cnnvis_core.ui.kernel_views import draw_kernel
from cnnvis_core.ui.tuning import Ranked, Request, choose_place, choose_rectified

PHASES = (4, 8, 12, 16)
FIELD_OCTAVES = 1.5  # to either side
FIELD_SECONDS = 0.25
FIELD_POINTS = 41
USUAL_HZ = 4.0  # syllables and footsteps
SECONDS = 2.0  # of a ripple that is played
WORDS: dict[Order, str] = {
    "rate": "nearest to a rate",
    "scale": "finest scale first",
    "direction": "from downward to upward",
    "modulation": "simple before complex",
}
DOWN, UP = "down", "up"


@dataclass(frozen=True)
class RippleView:
    """Units that hear, and moving ripples."""

    model: Model
    title = "Spectro-temporal tuning"
    doing = "Playing ripples"
    intro = (
        "What orientation is to seeing, this is to hearing: spectrograms that swell and fade in "
        "stripes, at every **rate** (Hz), every **scale** (cycles an octave), moving **down** or "
        "**up**. They are given to the real network, and each unit is described by what drives it, "
        "as neurons of the auditory cortex are."
    )
    reading = (
        "The sheet holds each unit's response over rate (upward left, downward right) and scale "
        "(coarse at the bottom). **Direction**: the difference of down and up over their sum, at "
        "the best rate and scale; 1 for downward ripples alone, -1 for upward ones. **Chance**: "
        "kernels with the same weights in a shuffled order prefer a direction too; what exceeds "
        "95 % of them is called beyond chance. **Receptive field**: the inverse "
        "Fourier transform of the first harmonics (Klein et al. 2000); of a linear unit it is the "
        "kernel, of others what a linear one would need. **F1/F0**: above 1 a unit follows the "
        "ripple's phase, below it answers wherever that stands.\n\n"
        "Rates that a spectrogram's frames cannot hold are not shown; mel bands are wide at low "
        "frequencies, so fine scales are played only higher up.\n\n"
        "T. Chi, P. Ru and S. A. Shamma, *Multiresolution spectrotemporal analysis of complex "
        "sounds*, J. Acoust. Soc. Am. 2005."
    )

    def ask(self, layer: Layer) -> Request[ModulationTuning]:
        """Draw the widgets about the ripples."""
        model = self.model
        behind, place = choose_rectified(model, layer), choose_place()
        with st.expander("The ripples", icon=":material/graphic_eq:"):
            phases = st.select_slider("Phases", PHASES, 8, key="phases", bind="query-params")
            depth = st.slider(
                "Depth (dB)", 1, 40, 15, key="depth", bind="query-params",
                help="From the mean level to the highest.",
            )  # fmt: skip
        shown = orientation.usual_ripples(model, phases, float(depth))

        def start(layers: Sequence[str], control: bool) -> Job[ModulationTuning, ModulationTuning]:
            return orientation.rank_modulation(model, layers, shown, place, behind, control)

        common = model.card.id, shown, place, behind
        return Request(common, common, start)

    def ask_order(self, layer: Layer) -> Callable[[ModulationTuning], Ranked]:
        """Draw the choice of an order."""
        by = st.selectbox(
            "Rank by", ORDERS, format_func=str.capitalize, key="rank-sound", bind="query-params",
        )  # fmt: skip
        rate, words = 1.0, WORDS[by]
        if by == "rate":
            rates = orientation.usual_ripples(self.model).rates_hz
            offered = {f"{hz:.3g} Hz": hz for hz in rates}
            usual = min(offered, key=lambda name: abs(offered[name] - USUAL_HZ))
            chosen = st.select_slider(
                "Rate", list(offered), usual, key="rate", bind="query-params",
            )  # fmt: skip
            way = st.segmented_control(
                "Moving", [DOWN, UP], default=DOWN, required=True, key="way", bind="query-params",
                format_func=str.capitalize,
            )  # fmt: skip
            rate = offered[chosen] * (1 if way == DOWN else -1)
            words = f"nearest to {chosen} {way} first"

        def rank(found: ModulationTuning) -> Ranked:
            one = found.layers[layer.name]
            order = ranked(one.table, by, rate)
            names = drawn.ripple_names(one.table, order)
            return Ranked(order, drawn.transfer_tiles(one, order), names, words)

        return rank

    def say(self, found: ModulationTuning, layer: Layer) -> str:
        """What was played, and how many units answered."""
        table, shown = found.layers[layer.name].table, found.ripples
        said = (
            f"{len(shown):,} ripples: {len(shown.rates_hz)} rates from {shown.rates_hz[0]:.2g} to "
            f"{shown.rates_hz[-1]:.3g} Hz, down and up, {len(shown.scales)} scales up to "
            f"{shown.scales[-1]:.2g} cycles an octave, {shown.phases} phases, ±{shown.depth_db:g} "
            "dB. Each tile is on its own scale: rate across, upward ripples on the left; scale "
            "upwards. "
        )
        if not table["selective"].isna().all():
            said += (
                f"**{int(table['selective'].sum()):,} of {len(table):,} prefer a direction beyond "
                "chance.** "
            )
        silent = int((~table["responds"]).sum())
        return said + (f"{silent:,} respond to no ripple; they stand last." if silent else "")

    def draw_curves(self, found: ModulationTuning, layer: Layer, unit: int) -> None:
        """Draw the transfer function and the receptive field."""
        one, shown = found.layers[layer.name], found.ripples
        row = one.table.iloc[unit]
        if not row["responds"]:
            st.info("This unit responds to none of these ripples, so it has no rate.")
            return
        seconds = np.linspace(-FIELD_SECONDS, FIELD_SECONDS, FIELD_POINTS)
        octaves = np.linspace(-FIELD_OCTAVES, FIELD_OCTAVES, FIELD_POINTS)
        values = orientation.strf(one, shown, unit, seconds, octaves)
        transfer, field = st.columns(2)
        with transfer:
            st.altair_chart(
                drawn.transfer_chart(one, shown, unit), width="stretch",
                alt=f"Response over rate and scale, best {row['preferred_rate_hz']:.2g} Hz",
            )  # fmt: skip
            st.caption("Response to each ripple, in the network's own unit.")
        with field:
            st.altair_chart(
                drawn.field_chart(values, seconds, octaves), width="stretch",
                alt="The spectro-temporal receptive field",
            )  # fmt: skip
            st.caption(
                "Receptive field, on its own scale: orange where more sound drives it, blue where "
                "less; the past is on the left."
            )

    def draw_details(self, found: ModulationTuning, layer: Layer, unit: int) -> None:
        """Draw the indices, the best ripple and the kernel."""
        one = found.layers[layer.name]
        row = one.table.iloc[unit]
        with st.container(horizontal=True, gap="medium"):
            with st.container(width=330):
                if row["responds"]:
                    st.markdown(_indices(row))
                draw_kernel(self.model, layer, unit)
            if row["responds"]:
                self._draw_best(found, one.transfer[unit])

    def _draw_best(self, found: ModulationTuning, transfer: Any) -> None:
        """The ripple that drives the unit most, to see and to hear."""
        shown = found.ripples
        frontend: Any = self.model.frontend
        at = np.unravel_index(int(np.nanargmax(transfer)), transfer.shape)
        rate, scale = float(shown.signed_rates[at[0]]), float(shown.scales[at[1]])
        levels = RippleStimuli(self.model, shown).inputs([(int(at[0]), int(at[1]), 0)])[0, 0]
        frames = max(2, round(SECONDS * frontend.sample_rate / frontend.hop))
        levels = levels[:, :frames]
        with st.container(width=400):
            st.altair_chart(
                charts.spectrogram(
                    levels.numpy(),
                    frontend.frame_seconds(levels.shape[1]),
                    frontend.mel_centres_hz(),
                ).properties(height=200),
                width="stretch", alt=f"The best ripple, {rate:.2g} Hz",
            )  # fmt: skip
            clip = orientation.ripple_sound(self.model, shown, rate, scale, SECONDS)
            st.audio(wav(clip.samples, clip.sample_rate), format="audio/wav")
            st.caption(
                f"The best ripple: {abs(rate):.3g} Hz moving {DOWN if rate > 0 else UP}, "
                f"{scale:.2g} cycles an octave, to be heard as tones. The network was given the "
                "spectrogram itself."
            )

    def draw_layer(self, found: ModulationTuning, layer: Layer) -> None:
        """Draw which rates, scales and directions the units prefer."""
        table = found.layers[layer.name].table
        st.altair_chart(
            drawn.preference_chart(table), width="stretch",
            alt="Preferred rate, scale and direction of each unit",
        )  # fmt: skip
        st.caption(
            "Each unit's preferred rate and scale; orange prefers downward, blue upward ripples."
        )

    def draw_depth(self, found: ModulationTuning) -> None:
        """Draw direction selectivity from the first convolution to the last."""
        tables = {name: one.table for name, one in found.layers.items()}
        st.altair_chart(
            through_the_layers(tables, "direction", "size of the direction index"),
            width="stretch", alt="Median direction index of each convolution",
        )  # fmt: skip
        st.caption(
            "How strongly each convolution's units prefer a direction: median, and the middle "
            "half as a bar."
        )

    def files(self, found: ModulationTuning, layer: Layer) -> dict[str, Callable[[], bytes]]:
        """Numbers of the layer."""
        return {
            "CSV": lambda: tuning_csv(found.layers[layer.name].table),
            "NPZ": lambda: drawn.modulation_npz(found, layer.name),
        }


def _indices(row: pd.Series) -> str:
    """A unit's figures, a line each."""
    chance = ""
    if row["selective"] is not pd.NA:
        chance = " (beyond chance)" if row["selective"] else " (no more than chance)"
    ratio, kind = row["modulation"], "simple" if row["modulation"] > 1 else "complex"
    return "  \n".join(
        [
            f"**Preferred rate** {row['preferred_rate_hz']:.3g} Hz, {drawn.way(row['direction'])}",
            f"**Preferred scale** {row['preferred_scale']:.2g} cycles an octave",
            f"**Direction** {row['direction']:+.2f}{chance}",
            f"**F1/F0** {f'{ratio:.2f}' if ratio < 100 else 'above 100'} ({kind})",
            f"**Peak response** {row['peak_response']:.3g}",
        ]
    )
