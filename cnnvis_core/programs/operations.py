"""Which operations a program may name: pure functions of tensors, none of files or memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from cnnvis_core.errors import InputError

# By the names of ATen's operations; what writes in place is allowed with its functional twin.
_NAMES = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm
native_group_norm instance_norm rms_norm
linear addmm mm bmm baddbmm matmul einsum scaled_dot_product_attention
relu relu6 hardtanh leaky_relu prelu _prelu_kernel elu celu selu gelu silu mish softplus softsign
hardswish hardsigmoid hardshrink softshrink sigmoid log_sigmoid tanh threshold glu clamp clamp_min
clamp_max softmax _softmax log_softmax _log_softmax logsumexp dropout feature_dropout alpha_dropout
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
adaptive_max_pool1d adaptive_max_pool2d
upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d
pixel_shuffle pixel_unshuffle channel_shuffle
view reshape _unsafe_view flatten unflatten permute transpose t numpy_T squeeze unsqueeze cat concat
stack split split_with_sizes chunk tensor_split unbind slice select narrow expand expand_as view_as
reshape_as repeat repeat_interleave movedim swapaxes roll flip unfold im2col col2im diagonal tril
triu alias contiguous clone detach lift_fresh_copy to _to_copy type_as
pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
add sub rsub mul div neg abs exp expm1 log log1p log2 log10 sqrt rsqrt square pow reciprocal floor
ceil round sign sin cos atan erf maximum minimum where lerp addcmul addcdiv
eq ne lt le gt ge logical_and logical_or logical_not masked_fill
mean sum amax amin max min argmax prod std var var_mean norm linalg_vector_norm cumsum any all
zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full arange linspace
scalar_tensor eye index index_select gather embedding
sym_size
"""
ALLOWED = frozenset(_NAMES.split())
# Division of whole numbers ends the process where it overflows.
REFUSED = frozenset(("Tensor_mode", "Scalar_mode"))
# What an argument of this name must be, if it is given: torch itself does not check these.
TYPES: Mapping[str, type] = {
    "dtype": torch.dtype,
    "memory_format": torch.memory_format,
    "layout": torch.layout,
}
LARGEST = 1 << 62  # of a size
_SIZES: Mapping[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
}
# Promises that the exporter noted; there is nothing to compute.
_IDLE_NAMES = """
_assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range
sym_constrain_range_for_size
"""
IDLE = frozenset(_IDLE_NAMES.split())
# Names of layers that people know from torch.nn, by the names of ATen's operations.
KINDS: Mapping[str, str] = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "hardtanh": "Hardtanh",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "_prelu_kernel": "PReLU",
    "elu": "ELU",
    "celu": "CELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "glu": "GLU",
    "log_sigmoid": "LogSigmoid",
    "conv1d": "Conv1d",
    "conv3d": "Conv3d",
    "conv_transpose2d": "ConvTranspose2d",
    "max_pool2d": "MaxPool2d",
    "max_pool2d_with_indices": "MaxPool2d",
    "avg_pool2d": "AvgPool2d",
    "adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "_adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "adaptive_max_pool2d": "AdaptiveMaxPool2d",
    "native_layer_norm": "LayerNorm",
    "native_group_norm": "GroupNorm",
    "batch_norm": "BatchNorm",
    "_native_batch_norm_legit_no_training": "BatchNorm",
}


def base_name(target: str) -> str:
    """Name of an operation without library, overload and the mark of writing in place."""
    parts = target.split(".")
    if parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5:
        name = parts[3]
        return name if name in ALLOWED or name in IDLE else name.removesuffix("_")
    return ""


def kind_name(target: str) -> str:
    """The operation's name for people, as torch.nn would write it."""
    name = base_name(target)
    return KINDS.get(name) or "".join(part.capitalize() for part in name.split("_"))


def is_idle(target: str) -> bool:
    """Whether a target computes nothing."""
    return base_name(target) in IDLE


def resolved(target: str) -> Callable[..., Any]:
    """The function that a program names.

    Parameters
    ----------
    target : str
        Such as ``"torch.ops.aten.conv2d.default"`` or ``"_operator.mul"``.

    Raises
    ------
    InputError
        If it is not among those that are known to be harmless.
    """
    library, _, name = target.rpartition(".")
    if library == "_operator" and name in _SIZES:
        return partial(_of_sizes, _SIZES[name])
    if base_name(target) in ALLOWED and name not in REFUSED:
        packet = getattr(torch.ops.aten, target.split(".")[3], None)
        if packet is not None and name in packet.overloads():
            found: Callable[..., Any] = getattr(packet, name)
            if _writes_nowhere_else(found):
                return found
    shown = "".join(c for c in target if c.isprintable())[:80]
    raise InputError(
        f"The program uses {shown or 'a nameless operation'}, which is not known here; export a "
        "network of ordinary layers, without operations of its own."
    )


def _writes_nowhere_else(operation: Any) -> bool:
    """Whether an operation makes its result anew, or writes over its first argument by its name."""
    arguments = operation._schema.arguments
    written = [a for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    in_place = operation.overloadpacket.__name__.endswith("_")
    return not written or (in_place and written == arguments[:1])


def check_arguments(target: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that an operation does not have, or of types that torch takes unchecked.

    Raises
    ------
    InputError
        If there is one.
    """
    operation: Any = resolved(target)
    if isinstance(operation, partial):
        return
    known = {argument.name for argument in operation._schema.arguments}
    for name, value in arguments.items():
        wanted = TYPES.get(name)
        is_type = isinstance(value, tuple(TYPES.values()))
        if name not in known or (value is not None and (is_type or wanted is not None)
                                 and not isinstance(value, wanted or ())):  # fmt: skip
            raise InputError(f"The program gives {target[:80]} an argument of another kind.")


def _of_sizes(operation: Callable[..., Any], *values: Any) -> Any:
    """Arithmetic with sizes: few small whole numbers, and nothing else.

    Raises
    ------
    InputError
        If there is anything else.
    """
    if not 1 <= len(values) <= 2 or not all(type(value) in (int, bool) for value in values):
        raise InputError("The program computes with other things than sizes.")
    found = operation(*values)
    if not -LARGEST < found < LARGEST:
        raise InputError("The program computes sizes that no tensor has.")
    return found
