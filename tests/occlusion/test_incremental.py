"""The incremental engine: exact on every family of networks, on random ones and on long sounds."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torchvision.models import get_model
from torchvision.models.resnet import Bottleneck, ResNet

from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import run
from cnnvis_core.models.graph import record, resolve
from cnnvis_core.models.loading import from_module
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.simplify import simplify
from cnnvis_core.models.soundnet import SoundNet
from cnnvis_core.models.yamnet import YAMNet, yamnet_frontend
from cnnvis_core.models.zoo import builder
from cnnvis_core.occlusion import occlude
from cnnvis_core.occlusion.grid import Cell, Grid, pixel_axis
from cnnvis_core.occlusion.incremental import (
    Boxes,
    Change,
    CleanPass,
    MapRows,
    Pass,
    forgets,
    rule_for,
)
from cnnvis_core.occlusion.incremental.boxes import Window, paste
from cnnvis_core.occlusion.picture import PictureOccluder
from tests.occlusion.networks import COUNTS, Lambda, any_network, around
from tests.support import lively, small_network, sound_frontend

LARGEST_GAP = 1e-4  # of the range of the logits
Pair = tuple[int, int]


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def covering(x: torch.Tensor, patch: Pair, stride: Pair) -> PictureOccluder:
    """Covers a picture with another one."""
    rows, cols = (pixel_axis(*axis) for axis in zip(x.shape[2:], patch, stride, strict=True))
    return PictureOccluder(x, noise(*x.shape, seed=2), Grid(rows, cols), "another picture")


def corners_and_more(grid: Grid) -> list[Cell]:
    """Every corner, the borders, where patches are cut, and the inside."""
    bottom, right = (n - 1 for n in grid.shape)
    down, across = bottom // 2, right // 2
    cells = {(0, 0), (0, right), (bottom, 0), (bottom, right), (down, across)}
    return sorted(cells | {(bottom, across // 2), (down // 2, right), (down, 0), (0, across)})


def passed(
    module: nn.Module, occluder: PictureOccluder, cells: list[Cell]
) -> tuple[torch.Tensor, Pass]:
    """Logits (len(cells), classes) by the incremental engine."""
    with torch.inference_mode():
        x = occluder.clean()
        clean = CleanPass(simplify(record(module, x.shape[1:])), x, forgets)
        one = Pass(clean, len(cells), occluder.changes(cells))
        return one.run(rule_for), one


def gap_and_effects(
    module: nn.Module, occluder: PictureOccluder, cells: list[Cell]
) -> tuple[float, NDArray[np.float32]]:
    """Largest error, and what every patch changes, as shares of the range of the logits."""
    found, _ = passed(module, occluder, cells)
    with torch.inference_mode():
        full = module(occluder.covered(cells))
        effects = (full - module(occluder.clean())).abs().amax(1)
    span = float(full.max() - full.min())
    return float((found - full).abs().max()) / span, (effects / span).numpy()


def of_family(name: str) -> nn.Module:
    """A network of one of torchvision's families, heavy ones with fewer blocks or units."""
    torch.manual_seed(0)
    if name == "resnext":
        return ResNet(Bottleneck, [1, 1, 1, 1], 50, groups=32, width_per_group=4)
    if name == "wide_resnet":
        return ResNet(Bottleneck, [1, 1, 1, 1], 50, width_per_group=128)
    if name not in ("alexnet", "vgg11_bn"):
        module: Any = builder(name)()
        for part in module.modules():
            if hasattr(part, "layer_scale"):  # ConvNeXt is born with blocks that do nothing
                part.layer_scale.data.fill_(1)
        return nn.Sequential(module)
    with torch.device("meta"):
        heavy: Any = get_model(name)
    units = next(part for part in heavy.classifier if isinstance(part, nn.Linear)).in_features
    heavy.classifier = nn.Sequential(nn.Linear(units, 32), nn.ReLU(), nn.Linear(32, 50))
    for part in heavy.features.to_empty(device="cpu"):
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return nn.Sequential(heavy)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", (65, 97)),
        ("vgg11_bn", (65, 97)),
        ("resnet18", (65, 97)),
        ("resnext", (97, 65)),
        ("wide_resnet", (65, 97)),
        ("densenet121", (65, 97)),
        ("googlenet", (65, 97)),
        ("inception_v3", (79, 97)),
        ("squeezenet1_1", (65, 97)),
        ("mobilenet_v2", (97, 65)),
        ("mobilenet_v3_small", (65, 97)),
        ("shufflenet_v2_x0_5", (65, 97)),
        ("mnasnet0_5", (65, 97)),
        ("efficientnet_b0", (65, 97)),
        ("efficientnet_v2_s", (65, 97)),
        ("regnet_x_400mf", (65, 97)),
        ("regnet_y_400mf", (97, 65)),
        ("convnext_tiny", (97, 129)),
    ],
)
def test_every_family_gets_the_answers_of_the_full_network(name: str, size: Pair) -> None:
    shape = (3, *size)
    module = lively(of_family(name), shape)
    # Rectangular patches; the last ones are cut at the border.
    occluder = covering(noise(1, *shape), (10, 13), (7, 11))
    assert occluder.grid.box((len(occluder.grid.rows) - 1, 0))[2] - size[0] == 0
    gap, effects = gap_and_effects(module, occluder, corners_and_more(occluder.grid))
    assert effects.min() > 3e-4, "patches that change nothing prove nothing"
    assert gap < min(LARGEST_GAP, 0.02 * effects.min())


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "googlenet", "inception_v3", "shufflenet_v2_x0_5"],
)
def test_early_layers_compute_rectangles_only(name: str) -> None:
    module = of_family(name).eval()
    occluder = covering(noise(1, 3, 129, 161), (6, 6), (6, 6))
    cells = [(1, 1), (10, 14)]
    _, incremental = passed(module, occluder, cells)
    graph = record(module, (3, 129, 161))
    largest = max(math.prod(resolve(shape, 2)) for node in graph.nodes for shape in node.shapes)
    assert incremental.largest < 0.6 * 4 * largest


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, i) for kind, count in COUNTS.items() for i in range(count)]
)
def test_every_operation_lets_changes_through_exactly(kind: str, number: int) -> None:
    check_random(*around(kind, number), number)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_get_the_answers_of_the_full_network(seed: int) -> None:
    check_random(*any_network(seed), seed)


