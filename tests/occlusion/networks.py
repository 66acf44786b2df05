"""Small networks of random make, of all the operations that convolutional networks consist of."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.support import lively

Shape = tuple[int, int, int]


class Lambda(nn.Module):
    """A function of a tensor, with named modules and constants."""

    def __init__(
        self, function: Callable[[Any, torch.Tensor], Any], **parts: nn.Module | torch.Tensor
    ) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def divisors(rng: random.Random, *numbers: int) -> int:
    return rng.choice([g for g in (1, 1, 2, 3, numbers[0]) if not any(n % g for n in numbers)])


def convolution(rng: random.Random, shape: Shape) -> nn.Module:
    channels, height, width = shape
    kernel = rng.choice([1, 1, 2, 3, 3, 5]), rng.choice([1, 2, 3, 3, 4])
    padding = rng.randint(0, kernel[0]), rng.randint(0, kernel[1])
    mode: Any = rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    if mode != "zeros":
        padding = min(padding[0], height - 1), min(padding[1], width - 1)
    units = rng.choice([2, 4, 6, 8])
    return nn.Conv2d(
        channels,
        units,
        kernel,
        (rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2])),
        padding,
        (rng.choice([1, 1, 2]), rng.choice([1, 1, 2])),
        divisors(rng, channels, units),
        rng.random() < 0.5,
        mode,
    )


def same(rng: random.Random, channels: int, units: int) -> nn.Module:
    """A convolution that keeps the size."""
    kernel, dilation = (rng.choice([1, 3]), rng.choice([1, 3, 5])), rng.choice([1, 2])
    padding: Any = tuple(dilation * (k // 2) for k in kernel)
    padding = rng.choice([padding, "same"])
    groups = divisors(rng, channels, units)
    return nn.Conv2d(channels, units, kernel, 1, padding, dilation, groups)


def padding(rng: random.Random, shape: Shape) -> list[nn.Module]:
    amounts = tuple(rng.randint(0, 2) for _ in range(4))
    return [
        nn.ZeroPad2d(tuple(rng.randint(-2, 3) for _ in range(4))),  # type: ignore[arg-type]
        nn.ReflectionPad2d(amounts),  # type: ignore[arg-type]
        nn.ReplicationPad2d(amounts),  # type: ignore[arg-type]
        nn.ConstantPad2d(amounts, 1.5),  # type: ignore[arg-type]
        Lambda(lambda _, x: F.pad(x, amounts[:2])),
    ]


def cropping(rng: random.Random, shape: Shape) -> list[nn.Module]:
    a, b, c, d = (rng.randint(0, 3) for _ in range(4))
    return [
        Lambda(lambda _, x: x[:, :, a : shape[1] - b, c : shape[2] - d]),
        Lambda(lambda _, x: x[..., -(shape[2] // 2 + 1) :]),
        Lambda(lambda _, x: x[:, :, ::2]),
        Lambda(lambda _, x: F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))),
        Lambda(lambda _, x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 2)),
    ]


def residual(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    deep = nn.Sequential(same(rng, c, c), nn.BatchNorm2d(c), nn.ReLU(True), same(rng, c, c))
    return [
        Lambda(lambda net, x: net.a(x) + net.b(x), a=same(rng, c, c), b=same(rng, c, c)),
        Lambda(lambda net, x: F.relu_(net.deep(x).add_(x)), deep=deep),
        Lambda(lambda net, x: x - net.pool(x), pool=nn.MaxPool2d(3, 1, 1)),
        Lambda(lambda _, x: x + 0.7 * F.pad(x[:, :, 2:], (0, 0, 0, 2))),
        Lambda(lambda _, x: torch.maximum(x[:, :, 1:, 1:], x[:, :, :-1, :-1])),
        Lambda(lambda _, x: x - x.roll((3, 2), (2, 3))),
        Lambda(lambda _, x: x + x.flip(3)),
    ]


def concatenation(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    return [
        Lambda(lambda net, x: torch.cat([x, net.a(x)], 1), a=same(rng, c, 2)),
        Lambda(
            lambda net, x: torch.cat([net.a(x), net.b(x), x], 1),
            a=same(rng, c, 2),
            b=nn.MaxPool2d(3, 1, 1),
        ),
        Lambda(lambda _, x: torch.cat([x, x.flip(2)], 2)),
        Lambda(lambda _, x: torch.cat([x[:, :1], x.relu()], -3)),
        Lambda(lambda _, x: torch.cat([2 * x[:, 0].unsqueeze(1) + 1, x[:, 1, None]], 1)),
    ]


def gates(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    return [
        Lambda(
            lambda net, x: x * net.a(x.mean((2, 3), keepdim=True)).sigmoid(),
            a=nn.Conv2d(c, c, 1),
        ),
        Lambda(
            lambda net, x: x * net.a(F.adaptive_avg_pool2d(x, 1).flatten(1))[:, :, None, None],
            a=nn.Linear(c, c),
        ),
        Lambda(
            lambda net, x: x * net.a(torch.cat([x.mean(1, True), x.amax(1, True)], 1)).sigmoid(),
            a=nn.Conv2d(2, 1, 5, padding=2),
        ),
        Lambda(lambda _, x: x * x.mean(3, keepdim=True)),
        Lambda(lambda _, x: x + 0.1 * x.sum(-2, keepdim=True)),
    ]


def across_channels(rng: random.Random, shape: Shape) -> list[nn.Module]:
    return [
        Lambda(lambda _, x: 3 * x.softmax(1)),
        nn.Softmax2d(),
        Lambda(lambda _, x: F.normalize(x, dim=1)),
        Lambda(lambda _, x: 9 * x.softmax(-1)),
        Lambda(lambda _, x: x / (x.std(1, correction=0, keepdim=True) + 1)),
        Lambda(lambda _, x: x.unsqueeze(1).mean(-4)),
        nn.LocalResponseNorm(3),
    ]


def normalisation(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    return [
        nn.GroupNorm(divisors(rng, c), c),
        nn.InstanceNorm2d(c, affine=True),
        nn.InstanceNorm2d(c),
        nn.BatchNorm2d(c),
        nn.BatchNorm2d(c, affine=False),
        nn.LayerNorm(list(shape)),
    ]


def larger(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c, height, width = shape
    return [
        nn.ConvTranspose2d(c, 4, rng.randint(2, 4), 2, rng.randint(0, 1)),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=1.5, mode="bilinear"),
        nn.Upsample((height + 3, width + 2), mode="bilinear", align_corners=True),
        nn.Sequential(nn.Conv2d(c, 8, 1), nn.PixelShuffle(2)),
    ]


def channels_moved(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c, height, width = shape
    groups = 2 if c % 2 == 0 else 1
    return [
        nn.ChannelShuffle(groups),
        Lambda(lambda _, x: torch.cat(x.chunk(groups, 1)[::-1], 1)),
        Lambda(lambda _, x: x.view(len(x), groups, -1, height, width).sum(1)),
        Lambda(lambda _, x: x[:, torch.arange(c - 1, -1, -1)]),
        Lambda(lambda _, x: torch.stack([x, 2 * x.relu()], 2).flatten(1, 2)),
        Lambda(lambda _, x: torch.cat(x.split([1, c - 1], 1)[::-1], 1)),
        Lambda(lambda _, x: x.select(1, 0).unsqueeze(1) + x),
    ]


def axes_moved(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    mlp = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
    return [
        Lambda(
            lambda net, x: x + net.gain * net.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            mlp=mlp,
            gain=torch.rand(c, 1, 1),
        ),
        Lambda(lambda net, x: net.norm(x.movedim(1, -1)).movedim(-1, 1), norm=nn.LayerNorm(c)),
        Lambda(lambda _, x: x.transpose(2, 3)),
        Lambda(lambda net, x: net.n(x.transpose(1, 2)).transpose(1, 2), n=nn.BatchNorm2d(shape[1])),
        Lambda(lambda _, x: x + x[:, :, 3].unsqueeze(2)),
        Lambda(lambda _, x: 3 * x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)),
        Lambda(lambda _, x: F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 0)).permute(0, 3, 1, 2)),
        Lambda(lambda _, x: x.transpose(1, 0).relu().transpose(0, 1)),
        Lambda(lambda _, x: torch.cat([x, x.flip(3)], 0).view(2, *x.shape).mean(0)),
    ]


def constants(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c, height, width = shape
    picture = torch.randn(1, 1, height, width)
    return [
        Lambda(lambda net, x: x * net.m, m=picture),
        Lambda(lambda net, x: x.relu() + net.m, m=torch.randn(height, 1)),
        Lambda(lambda net, x: x.tanh() * net.m, m=torch.randn(width)),
        Lambda(lambda net, x: net.a(x).relu() * net.m, a=nn.Conv2d(c, 4, 1), m=picture),
        Lambda(lambda net, x: torch.where(net.m > 0, x.sigmoid(), x), m=picture),
        Lambda(lambda net, x: x.clamp(min=net.m), m=picture),
        Lambda(lambda net, x: torch.cat([x, net.m.expand(len(x), -1, -1, -1)], 1), m=picture + 1),
        Lambda(lambda net, x: F.conv2d(x, net.w, net.w.sum((1, 2, 3))), w=torch.randn(3, c, 2, 2)),
        Lambda(lambda net, x: x[:, :, 3:4] + net.m.expand(len(x), -1, -1, -1), m=picture),
        Lambda(lambda net, x: F.conv2d(x, 2 * net.w), w=torch.randn(3, c, 2, 2)),
    ]


def masks(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c = shape[0]
    return [
        Lambda(lambda net, x: torch.where(net.a(x) > 0, x, 0.1 * x), a=nn.Conv2d(c, c, 1)),
        Lambda(lambda net, x: x.masked_fill(~(net.a(x) > 0), 0.3), a=nn.Conv2d(c, c, 1)),
        Lambda(lambda net, x: net.a(x).add_(1).relu_() * x, a=nn.Conv2d(c, c, 1)),
        Lambda(lambda net, x: (lambda y: y + y.relu())(net.a(x)), a=nn.Conv2d(c, c, 1)),
        Lambda(lambda _, x: x.softmax(1).argmax(1, keepdim=True) * 0.1 + x),
        Lambda(lambda _, x: torch.lerp(x, x.relu(), 0.3)),
    ]


def whole_map(rng: random.Random, shape: Shape) -> list[nn.Module]:
    c, height, width = shape

    def attention(net: Any, x: torch.Tensor) -> Any:
        tokens = F.max_pool2d(x, 2).flatten(2)
        scores = (net.q(x).flatten(2).transpose(1, 2) @ tokens).softmax(-1)
        return x + (scores @ tokens.transpose(1, 2)).transpose(1, 2).view(x.shape)

    return [
        Lambda(attention, q=nn.Conv2d(c, c, 1)),
        Lambda(lambda net, x: net.a(x.flatten(2)).view(x.shape), a=nn.Conv1d(c, c, 3, 1, 1)),
        Lambda(lambda net, x: net.a(x[:, None])[:, 0], a=nn.Conv3d(1, 1, 3, padding=1)),
        Lambda(lambda _, x: F.unfold(x, 3, padding=1).view(len(x), c, 9, height, width).mean(2)),
        Lambda(lambda _, x: x - x.mean((2, 3), keepdim=True)),
    ]


def convolutions(rng: random.Random, shape: Shape) -> list[nn.Module]:
    return [convolution(rng, shape) for _ in range(8)]


def normed(rng: random.Random, shape: Shape) -> list[nn.Module]:
    units = rng.choice([4, 6])
    activations = (
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.SiLU(inplace=True),
        nn.Hardswish(),
        nn.GELU(),
        nn.PReLU(units),
        nn.PReLU(),
        nn.Softplus(),
        nn.ReLU6(inplace=True),
    )
    return [
        nn.Sequential(same(rng, shape[0], units), nn.BatchNorm2d(units), activation)
        for activation in activations
    ]


def max_pools(rng: random.Random, shape: Shape) -> list[nn.Module]:
    return [
        nn.MaxPool2d(
            kernel, stride, (kernel[0] // 2, (kernel[1] - 1) // 2), dilation, ceil_mode=ceil
        )
        for kernel, stride, dilation in (((2, 3), None, 1), ((3, 1), (2, 1), 1), ((4, 3), 1, 2))
        for ceil in (False, True)
    ]


def average_pools(rng: random.Random, shape: Shape) -> list[nn.Module]:
    return [
        nn.AvgPool2d(kernel, stride, padding, ceil, counted, divisor)
        for kernel, stride, padding in (((2, 3), None, (1, 0)), ((4, 3), (3, 2), (0, 1)))
        for ceil in (False, True)
        for counted in (False, True)
        for divisor in (None, 5)
    ]


VARIANTS: dict[str, Callable[[random.Random, Shape], list[nn.Module]]] = {
    function.__name__: function
    for function in (
        convolutions, normed, max_pools, average_pools, padding, cropping, residual, concatenation,
        gates, across_channels, normalisation, larger, channels_moved, axes_moved, constants,
        masks, whole_map,
    )
}  # fmt: skip


def head(rng: random.Random, shape: Shape) -> nn.Module:
    c, height, width = shape
    return rng.choice(
        [
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 5)),
            nn.Sequential(nn.Flatten(), nn.Linear(c * height * width, 5)),
            nn.Sequential(nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten(), nn.Linear(6 * c, 5)),
            Lambda(lambda net, x: net.a(x).mean((2, 3)), a=nn.Conv2d(c, 5, 1)),
            Lambda(
                lambda net, x: net.a(F.adaptive_avg_pool2d(x, 1)).squeeze(), a=nn.Conv2d(c, 5, 1)
            ),
            Lambda(
                lambda net, x: net.a(F.adaptive_avg_pool2d(x, (3, 2)).flatten(1)),
                a=nn.Linear(6 * c, 5),
            ),
        ]
    )


COUNTS = {kind: len(make(random.Random(0), (4, 20, 20))) for kind, make in VARIANTS.items()}


def stack(rng: random.Random, steps: list[tuple[str, int | None]], shape: Shape) -> nn.Module:
    """A network of these operations, of any variant where none is given, if they fit the size."""
    stages: list[nn.Module] = []
    current = shape
    for kind, number in steps:
        for _ in range(20):
            found = VARIANTS[kind](rng, current)
            stage = rng.choice(found) if number is None else found[number]
            behind = output_shape(stage, current)
            if behind is not None:
                stages.append(stage)
                current = behind
                break
    module = lively(nn.Sequential(*stages, head(rng, current)), shape)
    return module if answers_differ(module, shape) else stack(rng, steps, shape)


def answers_differ(module: nn.Module, shape: Shape) -> bool:
    """Whether the network tells noise from noise; some norms before some pools leave nothing."""
    with torch.no_grad():
        one, two = module(torch.randn(2, *shape))
    return float((one - two).abs().max()) > 0.01 * float(one.max() - one.min())


def output_shape(stage: nn.Module, shape: Shape) -> Shape | None:
    """Shape behind a stage; None where it cannot be or gets too small or too large."""
    try:
        with torch.no_grad():
            y = stage.eval()(torch.randn(2, *shape))
    except (RuntimeError, IndexError, ValueError):
        return None
    fits = y.ndim == 4 and min(y.shape[2:]) >= 3 and y.numel() < 60_000 and bool(y.std() > 0)
    return (y.shape[1], y.shape[2], y.shape[3]) if fits else None


def around(kind: str, number: int) -> tuple[nn.Module, Shape]:
    """One operation, twice, between convolutions."""
    torch.manual_seed(number)
    rng = random.Random(f"{kind} {number}")
    shape = 3, rng.randint(19, 33), rng.randint(19, 41)
    step, any_norm = (kind, number), ("normed", None)
    return stack(rng, [any_norm, step, any_norm, step, ("convolutions", None)], shape), shape


def any_network(seed: int) -> tuple[nn.Module, Shape]:
    """Any operations in any order."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    shape = rng.choice([1, 3]), rng.randint(17, 33), rng.randint(17, 41)
    kinds = rng.choices(list(VARIANTS), k=rng.randint(3, 7))
    return stack(rng, [(kind, None) for kind in kinds], shape), shape
