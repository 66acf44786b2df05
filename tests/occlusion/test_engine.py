"""The job: which engine measures, falling back, boxes, the adaptive mode, previews and memory."""

from __future__ import annotations

import copy
import gc
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import run
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion import choice as choosing
from cnnvis_core.occlusion import evaluators, occlude, occluder_for
from cnnvis_core.occlusion.choice import EngineChoice
from cnnvis_core.occlusion.grid import Box, Cell
from cnnvis_core.occlusion.incremental import CleanPass, Pass
from cnnvis_core.occlusion.result import Occlusion
from tests.support import picture_model, small_network, sound_model

SIZE = (32, 32)


def tolerance(result: Occlusion) -> float:
    return 1e-4 * float(np.ptp(result.drop))


def picture(height: int = SIZE[0], width: int = SIZE[1]) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


class Before(nn.Module):
    """Something odd, then a network."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.inner = function, small_network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.inner(self.function(x)))


def both(
    model: Model, x: torch.Tensor, engine: Any, **settings: Any
) -> tuple[Occlusion, Occlusion]:
    """The full engine's map and another one's."""
    settings = {"target": 1, "patch": 8, "stride": 4, "score": "logit", **settings}
    return run(occlude(model, x, engine="full", **settings)), run(
        occlude(model, x, engine=engine, **settings)
    )


# Which engine measures.


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("engine", ["incremental", "auto"])
def test_both_engines_draw_the_same_map(engine: Any, score: Any) -> None:
    full, other = both(picture_model(small_network()), picture(), engine, score=score)
    assert np.ptp(full.drop) > 1e-3
    np.testing.assert_allclose(other.drop, full.drop, atol=tolerance(full))
    np.testing.assert_allclose(other.heatmap, full.heatmap, atol=tolerance(full))


def test_the_result_names_the_engine_that_was_asked_for() -> None:
    full, incremental = both(picture_model(small_network()), picture(), "incremental")
    assert (full.engine, incremental.engine) == ("full", "incremental")
    assert full.note
    assert incremental.note


def branches(x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else 2 * x


def by_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.tanh(x.cpu().numpy()))


def writes_into_a_slice(x: torch.Tensor) -> torch.Tensor:
    y = x.tanh()
    y[:, 0] += 1
    return y


def looks_at_the_batch(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if len(x) > 2 else x + x


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branches, "depends on values"),
        (by_numpy, "depends on values"),
        (writes_into_a_slice, "writes into a part"),
        (looks_at_the_batch, "other batch sizes"),
    ],
)
@pytest.mark.parametrize("engine", ["incremental", "auto"])
def test_what_cannot_be_traced_is_measured_in_full_and_the_note_says_why(
    function: Callable[[torch.Tensor], torch.Tensor], reason: str, engine: Any
) -> None:
    full, other = both(picture_model(Before(function)), picture(), engine)
    np.testing.assert_array_equal(other.drop, full.drop)
    assert other.engine == "full"
    assert reason in other.note


def minus_the_mean(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(0, keepdim=True)


def minus_the_mean_from_the_end(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-4)


def weighed_against_each_other(x: torch.Tensor) -> torch.Tensor:
    return x * x.softmax(0)


def summed_up_backwards(x: torch.Tensor) -> torch.Tensor:
    return x.flip(0).cumsum(0).flip(0)


def summed_up(x: torch.Tensor) -> torch.Tensor:
    return x.cumsum(0)


def batch_as_channels(x: torch.Tensor) -> torch.Tensor:
    return x + x.transpose(1, 0).mean(1, keepdim=True).transpose(0, 1)


def numpy_of_all(x: torch.Tensor) -> torch.Tensor:
    return x - float(x.numpy().mean())


MIXERS = [
    minus_the_mean,
    minus_the_mean_from_the_end,
    weighed_against_each_other,
    summed_up,
    summed_up_backwards,
    batch_as_channels,
    numpy_of_all,
]


@pytest.mark.parametrize("function", MIXERS)
@pytest.mark.parametrize("engine", ["incremental", "auto"])
@pytest.mark.parametrize("size", [1, 3, 6, 32])
def test_inputs_that_are_mixed_are_mixed_as_by_the_full_engine(
    function: Callable[[torch.Tensor], torch.Tensor],
    engine: Any,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluators, "batch_size", lambda *_: size)
    full, other = both(picture_model(Before(function)), picture(), engine)
    np.testing.assert_allclose(other.drop, full.drop, atol=tolerance(full))
    assert other.engine == "full"


@pytest.mark.parametrize("engine", ["incremental", "auto"])
def test_batch_norm_with_the_statistics_of_the_batch(engine: Any) -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    full, other = both(picture_model(nn.Sequential(norm, small_network())), picture(), engine)
    np.testing.assert_allclose(other.drop, full.drop, atol=tolerance(full))
    assert other.engine == "full"


class BreaksLater(Pass):
    """Cannot follow the network from the second batch on."""

    batches = 0

    def run(self, rules: Any) -> torch.Tensor:
        type(self).batches += 1
        if self.batches > 1:
            raise RuntimeError("the size of tensor a must match the size of tensor b")
        return super().run(rules)


def test_an_operation_that_fails_later_does_not_end_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluators, "Pass", BreaksLater)
    monkeypatch.setattr(evaluators, "batch_size", lambda *_: 8)
    full, other = both(picture_model(small_network()), picture(), "incremental")
    assert BreaksLater.batches == 2
    np.testing.assert_allclose(other.drop, full.drop, atol=tolerance(full))
    assert other.engine == "full"
    assert "followed" in other.note


class Sleeper:
    """Answers after so many seconds a position: the position itself, or something wrong."""

    def __init__(self, name: str, seconds: float, size: int, error: float = 0.0) -> None:
        self.name, self.seconds, self.most, self.error = name, seconds, size, error

    def __call__(self, *_: object) -> Sleeper:
        return self

    def size(self) -> int:
        return self.most

    def shrink(self) -> bool:
        return False

    def logits(self, cells: Sequence[Cell]) -> torch.Tensor:
        time.sleep(self.seconds * len(cells))
        return torch.tensor(cells, dtype=torch.float32) + self.error


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., EngineChoice]:
    """Makes a choice between two sleepers and lets it measure 50 positions."""

    def choose(
        full: float, incremental: float, engine: Any = "auto", error: float = 0.0
    ) -> EngineChoice:
        monkeypatch.setattr(choosing, "FullEvaluator", Sleeper("full", full, 8))
        sleeper = Sleeper("incremental", incremental, 20, error)
        monkeypatch.setattr(choosing, "IncrementalEvaluator", sleeper)
        model, x = picture_model(small_network()), picture()
        choice = EngineChoice(model, occluder_for(model, x, 8, 4), engine)
        cells = [(i, i + 1) for i in range(50)]
        found: list[Any] = []
        while len(found) < len(cells):
            batch = cells[len(found) : len(found) + choice.size()]
            found += choice.logits(batch).tolist()
        np.testing.assert_allclose(found, cells)
        return choice

    return choose


@pytest.mark.parametrize(
    ("full", "incremental", "quicker"),
    [
        (0.02, 0.0005, "incremental"),
        (0.0005, 0.02, "full"),
    ],
)
def test_auto_goes_on_with_the_quicker_engine(
    chosen: Callable[..., EngineChoice], full: float, incremental: float, quicker: str
) -> None:
    choice = chosen(full, incremental)
    assert choice.used == quicker
    assert choice.current.name == quicker
    assert "ms" in choice.note


def test_engines_that_are_about_as_quick_lose_no_position(
    chosen: Callable[..., EngineChoice],
) -> None:
    assert "ms" in chosen(0.002, 0.0018).note


def test_an_engine_that_was_asked_for_stays_even_if_it_is_slower(
    chosen: Callable[..., EngineChoice],
) -> None:
    assert chosen(0.0, 0.002, "incremental").used == "incremental"


@pytest.mark.parametrize("error", [0.5, float("nan")])
@pytest.mark.parametrize("engine", ["auto", "incremental"])
def test_other_answers_are_not_believed(
    chosen: Callable[..., EngineChoice], error: float, engine: Any
) -> None:
    choice = chosen(0.0, 0.0, engine, error)
    assert choice.used == "full"
    assert "other answers" in choice.note


# Only inside a box.


@pytest.mark.parametrize(
    "box",
    [(0, 0, 32, 32), (10.5, 3, 21, 18.2), (0, 0, 9, 9), (13.9, 13.9, 14, 14), (20, 0, 90, 90)],
)
def test_only_patches_whose_middle_lies_in_the_box_are_measured(box: Box) -> None:
    model = picture_model(small_network())
    whole, part = (
        both(model, picture(), "full", box=None)[0],
        both(model, picture(), "full", box=box)[1],
    )
    middle = 4.0 * np.arange(7) + 4
    top, left, bottom, right = box
    rows, cols = (middle >= top) & (middle <= bottom), (middle >= left) & (middle <= right)
    rows = rows if rows.any() else np.arange(7) == 2
    cols = cols if cols.any() else np.arange(7) == 2
    expected = rows[:, None] & cols[None, :]
    np.testing.assert_array_equal(part.measured, expected)
    np.testing.assert_array_equal(part.inside, expected)
    np.testing.assert_allclose(part.drop, np.where(expected, whole.drop, 0), atol=1e-5)


def test_the_heatmap_is_0_where_no_measured_patch_lies_and_their_mean_elsewhere() -> None:
    _, part = both(picture_model(small_network()), picture(), "incremental", box=(8, 3, 17, 25))
    total, count = np.zeros(SIZE), np.zeros(SIZE)
    for i, j in zip(*np.nonzero(part.measured), strict=True):
        top, left, bottom, right = part.grid.box((i, j))
        total[top:bottom, left:right] += part.drop[i, j]
        count[top:bottom, left:right] += 1
    assert 0 < (count > 0).mean() < 1
    assert (part.heatmap[count == 0] == 0).all()
    np.testing.assert_allclose(part.heatmap, total / np.maximum(count, 1), atol=1e-5)


def test_progress_counts_what_lies_in_the_box() -> None:
    job = occlude(picture_model(small_network()), picture(), 1, 8, 4, box=(8, 8, 24, 24))
    steps = list(job)
    assert {step.total for step in steps} == {25}
    assert steps[-1].done == 25


def test_a_box_in_a_sound_is_hz_and_seconds() -> None:
    samples = 0.1 * np.random.default_rng(0).normal(size=16000)
    clip = Clip(samples.astype(np.float32), 8000)
    settings = {"patch": (1000.0, 0.5), "stride": (500.0, 0.25)}
    found = run(
        occlude(sound_model(small_network(1)), clip, 0, **settings, box=(1000, 0.5, 2000, 1.5))  # type: ignore[arg-type]
    )
    rows, cols = found.grid.rows, found.grid.cols
    for axis, low, high, along in ((rows, 1000, 2000, 1), (cols, 0.5, 1.5, 0)):
        middle = (np.array(axis.starts) + np.array(axis.ends)) / 2
        expected = (middle >= low) & (middle <= high)
        np.testing.assert_array_equal(found.measured.any(along), expected)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 0, 8), "empty"),
        ((8, 8, 4, 12), "empty"),
        ((0, 8, 8, 8), "empty"),
        ((0, 0, float("nan"), 8), "empty"),
        ((0, 0, 8), "four numbers"),
        ((0, 0, 8, 8, 8), "four numbers"),
        (("a", 0, 8, 8), "four numbers"),
        (8, "four numbers"),
    ],
)
def test_a_box_that_is_none_gets_one_sentence(box: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        occlude(picture_model(small_network()), picture(), 0, 8, 4, box=box)
    assert "\n" not in str(caught.value)


# The adaptive mode.


class Spot(nn.Module):
    """Class 1 is the light under a soft or a sharp spot, so that its map is known."""

    weight: torch.Tensor

    def __init__(self, size: int, sharp: bool) -> None:
        super().__init__()
        axis = (torch.arange(size) - 0.45 * size) / (0.25 * size)
        distance = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
        weight = (distance < 0.8).float() if sharp else (-(distance**2)).exp()
        self.register_buffer("weight", weight / weight.sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = (x.mean(1) * self.weight).sum((1, 2))
        return torch.stack([torch.zeros_like(light), light], 1)


def spot_job(sharp: bool = False, adaptive: bool = True, **settings: Any) -> Any:
    model = picture_model(Spot(64, sharp), (64, 64), classes=2)
    x = torch.full((1, 3, 64, 64), 2.0)
    return occlude(model, x, 1, 8, 2, "black", "logit", "full", adaptive=adaptive, **settings)


def spread(values: NDArray[np.float32], measured: NDArray[np.bool_], radius: int) -> Any:
    """Smallest and largest measured value near every position."""
    low, high = np.empty_like(values), np.empty_like(values)
    for i, j in np.ndindex(*values.shape):
        near = np.s_[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
        found = values[near][measured[near]]
        low[i, j], high[i, j] = found.min(), found.max()
    return low, high


@pytest.mark.parametrize("sharp", [False, True])
def test_measured_positions_are_exact_and_the_others_lie_between_them(sharp: bool) -> None:
    exact, found = run(spot_job(sharp, adaptive=False)), run(spot_job(sharp))
    np.testing.assert_array_equal(found.drop[found.measured], exact.drop[found.measured])
    # Four patches of 2 pixels' stride make a patch: the coarsest raster.
    low, high = spread(found.drop, found.measured, 4)
    assert (found.drop >= low - 1e-6).all()
    assert (found.drop <= high + 1e-6).all()


def test_a_smooth_map_takes_few_positions_and_keeps_its_shape() -> None:
    exact, found = run(spot_job(adaptive=False)), run(spot_job())
    assert exact.measured.all()
    assert found.measured.sum() < 0.5 * exact.measured.sum()
    assert found.measured.sum() == len(found.table().query("measured"))
    assert np.abs(found.drop - exact.drop).max() < 0.15 * np.ptp(exact.drop)


def test_a_sharp_edge_is_looked_at_and_flat_places_are_not() -> None:
    exact, found = run(spot_job(sharp=True, adaptive=False)), run(spot_job(sharp=True))
    low, high = spread(exact.drop, exact.measured, 4)
    flat = high - low < 1e-6 * np.ptp(exact.drop)
    steep = high - low > 0.5 * np.ptp(exact.drop)
    assert found.measured[steep].mean() > 3 * found.measured[flat].mean()
    assert np.abs(found.drop - exact.drop).max() < 0.2 * np.ptp(exact.drop)


def test_the_exact_mode_estimates_nothing() -> None:
    found = run(spot_job(adaptive=False))
    assert found.measured.all()


def test_adaptive_in_a_box_measures_nothing_outside() -> None:
    exact, found = run(spot_job(adaptive=False)), run(spot_job(box=(10, 12, 40, 50)))
    assert not (found.measured & ~found.inside).any()
    assert (found.drop[~found.inside] == 0).all()
    np.testing.assert_array_equal(found.drop[found.measured], exact.drop[found.measured])


# Previews.


@pytest.mark.parametrize("adaptive", [False, True])
def test_every_preview_covers_the_whole_picture_and_only_sharpens(adaptive: bool) -> None:
    job = spot_job(adaptive=adaptive)
    steps = list(job)
    last: Occlusion = job.result
    measured = np.zeros_like(last.measured)
    for step in steps:
        # Everything supports the class, so nothing is blank.
        assert step.preview is not None
        assert (step.preview.drop > 0).all()
        assert (step.preview.measured | ~measured).all()
        measured = step.preview.measured
    np.testing.assert_array_equal(steps[-1].preview.drop, last.drop)
    errors = [np.abs(step.preview.drop - last.drop).mean() for step in steps]
    assert errors[0] > errors[len(errors) // 2] > errors[-1] == 0


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_progress_never_falls_and_ends_at_its_total(sharp: bool, adaptive: bool) -> None:
    steps = list(spot_job(sharp, adaptive))
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert {step.total for step in steps} == {29 * 29}
    assert done[-1] == 29 * 29


def test_a_map_without_any_change_ends_as_well() -> None:
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x.mean((2, 3))

    model = picture_model(Nothing(), classes=3)
    job = occlude(model, picture(), 1, 8, 2, adaptive=True)
    assert [step.done for step in job][-1] == 13 * 13
    assert (job.result.drop == 0).all()


@pytest.mark.parametrize("mode", ["time", "frequency"])
def test_previews_of_bands_reach_from_end_to_end_as_well(mode: str) -> None:
    class Everything(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            power = (x / 4).exp().mean((1, 2, 3))
            return torch.stack([torch.zeros_like(power), power], 1)

    clip = Clip((0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32), 8000)
    length, step = ((None, 0.1), (None, 0.05)) if mode == "time" else ((200.0, None), (50.0, None))
    model = sound_model(Everything(), classes=2)
    job = occlude(model, clip, 1, length, step, score="logit")
    first = next(job).preview
    assert first is not None
    assert not first.measured.all()
    assert (first.drop > 0).all()
    job.close()


# Left as found.


@pytest.mark.parametrize("engine", ["full", "incremental", "auto"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_closing_in_the_middle_leaves_the_model_as_found(engine: Any, adaptive: bool) -> None:
    network = small_network()
    model = picture_model(network, (64, 64))
    before = copy.deepcopy(network.state_dict())
    job = occlude(model, picture(64, 64), 0, 8, 2, engine=engine, adaptive=adaptive)
    for _ in range(3):
        next(job)
    job.close()
    for part in network.modules():
        assert not part.training
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
    assert not any(p.requires_grad or p.is_inference() for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_closing_frees_the_clean_values_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []

    def watched(*args: Any) -> Any:
        made = CleanPass(*args)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(evaluators, "CleanPass", watched)
    gc.disable()
    try:
        job = occlude(picture_model(small_network()), picture(), 0, 8, 4, engine="incremental")
        next(job)
        assert alive[0]() is not None
        job.close()
        assert alive[0]() is None
    finally:
        gc.enable()


# Memory.


def batches(job: Any) -> list[int]:
    """How many positions each step took."""
    return np.diff([0, *(step.done for step in job)]).tolist()


@pytest.mark.parametrize("engine", ["full", "incremental"])
def test_little_memory_makes_small_batches_and_the_same_map(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluators, "SECONDS_A_BATCH", 60.0)
    model, x = picture_model(small_network()), picture()
    usual = occlude(model, x, 1, 8, 2, score="logit", engine=engine)
    usual_batches = batches(usual)
    monkeypatch.setattr(evaluators, "free_bytes", lambda _: 2_000_000)
    narrow = occlude(model, x, 1, 8, 2, score="logit", engine=engine)
    narrow_batches = batches(narrow)
    assert max(narrow_batches) < 0.5 * max(usual_batches)
    np.testing.assert_allclose(narrow.result.drop, usual.result.drop, atol=tolerance(usual.result))


class OutOfMemoryAbove4(Pass):
    """A batch of more than four does not fit."""

    def run(self, rules: Any) -> torch.Tensor:
        if self.n > 4:
            raise torch.OutOfMemoryError("out of memory")
        return super().run(rules)


class OutOfMemory(Pass):
    """Nothing fits."""

    def run(self, rules: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")


def runs_out_above_2(x: torch.Tensor) -> torch.Tensor:
    if len(x) > 2 and x.device.type != "meta":
        raise torch.OutOfMemoryError("out of memory")
    return x


@pytest.mark.parametrize("engine", ["full", "incremental", "auto"])
def test_running_out_of_memory_halves_the_batch(engine: Any) -> None:
    usual, _ = both(picture_model(Before(lambda x: x)), picture(), engine)
    narrow = run(
        occlude(picture_model(Before(runs_out_above_2)), picture(), 1, 8, 4, None, "logit", engine)
    )
    np.testing.assert_allclose(narrow.drop, usual.drop, atol=tolerance(usual))


def test_running_out_of_memory_halves_the_incremental_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluators, "Pass", OutOfMemoryAbove4)
    monkeypatch.setattr(evaluators, "batch_size", lambda *_: 2)
    full, found = both(picture_model(small_network()), picture(), "incremental")
    assert found.engine == "incremental"
    np.testing.assert_allclose(found.drop, full.drop, atol=tolerance(full))


def test_too_little_memory_for_the_incremental_engine_leaves_the_full_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluators, "Pass", OutOfMemory)
    full, found = both(picture_model(small_network()), picture(), "incremental")
    assert found.engine == "full"
    assert "memory" in found.note
    np.testing.assert_allclose(found.drop, full.drop, atol=1e-5)