def check_random(module: nn.Module, shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 12, 2))
    stride = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    occluder = covering(noise(1, *shape), (height, width), stride)
    gap, effects = gap_and_effects(module, occluder, corners_and_more(occluder.grid))
    assert effects.max() > 1e-4
    assert gap < min(LARGEST_GAP, 0.05 * effects.max())


def test_the_order_and_number_of_inputs_do_not_matter() -> None:
    module, shape = around("residual", 0)
    occluder = covering(noise(1, *shape), (5, 4), (3, 4))
    cells = corners_and_more(occluder.grid)
    together, _ = passed(module, occluder, cells)
    backwards, _ = passed(module, occluder, cells[::-1])
    alone = torch.cat([passed(module, occluder, [cell])[0] for cell in cells])
    torch.testing.assert_close(backwards.flip(0), together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_a_patch_over_the_whole_input() -> None:
    module, shape = around("gates", 0)
    occluder = covering(noise(1, *shape), shape[1:], shape[1:])
    gap, effects = gap_and_effects(module, occluder, [(0, 0)])
    assert effects.min() > 1e-3
    assert gap < LARGEST_GAP


def test_inputs_in_which_nothing_changes_keep_the_clean_answer() -> None:
    module, x = small_network(), noise(1, 3, 20, 20)
    with torch.inference_mode():
        clean = CleanPass(simplify(record(module, (3, 20, 20))), x, forgets)
        found = Pass(clean, 3, None).run(rule_for)
    torch.testing.assert_close(found, module(x).expand(3, -1), atol=1e-6, rtol=1e-5)


def test_patches_outside_of_what_the_network_looks_at_keep_the_clean_answer() -> None:
    class Window(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.inner(x[:, :, 8:, 8:]))

    module = Window().eval()
    occluder = covering(noise(1, 3, 24, 24), (4, 4), (4, 4))
    cells = [(0, 0), (1, 5), (3, 3), (5, 1)]
    found, _ = passed(module, occluder, cells)
    clean = module(occluder.clean())[0]
    torch.testing.assert_close(found[[0, 1, 3]], clean.expand(3, -1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found, module(occluder.covered(cells)), atol=1e-6, rtol=1e-5)
    assert (found[2] - clean).abs().max() > 1e-4


def test_batches_in_which_a_moved_part_stays_clean() -> None:
    def forward(_: Any, x: torch.Tensor) -> Any:
        corners = [x[:, :, :8, :8].transpose(0, 1), x[:, :, -8:, -8:].transpose(0, 1)]
        return torch.cat(corners, 2).relu().mean((2, 3)).transpose(0, 1)

    module = Lambda(forward)
    occluder = covering(noise(1, 3, 20, 20), (5, 5), (5, 5))
    for cell in ((0, 0), (3, 3), (0, 3)):
        found, _ = passed(module, occluder, [cell])
        torch.testing.assert_close(found, module(occluder.covered([cell])))


def test_a_later_batch_does_not_see_an_earlier_one() -> None:
    module, shape = around("normed", 1)
    occluder = covering(noise(1, *shape), (5, 5), (5, 5))
    with torch.inference_mode():
        clean = CleanPass(simplify(record(module, shape)), occluder.clean(), forgets)
        found = [Pass(clean, 1, occluder.changes([(i, i)])).run(rule_for) for i in (0, 2, 0)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_the_clean_values_are_freed_at_once() -> None:
    gc.disable()
    try:
        occluder = covering(noise(1, 3, 20, 20), (5, 5), (5, 5))
        _, one = passed(small_network(), occluder, [(0, 0), (1, 1)])
        clean = weakref.ref(one.clean)
        del one
        assert clean() is None
    finally:
        gc.enable()


# Sound: clips longer than one window.


def loudening_clip(frontend: LogMel, seconds: float) -> Clip:
    count = int(seconds * frontend.sample_rate)
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.normal(size=count) * np.linspace(0.2, 1, count)
    return Clip(samples.astype(np.float32), frontend.sample_rate)


def sound_network(name: str) -> tuple[nn.Module, LogMel, float]:
    torch.manual_seed(0)
    if name == "SoundNet":
        return SoundNet(5, widths=(8, 12, 16), frames=40), sound_frontend(), 1.9
    return YAMNet(20), yamnet_frontend(), 1.3


@pytest.mark.parametrize("name", ["SoundNet", "YAMNet"])
@pytest.mark.parametrize(
    ("patch", "stride"),
    [
        ((None, 0.3), (None, 0.2)),
        ((1500.0, 0.5), (1200.0, 0.4)),
        ((1000.0, None), (1000.0, None)),
    ],
)
def test_long_sounds_lose_the_same_in_both_engines(name: str, patch: Any, stride: Any) -> None:
    network, frontend, seconds = sound_network(name)
    clip = loudening_clip(frontend, seconds)
    x = frontend(clip)
    model = from_module(
        lively(network, tuple(x.shape[1:])), (1, *x.shape[2:]), modality="audio", frontend=frontend
    )
    full, incremental = (
        run(occlude(model, clip, 0, patch, stride, score="logit", engine=engine))
        for engine in ("full", "incremental")
    )
    assert incremental.engine == "incremental", incremental.note
    span = float(np.ptp(model.score(x, "logit").numpy()))
    assert np.ptp(full.drop) > 0.01 * span
    assert np.abs(full.drop - incremental.drop).max() < LARGEST_GAP * span


def test_covering_silence_with_silence_changes_nothing() -> None:
    network, frontend, seconds = sound_network("SoundNet")
    clip = loudening_clip(frontend, seconds)
    clip.samples[: len(clip.samples) // 2] = 0
    model = from_module(
        network, (1, *frontend(clip).shape[2:]), modality="audio", frontend=frontend
    )
    found = run(occlude(model, clip, 0, (None, 0.2), (None, 0.2), engine="incremental"))
    assert (found.drop[0, :4] == 0).all()
    assert np.abs(found.drop[0, 5:]).min() > 0


# Rectangles, against brute force.

WINDOWS = [
    Window((3, 3), (1, 1), (1, 1), (1, 1)),
    Window((7, 5), (2, 3), (3, 0), (1, 1)),
    Window((1, 1), (2, 2), (0, 0), (1, 1)),
    Window((1, 2), (3, 1), (1, 1), (1, 1)),
    Window((2, 2), (2, 2), (0, 1), (1, 1)),
    Window((3, 2), (1, 2), (2, 4), (2, 3)),
    Window((3, 3), (4, 1), (0, 3), (3, 2)),
]


def random_boxes(rng: np.random.Generator, extent: Pair, count: int = 6) -> Boxes:
    ends = np.array([rng.integers(0, n, (2, count)) for n in extent])
    return Boxes.around(ends.min(1), ends.max(1) + 1, extent)


def slid(window: Window, maps: torch.Tensor, padding: Pair | None = None) -> torch.Tensor:
    """Sums under the window."""
    kernel = torch.ones(1, 1, *window.kernel, dtype=maps.dtype)
    padding = window.padding if padding is None else padding
    return F.conv2d(maps, kernel, None, window.stride, padding, window.dilation)


@pytest.mark.parametrize("window", WINDOWS)
def test_what_changes_behind_a_window(window: Window) -> None:
    boxes = random_boxes(np.random.default_rng(0), (17, 23), 30)
    marked = torch.zeros(30, 1, 17, 23)
    for picture, low, high in zip(marked, boxes.low.T, boxes.high.T, strict=True):
        picture[:, low[0] : high[0], low[1] : high[1]] = 1
    changed = slid(window, marked)[:, 0].numpy() > 0
    low, high = window.behind(boxes, changed.shape[1:])
    for picture, top_left, bottom_right in zip(changed, low.T, high.T, strict=True):
        inside = np.zeros_like(picture)
        inside[top_left[0] : bottom_right[0], top_left[1] : bottom_right[1]] = True
        assert not (picture & ~inside).any()
        if window.dilation == (1, 1):
            assert inside.sum() == picture.sum()
        if picture.any():
            assert (bottom_right > top_left).all()


@pytest.mark.parametrize("window", WINDOWS)
def test_what_a_window_must_see(window: Window) -> None:
    maps = noise(1, 1, 17, 23).double()
    expected = slid(window, maps)[0, 0]
    boxes = random_boxes(np.random.default_rng(1), (expected.shape[0], expected.shape[1]))
    origin, size = window.before(boxes)
    seen = MapRows(maps, 0.0).gather(np.zeros(len(boxes), np.int64), origin, size)
    found = slid(window, seen.permute(0, 3, 1, 2), (0, 0))[:, 0]
    for rectangle, (top, left) in zip(found, boxes.origin.T, strict=True):
        height, width = boxes.size
        torch.testing.assert_close(rectangle, expected[top : top + height, left : left + width])


def test_boxes_of_common_size_hold_the_given_ones_and_lie_in_the_map() -> None:
    boxes = random_boxes(np.random.default_rng(2), (9, 14), 50)
    end = boxes.origin + np.array(boxes.size)[:, None]
    assert (boxes.origin >= 0).all()
    assert (end <= np.array([[9], [14]])).all()
    assert (boxes.origin <= boxes.low).all()
    assert (boxes.high <= end).all()
    assert boxes.size == tuple((boxes.high - boxes.low).max(1))


def test_the_mask_tells_what_can_differ() -> None:
    boxes = random_boxes(np.random.default_rng(3), (9, 14), 20)
    canvas = np.zeros((20, 9, 14), bool)
    for picture, low, high in zip(canvas, boxes.low.T, boxes.high.T, strict=True):
        picture[low[0] : high[0], low[1] : high[1]] = True
    for mask, picture, (top, left) in zip(boxes.mask(), canvas, boxes.origin.T, strict=True):
        cut = picture[top : top + boxes.size[0], left : left + boxes.size[1]]
        np.testing.assert_array_equal(mask.numpy(), cut)


@pytest.mark.parametrize("fill", [0.0, float("-inf")])
def test_gathering_is_cutting_out_of_padded_maps(fill: float) -> None:
    maps, rng = noise(3, 2, 7, 9), np.random.default_rng(4)
    which = rng.integers(0, 3, 20)
    origin = np.stack([rng.integers(-5, 9, 20), rng.integers(-5, 11, 20)])
    padded = F.pad(maps, (9, 9, 9, 9), value=fill)
    found = MapRows(maps, fill).gather(which, origin, (4, 6)).permute(0, 3, 1, 2)
    for rectangle, number, (top, left) in zip(found, which, origin.T + 9, strict=True):
        assert torch.equal(rectangle, padded[number, :, top : top + 4, left : left + 6])


PASTES = {
    "inside, alike": ([[2, 2, 2], [3, 3, 3]], (3, 4)),
    "inside": ([[0, 4, 2], [3, 0, 5]], (3, 4)),
    "over each border": ([[-2, 5, 1], [1, 2, -3]], (3, 4)),
    "over each border, alike": ([[-2, -2, -2], [7, 7, 7]], (3, 4)),
    "over two borders at once": ([[-2, 6, -1], [-3, 8, 7]], (3, 4)),
    "outside": ([[-3, 7, 2], [2, 3, 9]], (3, 4)),
    "outside, alike": ([[9, 9, 9], [2, 2, 2]], (3, 4)),
    "larger than the target": ([[-1, 0, -2], [-1, -2, 0]], (10, 12)),
    "the target's own size": ([[0, 0, 0], [0, 0, 0]], (7, 9)),
}


@pytest.mark.parametrize("name", PASTES)
@pytest.mark.parametrize("begin", [0, 11])
def test_pasting_writes_what_overlaps(name: str, begin: int) -> None:
    offset, size = PASTES[name]
    onto, content = noise(3, 7, 9, 2), noise(3, *size, 2, seed=5)
    at = begin + np.array([[0, 1, 2], [5, 0, 3]])
    expected = onto.clone()
    for row in range(3):
        for i in range(size[0]):
            for j in range(size[1]):
                y, x = offset[0][row] + i, offset[1][row] + j
                if 0 <= y < 7 and 0 <= x < 9:
                    expected[row, y, x] = content[row, i, j]
    paste(onto, at, content, at + np.array(offset))
    assert torch.equal(onto, expected)


def test_a_picture_s_change_is_what_covering_does() -> None:
    occluder = covering(noise(1, 3, 20, 27), (7, 9), (5, 6))
    cells = [(i, j) for i in range(occluder.grid.shape[0]) for j in range(occluder.grid.shape[1])]
    assert pasted(occluder.clean(), occluder.changes(cells)).equal(occluder.covered(cells))


def pasted(clean: torch.Tensor, change: Change) -> torch.Tensor:
    """Whole inputs from rectangles."""
    assert change.boxes is not None
    found = clean.repeat(len(change.content), 1, 1, 1)
    height, width = change.boxes.size
    for picture, content, (top, left) in zip(
        found, change.content, change.boxes.origin.T, strict=True
    ):
        picture[:, top : top + height, left : left + width] = content
    return found
