"""Gradient methods: how much each input value speaks for a class or a unit. Captum underneath."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnvis_core.brief import Brief
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.graph import Graph, Ref, UntraceableError
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.memory import forget_spare
from cnnvis_core.models.model import Model
from cnnvis_core.models.replay import activation_behind
from cnnvis_core.models.twin import Twin, besides_relu, nonlinearities, shuffled
from cnnvis_core.models.units import Reduction, up_to

Method = Literal[
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "guided_backprop",
    "deconvolution",
    "integrated_gradients",
    "grad_cam",
    "deeplift",
]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: Mapping[Method, str] = {
    "integrated_gradients": "Integrated gradients",
    "grad_cam": "Grad-CAM",
    "smoothgrad": "SmoothGrad",
    "guided_backprop": "Guided backpropagation",
    "deconvolution": "Deconvolution",
    "deeplift": "DeepLIFT",
    "input_x_gradient": "Input × gradient",
    "saliency": "Saliency",
}
STEPS = 8  # of integrated gradients in each part of the path (Gauss and Legendre's)
PARTS, MOST_PARTS = 4, 128  # of the path, at first and at most
COMPLETE = 0.01  # largest completeness gap that is not refined further
SMOOTH_SAMPLES = 32
GRADIENT_BYTES = 128 * 2**20  # of the values that are kept for a gradient
SMOOTH_SPREAD = 0.15  # of the input's range, the standard deviation of SmoothGrad's noise
# Springenberg's and Zeiler's rules are about units that are cut at zero.
RELU_METHODS: frozenset[Method] = frozenset({"guided_backprop", "deconvolution"})
# Operations that mix units.
MIXING = frozenset({"conv1d", "conv2d", "conv3d", "convolution", "linear", "addmm", "matmul"})
DEEPLIFT_KNOWS = frozenset({"relu", "clamp_min", "leaky_relu", "sigmoid", "tanh"})


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Brief):
    """How much each value of an input speaks for a score.

    Attributes
    ----------
    values : ndarray (C, H, W)
        Signed; of Grad-CAM (1, H, W), from the map of ``layer``.
    method : str
        One of `METHODS`.
    target : str
        What was explained, in words.
    score : float
        The score of the input itself: a logit, or the activation of a unit.
    completeness_gap : float or None
        ``|sum of values - (score - score of the baseline)|``, as a share of that difference, for
        methods that promise 0; None for the others.
    """

    values: NDArray[np.float32]
    method: Method
    target: str
    score: float
    completeness_gap: float | None

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """Sum over the channels (H, W)."""
        return self.values.sum(0)


@dataclass(frozen=True, eq=False)
class _Question:
    """A score of an input, as a module of its own and the column of its output."""

    forward: nn.Module
    column: int
    batch: int  # inputs whose gradients fit in memory


def attribute(
    model: Model,
    x: torch.Tensor,
    target: int | str | None = None,
    method: Method = "integrated_gradients",
    layer: str | None = None,
    channel: int | None = None,
    reduction: Reduction = "mean",
    baseline: torch.Tensor | None = None,
    seed: int = 0,
    shuffle_weights: bool = False,
) -> Attribution:
    """Explain a class, or a unit, by gradients.

    Parameters
    ----------
    model : Model
        Left as it was found: methods that hook modules hook a private twin.
    x : Tensor (1, C, H, W)
        From `Model.preprocess`.
    target : int or str, optional
        A class; the network's own answer if neither this nor a unit is given.
    method : str
        "saliency" (the gradient; Simonyan et al. 2014), "input_x_gradient", "smoothgrad" (Smilkov
        et al. 2017), "guided_backprop" (Springenberg et al. 2015), "deconvolution" (Zeiler and
        Fergus 2014), "integrated_gradients" (Sundararajan et al. 2017, refined until complete),
        "grad_cam" (Selvaraju et al. 2017), "deeplift" (Shrikumar et al. 2017, rescale rule).
    layer : str, optional
        With ``channel``, the layer of the unit to explain. For Grad-CAM of a class, the layer
        whose maps are weighed; by default the last one with maps. For a unit, Grad-CAM weighs the
        last maps before it that another operation mixes.
    channel : int, optional
        The unit.
    reduction : {"mean", "maximum"}
        What of the unit's map is explained.
    baseline : Tensor (1, C, H, W), optional
        Where integrated gradients and DeepLIFT start; by default the mean colour, or silence.
    seed : int
        Of SmoothGrad's noise and of ``shuffle_weights``.
    shuffle_weights : bool
        Explain the same network with the values of its weights shuffled instead: a map that stays
        as it was says nothing about the network (Adebayo et al. 2018).

    Raises
    ------
    InputError
        If ``x``, the method or the baseline cannot be used.
    ModelError
        If there is no such class, layer or unit, or the method does not fit the network.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}; use one of {', '.join(METHODS)}.")
    if x.ndim != 4 or len(x) != 1:
        raise InputError(f"One input (1, C, H, W) is needed, not {tuple(x.shape)}.")
    if baseline is not None and baseline.shape != x.shape:
        raise InputError(f"The baseline must have the input's shape {tuple(x.shape)}.")
    x = x.detach().to(model.device).clone()
    start = nothing(model, x) if baseline is None else baseline.to(model.device)
    graph = _graph(model, tuple(x.shape[1:]))
    if channel is not None:
        graph = _to_unit(model, graph, layer, channel, reduction)
    _check(model, graph, method)
    if shuffle_weights:
        graph = shuffled(graph, seed)
    watched = None
    if method == "grad_cam":
        of_unit = channel is not None
        if layer is None or of_unit:
            watched = _last_maps(model, graph, of_unit)
        else:
            watched = _cam_maps(model, graph, layer)
    if channel is None:
        column = int(model.predict(x).argmax()) if target is None else model.class_index(target)
        words = model.classes[column]
    else:
        column, words = channel, f"the {reduction} of unit {channel} of {layer}"
    question = _Question(Twin(graph, None, watched), column, _batch(graph))
    values, gap = _computed(method, question, x, start, seed)
    with torch.no_grad():
        score = float(question.forward(x)[0, question.column])
    found = values.detach()[0].float().cpu().numpy()
    return Attribution(found, method, words, score, gap)


