"""Results as files to download."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from cnnvis_core.activations import UnitStatistics
from cnnvis_core.filters import Kernels
from cnnvis_core.occlusion.result import Occlusion


def occlusion_npz(occlusion: Occlusion) -> bytes:
    """The numbers of a map: drop, heatmap, baseline, class, and the edges of the patches."""
    buffer = io.BytesIO()
    rows, cols = occlusion.grid.rows, occlusion.grid.cols
    np.savez_compressed(
        buffer,
        drop=occlusion.drop,
        measured=occlusion.measured,
        heatmap=occlusion.heatmap,
        baseline=occlusion.baseline,
        target=occlusion.target,
        class_name=occlusion.class_name,
        score=occlusion.score,
        fill=occlusion.fill,
        row_starts=rows.starts,
        row_ends=rows.ends,
        row_unit=rows.unit,
        col_starts=cols.starts,
        col_ends=cols.ends,
        col_unit=cols.unit,
    )
    return buffer.getvalue()


def occlusion_csv(occlusion: Occlusion) -> bytes:
    """One row a position."""
    return occlusion.table().to_csv(index=False, float_format="%.7g").encode()


def kernels_npz(kernels: Kernels) -> bytes:
    """The weights of a layer and what was measured on them."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        weight=kernels.weight.numpy(),
        norm=kernels.norms,
        dead=kernels.dead,
        orientation_deg=kernels.tuning.orientation_deg,
        coherence=kernels.tuning.coherence,
    )
    return buffer.getvalue()


def kernels_csv(kernels: Kernels) -> bytes:
    """One row a kernel: norm, whether dead, orientation and coherence."""
    frame = pd.DataFrame(
        {
            "unit": np.arange(len(kernels)),
            "norm": kernels.norms,
            "dead": kernels.dead,
            "orientation_deg": kernels.tuning.orientation_deg,
            "coherence": kernels.tuning.coherence,
        }
    )
    return frame.to_csv(index=False, float_format="%.7g").encode()


def maps_npz(maps: NDArray[np.float32], layer: str, rectified: bool) -> bytes:
    """The feature maps (units, h, w) of a layer."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, maps=maps, layer=layer, behind_non_linearity=rectified)
    return buffer.getvalue()


def units_csv(found: UnitStatistics) -> bytes:
    """One row a unit: mean, maximum and its place, share of active positions."""
    frame = pd.DataFrame(
        {
            "unit": np.arange(len(found.mean)),
            "mean": found.mean,
            "maximum": found.maximum,
            "peak_row": found.peak[:, 0],
            "peak_col": found.peak[:, 1],
            "active_share": found.active_share,
        }
    )
    return frame.to_csv(index=False, float_format="%.7g").encode()


def wav(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Samples (n,) as a 16-bit WAV file, as loud as they are; full scale is 1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
