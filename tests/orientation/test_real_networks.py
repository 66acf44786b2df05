"""First layers of real networks: angles by responses beside angles by weights."""

from __future__ import annotations

import pytest

import cnnvis_core as cv
from cnnvis_core.filters import fit_gabors, on_brightness, spectral_tuning
from cnnvis_core.orientation import agreeing, beside_weights, rank_orientation, usual_gratings


@pytest.mark.parametrize(
    ("name", "layer", "fewest"),
    [
        ("squeezenet1_0", "features.0", 40),
        ("mobilenet_v2", "features.0.0", 5),
        ("resnet18", "conv1", 20),
    ],
)
def test_angles_by_responses_are_those_by_weights(data_dir, name, layer, fewest):
    model = cv.load_checkpoint(name, (data_dir / "weights" / f"{name}.pth").read_bytes())
    table = cv.run(rank_orientation(model, layer, usual_gratings(224, 15.0))).table
    weights = spectral_tuning(on_brightness(model, cv.filters(model, layer)))
    table = beside_weights(table, weights.orientation_deg, weights.coherence)
    count, near, median = agreeing(table)
    print(
        f"{name}: {count} of {len(table)} selective by both, {near:.0%} within 10°, {median:.1f}°"
    )
    assert count >= fewest
    assert near >= 0.95
    assert median < 4


def test_trained_kernels_are_nearly_gabor_functions(data_dir):
    model = cv.load_checkpoint("resnet18", (data_dir / "weights" / "resnet18.pth").read_bytes())
    weight = cv.filters(model, "conv1").weight.numpy()
    residual = fit_gabors(weight).residual
    print(f"median residual {sorted(residual)[len(residual) // 2]:.3f}")
    assert sorted(residual)[len(residual) // 2] < 0.12
