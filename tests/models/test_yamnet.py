from __future__ import annotations

import copy
import csv

import numpy as np
import pytest
import soundfile as sf
import torch
import torch.nn.functional as F

from cnnvis_core.errors import ModelError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.yamnet import (
    YAMNet,
    cut,
    same_padding,
    yamnet_classes,
    yamnet_frontend,
)

MARKER = "kernels_mel_first"
# The strides of layers 1 to 14, from the published table.
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def random_public_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights in the public layout: kernels (time, mel), no marker."""
    generator = torch.Generator().manual_seed(seed)
    state = {k: v.clone() for k, v in YAMNet().state_dict().items() if k != MARKER}
    for name, value in state.items():
        if name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            size = 1.4 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
            value.normal_(0, size, generator=generator)
    return state


def same_conv(x: torch.Tensor, weight: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
    """TensorFlow's "SAME" from its definition, on any input size."""
    pads = []
    for size, kernel in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):
        total = max(0, ((size + stride - 1) // stride - 1) * stride + kernel - size)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def reference(state: dict[str, torch.Tensor], patch: torch.Tensor) -> torch.Tensor:
    """Logits (1, 521) of a patch (96 frames, 64 bands), in the public orientation."""

    def unit(x: torch.Tensor, name: str, stride: int, groups: int) -> torch.Tensor:
        x = same_conv(x, state[f"{name}.conv.weight"], stride, groups)
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        scale = state[f"{name}.bn.weight"] / (var + 1e-4).sqrt()
        shift = state[f"{name}.bn.bias"] - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    x = unit(patch[None, None], "layer1.fused", 2, 1)
    for number, stride in enumerate(STRIDES[1:], start=2):
        x = unit(x, f"layer{number}.depthwise_conv", stride, x.shape[1])
        x = unit(x, f"layer{number}.pointwise_conv", 1, 1)
    return x.mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.fixture(scope="module")
def public_state() -> dict[str, torch.Tensor]:
    return random_public_state()


@pytest.fixture(scope="module")
def random_yamnet(public_state) -> YAMNet:
    module = YAMNet().eval()
    module.load_state_dict(public_state)
    return module


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (96, 3, 2, (0, 1)),
        (5, 3, 2, (1, 1)),
        (6, 3, 2, (0, 1)),
        (7, 3, 1, (1, 1)),
        (7, 1, 1, (0, 0)),
        (4, 7, 2, (2, 3)),
    ],
)
def test_same_padding_by_hand(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_stride_two_reads_from_the_first_pixel():
    """With "SAME" and an even size the centre of the kernel falls on odd pixels, not on even."""
    unit = YAMNet().eval().layer1.fused
    with torch.no_grad():
        unit.conv.weight.zero_()
        unit.conv.weight[:, :, 0, 0] = 1.0
        x = torch.rand(1, 1, 64, 96)
        assert torch.equal(unit.conv(unit.pad(x))[0, 0], x[0, 0, ::2, ::2])


def test_equals_the_public_network_in_its_own_orientation(public_state, random_yamnet):
    patch = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = random_yamnet(patch[None, None])
        expected = reference(public_state, patch.T)
    assert got.shape == (1, 521)
    assert expected.std() > 0.05
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_logit_is_that_of_the_mean_score(random_yamnet):
    x = torch.randn(2, 1, 64, 260, generator=torch.Generator().manual_seed(2))
    starts = (0, 48, 96, 144, 164)
    with torch.no_grad():
        got = random_yamnet(x).sigmoid()
        parts = [random_yamnet(x[..., s : s + 96]).sigmoid() for s in starts]
    torch.testing.assert_close(got, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-4)


def test_extreme_scores_keep_finite_logits(random_yamnet):
    module = copy.deepcopy(random_yamnet)
    x = torch.randn(1, 1, 64, 144)
    with torch.no_grad():
        module.classifier.weight.zero_()
        module.classifier.bias.fill_(-200.0)
        assert module(x).numpy() == pytest.approx(-200.0, abs=1e-3)
        module.classifier.bias.fill_(200.0)
        assert module(x).numpy() == pytest.approx(200.0, abs=1e-3)


def test_patches_cover_every_frame():
    x = torch.arange(230.0).expand(1, 1, 64, 230)
    patches = cut(x)
    assert patches.shape == (1, 4, 1, 64, 96)
    assert [int(p[0, 0, 0, 0]) for p in patches[0].unsqueeze(1)] == [0, 48, 96, 134]
    assert set(range(230)) == {int(v) for v in patches.unique()}
    assert cut(x[..., :96]).shape[1] == 1


@pytest.mark.parametrize("shape", [(1, 1, 64, 95), (1, 1, 96, 64)])
def test_refuses_too_few_frames_or_other_bands(random_yamnet, shape):
    with pytest.raises(ModelError, match="64 bands"):
        random_yamnet(torch.zeros(shape))


def test_own_state_loads_as_it_is(public_state, random_yamnet):
    again = YAMNet()
    again.load_state_dict(random_yamnet.state_dict())
    for (name, left), right in zip(
        again.named_parameters(), random_yamnet.parameters(), strict=True
    ):
        assert torch.equal(left, right), name
    kernel = public_state["layer2.depthwise_conv.conv.weight"]
    assert torch.equal(random_yamnet.layer2.depthwise_conv.conv.weight, kernel.transpose(2, 3))
    assert not torch.equal(random_yamnet.layer2.depthwise_conv.conv.weight, kernel)


def test_a_missing_tensor_is_refused(public_state):
    state = dict(public_state)
    del state["layer9.pointwise_conv.bn.bias"]
    with pytest.raises(RuntimeError, match=r"layer9\.pointwise_conv\.bn\.bias"):
        YAMNet().load_state_dict(state)


def test_classes():
    names = yamnet_classes()
    assert len(names) == len(set(names)) == 521
    assert names[0] == "Speech"
    assert names[494] == "Silence"


def test_a_sound_of_one_patch_after_padding():
    x = yamnet_frontend()(Clip(np.full(100, 0.1, np.float32), 16000))
    assert x.shape == (1, 1, 64, 96)


@pytest.fixture(scope="module")
def yamnet(data_dir) -> YAMNet:
    path = data_dir / "weights" / "yamnet.pth"
    if not path.exists():
        pytest.skip("needs weights/yamnet.pth of the data folder")
    module = YAMNet().eval()
    module.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return module


def top(module: YAMNet, path, count: int) -> list[str]:
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    with torch.inference_mode():
        logits = module(yamnet_frontend()(Clip(samples.mean(1), rate)))[0]
    return [yamnet_classes()[i] for i in logits.topk(count).indices]


def test_real_weights_name_environmental_sounds(yamnet, data_dir):
    """Of one clip in four of all ten classes, 80 of 100 have a fitting name in the top 5."""
    fitting = {
        "dog_bark": {"Dog", "Bark", "Bow-wow", "Yip"},
        "rain": {"Rain", "Raindrop", "Rain on surface"},
        "rooster": {"Crowing, cock-a-doodle-doo", "Chicken, rooster", "Fowl"},
        "baby_cry": {"Baby cry, infant cry", "Crying, sobbing", "Whimper"},
        "sea_waves": {"Ocean", "Waves, surf"},
        "clock_tick": {"Clock", "Tick-tock", "Tick"},
    }
    with (data_dir / "esc10" / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = total = 0
    for name, words in fitting.items():
        for row in [row for row in rows if row["class"] == name][::10]:
            found = top(yamnet, data_dir / "esc10" / "clips" / row["file"], 5)
            right += bool(words & set(found))
            total += 1
    assert total == 24
    assert right >= 18


def test_real_weights_know_speech_from_noise_and_silence(yamnet, data_dir):
    files = sorted((data_dir / "speech").glob("*.wav"))
    words = [path for path in files if not path.stem.startswith(("tflm_noise", "tflm_silence"))]
    assert len(words) >= 10
    assert all(top(yamnet, path, 1) == ["Speech"] for path in words)
    assert "noise" in top(yamnet, data_dir / "speech" / "tflm_noise_1000ms.wav", 1)[0].lower()
    assert top(yamnet, data_dir / "speech" / "tflm_silence_1000ms.wav", 1) == ["Silence"]
