"""A network that came as a program is the network that was exported."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import cnnvis_core as cv
from tests.programs.nets import exported, network, old_layout

SHAPE = (3, 32, 32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def original(net):
    return cv.from_module(net, SHAPE, MEAN, STD)


@pytest.fixture(scope="module")
def model(net):
    return cv.load_program(exported(net, any_size=True), mean=MEAN, std=STD)


VARIANTS = {
    "any batch": lambda net: exported(net),
    "any size": lambda net: exported(net, any_size=True),
    "one picture": lambda net: exported(net, batch=1),
    "four pictures": lambda net: exported(net, batch=4),
    "decomposed": lambda net: exported(net, change=lambda p: p.run_decompositions()),
    "decomposed, one picture": lambda net: exported(
        net, batch=1, change=lambda p: p.run_decompositions()
    ),
    "half precision": lambda net: exported(copy.deepcopy(net).bfloat16().float()),
    "old layout": lambda net: old_layout(exported(net), net),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_answers_as_the_network_does_for_any_size_of_batch(net, variant, batch):
    program = cv.load_program(VARIANTS[variant](net))
    torch.manual_seed(1)
    x = torch.rand(batch, *SHAPE)
    wanted = copy.deepcopy(net).bfloat16().float() if variant == "half precision" else net
    torch.testing.assert_close(program.module(x), wanted(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["any batch", "decomposed", "old layout"])
def test_layers_have_the_names_kinds_and_receptive_fields_of_the_modules(net, original, variant):
    found = {layer.name: layer for layer in cv.load_program(VARIANTS[variant](net)).layers}
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    wanted = [
        layer for layer in original.layers if isinstance(net.get_submodule(layer.name), kinds)
    ]
    assert len(wanted) == 13
    assert [found[layer.name] for layer in wanted] == wanted


def test_what_no_module_makes_is_a_layer_too(net, model):
    names = [layer.name for layer in model.layers]
    assert {"leaky_relu", "blocks.0.squeeze.sigmoid", "cat", "mul_2"} <= set(names)
    # The second call of one ReLU is a layer of its own.
    assert {"blocks.0.relu", "blocks.0.relu@1"} <= set(names)
    x = model.preprocess(cv.read_image(_png()))
    maps = cv.feature_maps(model, x, ["blocks.0.relu@1", "leaky_relu"])
    inner = net.blocks[0](nn.functional.leaky_relu(net.stem(x), 0.1))
    torch.testing.assert_close(maps["blocks.0.relu@1"], inner[0].detach(), rtol=1e-5, atol=1e-6)


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def test_occlusion_is_that_of_the_network_by_both_engines(model, original):
    x = original.preprocess(cv.read_image(_png()))
    torch.testing.assert_close(x, model.preprocess(cv.read_image(_png())))
    asked = {"target": 2, "patch": 8, "stride": 4, "score": "logit"}
    wanted = cv.run(cv.occlude(original, x, engine="full", **asked))
    assert float(abs(wanted.drop).max()) > 1e-3
    for engine in ("full", "incremental"):
        found = cv.run(cv.occlude(model, x, engine=engine, **asked))
        np.testing.assert_allclose(found.drop, wanted.drop, atol=1e-5)


def test_every_method_gives_what_it_gives_for_the_network(model, original):
    x = original.preprocess(cv.read_image(_png()))
    layer = "blocks.0.point"
    for mine, theirs in zip(
        *(
            (
                cv.filters(one, layer).weight,
                cv.attribute(one, x, 1, "integrated_gradients").values,
                cv.attribute(one, x, 1, "grad_cam").values,
                cv.run(cv.maximize(one, layer, [3], steps=8, size=32)).images,
                cv.run(cv.rank_orientation(one, "stem")).table["preferred_deg"].to_numpy(),
            )
            for one in (model, original)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_it_can_be_fine_tuned_and_compared(model, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / name).mkdir()
        for n in range(12):
            noise = rng.integers(-30, 30, (32, 32, 3)) + level
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{n}.png")
    tuned = cv.run(cv.finetune(model, tmp_path, epochs=2, batch=8, learning_rate=0.01))
    child = tuned.checkpoints[-1].load()
    assert child.classes == ("dark", "light")
    change = cv.run(cv.compare(model, child, "blocks.0.point"))
    assert (change.table["weight_change"] > 0).all()
    torch.testing.assert_close(
        model.module.get_submodule("blocks.0.deep").weight,
        network().blocks[0].deep.weight.detach(),
    )


def test_it_can_be_copied_and_sent_to_another_process(net, model):
    x = torch.rand(2, *SHAPE)
    for twin in (copy.deepcopy(model.module), pickle.loads(pickle.dumps(model.module))):
        torch.testing.assert_close(twin(x), net(x), rtol=1e-5, atol=1e-6)
    assert cv.load_program(exported(net)).fingerprint == cv.load_program(exported(net)).fingerprint


def test_what_is_asked_for_is_told(net):
    data = exported(net)
    names = ("a", "b", "c", "d", "e")
    wide = exported(net, any_size=True)
    told = cv.load_program(wide, (3, 48, 40), MEAN, STD, names, name="Mine")
    assert (told.classes, told.input_shape, told.card.title) == (names, (3, 48, 40), "Mine")
    assert told.card.id != cv.load_program(data).card.id
    with pytest.raises(cv.InputError, match="5 classes; 1 names"):
        cv.load_program(data, classes=("one",))
    with pytest.raises(cv.InputError, match="input shape"):
        cv.load_program(data, (1, 32, 32))
    with pytest.raises(cv.InputError, match="one a channel"):
        cv.load_program(data, mean=(0.5,))


def test_a_network_of_sounds(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    sizes = ({0: torch.export.Dim("n"), 3: torch.export.Dim("frames", min=20)},)
    program = torch.export.export(net, (torch.rand(2, 1, 64, 96),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "sound.pt2")
    model = cv.load_program((tmp_path / "sound.pt2").read_bytes(), modality="audio")
    assert (model.modality, model.input_shape) == ("audio", (1, 64, 96))
    x = torch.rand(1, 1, 64, 150)
    torch.testing.assert_close(model.module(x), net(x))


@pytest.mark.parametrize("batch", [None, 1], ids=["any batch", "one picture"])
@pytest.mark.parametrize(
    "name",
    ["squeezenet1_1", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "convnext_tiny"],
)
def test_programs_of_public_networks_answer_as_the_networks(name, batch):
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None).eval()
    if name == "convnext_tiny":  # one stage will do
        net.features = net.features[:3]
        net.classifier = nn.Sequential(nn.Flatten(1), nn.Linear(192, 10))
    model = cv.load_program(exported(net, (3, 64, 64), batch))
    x = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(model.module(x), net(x), rtol=1e-5, atol=1e-5)
    wanted = {n for n, part in net.named_modules() if isinstance(part, nn.Conv2d)}
    assert wanted <= {layer.name for layer in model.layers}
    assert model.graph(model.input_shape).nodes


class Whitened(nn.Module):
    """Normalises twice with statistics of its own, without modules that could tell them apart."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2):
            self.register_buffer(f"mean{number}", torch.rand(3))
            self.register_buffer(f"spread{number}", torch.rand(3) + 0.5)

    def forward(self, x):
        x = nn.functional.batch_norm(x, self.mean1, self.spread1)
        return nn.functional.batch_norm(x, self.mean2, self.spread2).mean((2, 3))


def test_layers_of_one_module_that_hold_other_numbers_stay_apart():
    net = Whitened().eval()
    model = cv.load_program(exported(net, (3, 8, 8)))
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model.module(x), net(x), rtol=1e-5, atol=1e-6)
    assert sum(layer.kind == "BatchNorm2d" for layer in model.layers) == 2