def _computed(
    method: Method, question: _Question, x: torch.Tensor, start: torch.Tensor, seed: int
) -> Values:
    """What a method finds, with smaller batches where the memory does not suffice."""
    while True:
        try:
            with torch.inference_mode(False), torch.enable_grad():
                values, gap = _COMPUTE[method](question, x.detach(), start, seed)
                return values, gap
        except torch.OutOfMemoryError:
            if question.batch < 2:
                raise
        question = replace(question, batch=question.batch // 2)
        forget_spare(x.device)


def nothing(model: Model, x: torch.Tensor) -> torch.Tensor:
    """An input (1, C, H, W) without content: the mean colour, or silence."""
    if not isinstance(model.frontend, LogMel):
        return torch.zeros_like(x)
    silence = torch.zeros(1, model.frontend.min_samples)
    return torch.full_like(x, float(model.frontend.spectrogram(silence).min()))


def _graph(model: Model, shape: tuple[int, ...]) -> Graph:
    try:
        return model.recording(shape)
    except UntraceableError as error:
        raise ModelError(
            f"The forward pass of {model.card.title} cannot be followed ({error}); use occlusion, "
            "which only asks for its answers."
        ) from error


def _check(model: Model, graph: Graph, method: Method) -> None:
    """Refuse a method that would be silently wrong on this network."""
    kinds = nonlinearities(graph)
    others = besides_relu(graph)
    if method in RELU_METHODS and (others or not kinds):
        raise ModelError(
            f"This method is defined for networks of ReLU alone, and {model.card.title} has "
            f"{', '.join(sorted(others)) or 'none'}; use integrated gradients."
        )
    unknown = kinds - DEEPLIFT_KNOWS
    if method == "deeplift" and unknown:
        raise ModelError(
            f"DeepLIFT has no rule here for {', '.join(sorted(unknown))} in {model.card.title}; "
            "use integrated gradients."
        )


def _to_unit(
    model: Model, graph: Graph, layer: str | None, channel: int, reduction: Reduction
) -> Graph:
    """The pass up to a layer, for one of its units."""
    if layer is None:
        raise InputError("A unit is a channel of a layer; name the layer.")
    found = model.layer(layer)
    if not 0 <= channel < found.channels:
        raise ModelError(f"{layer} has units 0 to {found.channels - 1}, not {channel}.")
    try:
        return up_to(graph, found, reduction)
    except UntraceableError as error:
        raise ModelError(f"{model.card.title} does not reach its layer {layer!r} here.") from error


def _batch(graph: Graph) -> int:
    """How many inputs to follow at once: a gradient keeps every value of the pass."""
    values = sum(
        math.prod(side for side in shape if isinstance(side, int))
        for node in graph.nodes
        for shape in node.shapes
    )
    return max(1, min(STEPS, GRADIENT_BYTES // (2 * 4 * max(values, 1))))


def _cam_maps(model: Model, graph: Graph, layer: str) -> Ref:
    """The maps that Grad-CAM weighs: a layer's, behind its non-linearity if it has one."""
    found = model.layer(layer)
    if len(found.output_shape) != 3 or found.axes != (0, 1, 2) or layer not in graph.calls:
        raise ModelError(f"Grad-CAM needs a layer with maps of units; {layer!r} has none.")
    ref = graph.calls[layer].output
    return activation_behind(graph, ref) or ref


def _last_maps(model: Model, graph: Graph, of_unit: bool) -> Ref:
    """The last maps on the way to the answer that all of it goes through.

    For a unit they lie before the operation that mixes them: its own map explains only itself.
    """
    edge, mixed = {graph.output}, not of_unit
    while edge:
        # The latest value first: once it stands alone, everything goes through it.
        ref = max(edge, key=lambda ref: ref.node)
        shape = graph.nodes[ref.node].shapes[ref.item or 0]
        sides = [side for side in shape[2:] if isinstance(side, int)]
        has_maps = len(shape) == 4 and len(sides) == 2 and max(sides) > 1
        if mixed and has_maps and len(edge) == 1 and ref.node:
            return ref
        mixed = mixed or graph.nodes[ref.node].name in MIXING
        edge.remove(ref)
        edge |= {r for r in graph.nodes[ref.node].refs() if graph.nodes[r.node].depends}
    raise ModelError(
        f"{model.card.title} has no maps on the way there that all of the answer goes through; "
        + ("use integrated gradients." if of_unit else "name a layer.")
    )


Values = tuple[torch.Tensor, float | None]


def _saliency(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import Saliency

    found = Saliency(q.forward).attribute(x.requires_grad_(), target=q.column, abs=False)
    return found, None


def _input_x_gradient(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import InputXGradient

    return InputXGradient(q.forward).attribute(x.requires_grad_(), target=q.column), None


def _smoothgrad(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import Saliency

    # Captum's NoiseTunnel draws from torch's own generator, which other visitors use too.
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((SMOOTH_SAMPLES, *x.shape[1:]), generator=generator).to(x.device)
    noisy = x + SMOOTH_SPREAD * float(x.max() - x.min()) * noise
    parts = [
        Saliency(q.forward).attribute(part.requires_grad_(), target=q.column, abs=False)
        for part in noisy.split(q.batch)
    ]
    return torch.cat(parts).mean(0, keepdim=True), None


def _guided(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(q.forward).attribute(x.requires_grad_(), target=q.column), None


def _deconvolution(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import Deconvolution

    return Deconvolution(q.forward).attribute(x.requires_grad_(), target=q.column), None


def _integrated(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(q.forward)

    def part(low: float, high: float) -> tuple[float, float, float, torch.Tensor]:
        """A part of the path: how incomplete it is, where it lies, and what it adds."""
        a, b = (start + place * (x - start) for place in (low, high))
        found = method.attribute(
            b, a, target=q.column, n_steps=STEPS, internal_batch_size=q.batch
        ).detach()
        return _missing(q, found, b, a), low, high, found

    edges = [k / PARTS for k in range(PARTS + 1)]
    parts = [part(low, high) for low, high in pairwise(edges)]
    while True:
        values = torch.stack([found for *_, found in parts]).sum(0)
        gap = _gap(q, values, x, start)
        if gap <= COMPLETE or len(parts) >= MOST_PARTS:
            return values, gap
        # Where the score bends most, the path is halved.
        parts.sort(key=lambda part: -abs(part[0]))
        _, low, high, _ = parts.pop(0)
        middle = (low + high) / 2
        parts += [part(low, middle), part(middle, high)]


def _grad_cam(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import LayerAttribution, LayerGradCam

    twin = next(part for part in q.forward.modules() if isinstance(part, Twin))
    found = LayerGradCam(q.forward, twin.watch).attribute(x, target=q.column)
    return LayerAttribution.interpolate(found, tuple(x.shape[2:]), "bilinear"), None


def _deeplift(q: _Question, x: torch.Tensor, start: torch.Tensor, seed: int) -> Values:
    from captum.attr import DeepLift

    found = DeepLift(q.forward).attribute(x, start, target=q.column)
    return found, _gap(q, found, x, start)


def _missing(q: _Question, values: torch.Tensor, x: torch.Tensor, start: torch.Tensor) -> float:
    """What the values' sum lacks of the difference of the scores."""
    with torch.no_grad():
        ends = q.forward(torch.cat([x, start]))[:, q.column].double()
    return float(ends[0] - ends[1] - values.detach().double().sum())


def _gap(q: _Question, values: torch.Tensor, x: torch.Tensor, start: torch.Tensor) -> float:
    """The same as a share of that difference, without its sign."""
    missing = _missing(q, values, x, start)
    promised = missing + float(values.detach().double().sum())
    return abs(missing) / max(abs(promised), 1e-12)


_COMPUTE: Mapping[Method, Callable[[_Question, torch.Tensor, torch.Tensor, int], Any]] = {
    "saliency": _saliency,
    "input_x_gradient": _input_x_gradient,
    "smoothgrad": _smoothgrad,
    "guided_backprop": _guided,
    "deconvolution": _deconvolution,
    "integrated_gradients": _integrated,
    "grad_cam": _grad_cam,
    "deeplift": _deeplift,
}
