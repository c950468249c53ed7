"""The torch modules of a merged network: one for each map, recurrent layer, norm and embedding of its graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from audiorep.reparam.affine import Affine, Constants, to_transposed
from audiorep.reparam.algebra import Taps
from audiorep.reparam.layout import fixed_size
from audiorep.reparam.model_copies import to_double
from audiorep.reparam.module import MergedGRU, MergedLSTM, Scale, empty, set_tensor
from audiorep.reparam.nodes import argument, arguments, named_arguments, shape
from audiorep.reparam.recurrent import Recurrent

aten = torch.ops.aten
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_BATCH_NORM_ARGUMENTS = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")


class LayerBuilder:
    """Makes modules, with copies of the original's tensors where nothing was merged."""

    def __init__(self, constants: Constants, double: bool) -> None:
        self._constants, self._double = constants, double
        self._tensors: dict[str, Tensor] = {}

    def tensor(self, node: Any) -> Tensor:
        """A copy of a tensor of the original; the same copy in every call."""
        constant = self._constants.constant(node)
        assert constant is not None
        if constant.name not in self._tensors:
            copied = constant.tensor.detach().clone()
            copied = to_double(copied) if self._double else copied
            floats = copied.is_floating_point() or copied.is_complex()
            self._tensors[constant.name] = nn.Parameter(copied, requires_grad=False) if constant.trained and floats else copied
        return self._tensors[constant.name]

    def map(self, target: Affine, axes: int) -> nn.Module:
        """The module of a map of a tensor with this number of axes."""
        taps = target.taps
        if target.raw is not None and str(target.raw[0]).startswith("aten.batch_norm"):
            return self._batch_norm(target, axes)
        if taps.is_scale or target.axis is None:
            return self._scale(target, axes)
        if not taps.size and target.axis == axes - 1:
            linear = empty(nn.Linear, taps.inputs, taps.outputs, taps.bias is not None)
            return self._filled(linear, target, taps.weight)
        return self._transposed(target) if taps.transposed else self._convolution(target, axes - 2)

    def recurrent(self, target: Recurrent) -> nn.Module:
        """The module of an LSTM or GRU."""
        hidden = target.weights[1].shape[1]
        projection = target.weights[target.cells - 1].shape[0] if target.projected else 0
        kind: Any = MergedLSTM if target.label == "LSTM" else MergedGRU
        more = {"proj_size": projection} if projection else {}
        module = empty(
            kind, target.weights[0].shape[1], target.weights[0].shape[0] // (4 if target.label == "LSTM" else 3) or hidden,
            target.layers, target.biased, target.batch_first, 0.0, target.bidirectional, **more,
        )  # fmt: skip
        names = [name for group in module._all_weights for name in group]
        for name, weight in zip(names, target.weights, strict=True):
            zeros = target.merged and target.label == "LSTM" and name.startswith("bias_hh")
            set_tensor(module, name, self._cast(weight, target.dtype), not zeros, persistent=not zeros)
        module._init_flat_weights()
        return module

    def norm(self, node: fx.Node) -> nn.Module:
        """The module of a layer, group or RMS norm."""
        values = named_arguments(node)
        tensors = {"weight": values.get("weight"), "bias": values.get("bias")}
        has_weight, has_bias = (tensor is not None for tensor in tensors.values())
        if node.target is aten.group_norm.default:
            channels = fixed_size(shape(values["input"])[1])
            module = empty(nn.GroupNorm, values["num_groups"], channels, values["eps"], has_weight)
        elif node.target is aten.rms_norm.default:
            module = empty(nn.RMSNorm, values["normalized_shape"], values["eps"], has_weight)
        else:
            module = empty(nn.LayerNorm, values["normalized_shape"], values["eps"], has_weight, has_bias)
        for name, given in tensors.items():
            if given is not None:
                self._set_own(module, name, given)
            elif name in module._parameters:
                set_tensor(module, name, None, False)
        return module

    def embedding(self, node: fx.Node) -> nn.Module:
        """The module of an embedding."""
        weight, index = arguments(node)[0], argument(node, 2, -1)
        sizes = self.tensor(weight).shape
        module: nn.Module = empty(nn.Embedding, *sizes, padding_idx=None if index in (-1, None) else index)
        self._set_own(module, "weight", weight)
        return module

    def _set_own(self, module: nn.Module, name: str, node: Any) -> None:
        tensor = self.tensor(node)
        set_tensor(module, name, tensor, isinstance(tensor, nn.Parameter))

    def _convolution(self, target: Affine, dimensions: int) -> nn.Module:
        taps, ones = target.taps, (1,) * dimensions
        size, stride, dilation = taps.size or ones, taps.stride or ones, taps.dilation or ones
        padding = _split_padding(taps)[0] if taps.size else (0,) * dimensions
        frame = (size, stride, padding, dilation, taps.groups, taps.bias is not None)
        module = empty(_CONVOLUTIONS[dimensions], taps.inputs, taps.outputs, *frame)
        return self._filled(module, target, taps.weight.reshape(*taps.weight.shape[:2], *size))

    def _transposed(self, target: Affine) -> nn.Module:
        taps = target.taps
        extra = tuple(low - high for low, high in zip(taps.low, taps.high, strict=True))
        kind, bias = _TRANSPOSED[len(taps.size)], taps.bias is not None
        channels, frame = (taps.inputs, taps.outputs), (taps.size, taps.stride, taps.low, extra)
        module = empty(kind, *channels, *frame, taps.groups, bias, taps.dilation)
        return self._filled(module, target, to_transposed(taps.weight, taps.groups))

    def _filled(self, module: nn.Module, target: Affine, weight: Tensor) -> nn.Module:
        """`module` with the map's tensors: the original's own where nothing was merged."""
        own = self._original_tensors(target) if target.raw is not None and not target.derived and not self._double else {}
        for name, value, trained in (("weight", weight, True), ("bias", target.taps.bias, target.taps.bias_trained)):
            original = own.get(name)
            if original is not None:
                set_tensor(module, name, original, isinstance(original, nn.Parameter))
            else:
                set_tensor(module, name, self._cast(value, target.dtype), trained)
        return module

    def _original_tensors(self, target: Affine) -> dict[str, Tensor | None]:
        """Copies of the weight and bias of a captured convolution or linear layer."""
        assert target.raw is not None
        _, args, kwargs = target.raw
        nodes = [*args[1:3], *(kwargs[name] for name in ("weight", "bias") if name in kwargs)]
        tensors = [self.tensor(node) if isinstance(node, fx.Node) else None for node in nodes]
        return dict(zip(("weight", "bias"), tensors, strict=False))

    def _cast(self, value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        if value is None:
            return None
        return value.contiguous() if self._double else value.to(dtype, copy=True).contiguous()

    def _batch_norm(self, target: Affine, axes: int) -> nn.Module:
        assert target.raw is not None
        _, args, kwargs = target.raw
        values = dict(zip(_BATCH_NORM_ARGUMENTS, args, strict=False)) | kwargs
        module = empty(_BATCH_NORMS[axes], target.taps.outputs, values["eps"], values["momentum"], values["weight"] is not None)
        for name in ("weight", "bias", "running_mean", "running_var"):
            node = values[name]
            if self._constants.constant(node) is not None:
                self._set_own(module, name, node)
            else:
                tensor = None if node is None else self._cast(self._constants.value(node), target.dtype)
                set_tensor(module, name, tensor, False)
        device = target.taps.weight.device
        set_tensor(module, "num_batches_tracked", torch.zeros((), dtype=torch.long, device=device), False)
        return module

    def _scale(self, target: Affine, axes: int) -> nn.Module:
        module, taps = Scale(), target.taps
        broadcast = [1] * axes
        if target.axis is not None:
            broadcast[target.axis] = -1
        weight, bias = self._cast(taps.weight[:, 0], target.dtype), self._cast(taps.bias, target.dtype)
        assert weight is not None
        set_tensor(module, "weight", weight.reshape(broadcast), taps.weight_trained)
        set_tensor(module, "bias", None if bias is None else bias.reshape(broadcast), taps.bias_trained)
        return module.eval()


def outer_padding(target: Affine) -> list[int]:
    """The padding before a convolution that its module cannot do itself, as `torch.nn.functional.pad` takes it."""
    return _split_padding(target.taps)[1] if target.taps.size and not target.taps.transposed else []


def _split_padding(taps: Taps) -> tuple[Any, list[int]]:
    """(the padding that a convolution module has, what is left to `torch.nn.functional.pad`)."""
    pairs = list(zip(taps.low, taps.high, strict=True))
    inner = tuple(max(0, min(pair)) for pair in pairs)
    if taps.low == taps.high and min(taps.low) >= 0:
        return inner, []
    reach = [d * (k - 1) for d, k in zip(taps.dilation, taps.size, strict=True)]
    is_same = [low + high == total and low == total // 2 for (low, high), total in zip(pairs, reach, strict=True)]
    if all(is_same) and all(stride == 1 for stride in taps.stride):
        return "same", []
    left = [n for (low, high), own in reversed(list(zip(pairs, inner, strict=True))) for n in (low - own, high - own)]
    return inner, left
