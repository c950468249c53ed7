"""Layers whose sizes are not those of a network's configuration: what compression leaves, told in plain values and made again.

A checkpoint's configuration says how its network is built; its `layers` say what was then changed in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from audiorep.errors import ConfigError
from audiorep.models.layers import AnyModule, SubsampledConv2d, convolution

Layers = dict[str, dict[str, int]]
"""{name of a layer: its sizes}, for example {"stem.conv": {"in_channels": 1, "out_channels": 12, "groups": 1}}."""

_SIZES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    SubsampledConv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm2d: ("num_features",),
    nn.Linear: ("in_features", "out_features"),
}
RANK = "rank"
"""Beside a layer's sizes: it is factored into two of them, through so many values."""


class Factored(nn.Sequential):
    """A pointwise convolution or linear layer as the product of two: (B, in, …) through `rank` values to (B, out, …)."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    @classmethod
    def like(cls, layer: nn.Module, rank: int) -> Factored:
        """Two layers of random weights in place of `layer`, whose bias the second keeps."""
        bias = layer.bias is not None
        if isinstance(layer, nn.Linear):
            return cls(nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias))
        assert isinstance(layer, nn.Conv2d)
        first = convolution(layer.in_channels, rank, (1, 1), layer.stride)  # type: ignore[arg-type]
        return cls(first, nn.Conv2d(rank, layer.out_channels, 1, bias=bias))


def changed_layers(network: nn.Module, original: nn.Module) -> Layers:
    """The layers of `network` whose sizes differ from those in `original`, which its configuration gives."""
    found: Layers = {}
    before = dict(original.named_modules())
    for name, module in network.named_modules():
        if isinstance(module, Factored):
            found[name] = {**_factored_sizes(module), RANK: _sizes(module.first)[_SIZES[type(module.first)][1]]}
        elif type(module) in _SIZES and name in before and _sizes(module) != _sizes(before[name]):
            found[name] = _sizes(module)
    return found


def change_layers(network: AnyModule, layers: Mapping[str, Mapping[str, int]]) -> AnyModule:
    """`network` with layers of other sizes put in place of its own, their weights those of new layers.

    Raises:
        ConfigError: a layer that the network does not have, or sizes that it cannot have.
    """
    for name, sizes in layers.items():
        try:
            module = network.get_submodule(name)
        except AttributeError:
            raise ConfigError(f"The network has no layer {name!r}.") from None
        network.set_submodule(name, _resized(name, module, dict(sizes)))
    return network


def _resized(name: str, module: nn.Module, sizes: dict[str, int]) -> nn.Module:
    names = _SIZES.get(type(module))
    rank = sizes.pop(RANK, None)
    if names is None or set(sizes) != set(names):
        raise ConfigError(f"The layer {name!r} is a {type(module).__name__}; its sizes cannot be {sizes}.")
    limits = _sizes(module)
    limits[RANK] = min(limits[key] for key in names[:2])
    for key, value in {**sizes, **({} if rank is None else {RANK: rank})}.items():
        if type(value) is not int or not 1 <= value <= limits[key]:
            raise ConfigError(f"The layer {name!r} cannot have {key} {value!r}; 1 to {limits[key]}.")
    try:
        layer = _layer(module, sizes)
    except ValueError as error:
        raise ConfigError(f"The layer {name!r} cannot be made: {error}.") from None
    if rank is None:
        return layer
    if isinstance(layer, nn.Conv2d) and (layer.kernel_size != (1, 1) or layer.groups != 1):
        raise ConfigError(f"The layer {name!r} cannot be factored: it is no plain pointwise convolution.")
    return Factored.like(layer, rank)


def _layer(module: nn.Module, sizes: dict[str, int]) -> nn.Module:
    """A layer of other sizes but all else as in `module`, in the same mode."""
    if isinstance(module, nn.BatchNorm2d):
        made: nn.Module = nn.BatchNorm2d(
            sizes["num_features"], module.eps, module.momentum, module.affine, module.track_running_stats
        )
    elif isinstance(module, nn.Linear):
        made = nn.Linear(sizes["in_features"], sizes["out_features"], module.bias is not None)
    else:
        assert isinstance(module, nn.Conv2d)
        made = type(module)(
            sizes["in_channels"],
            sizes["out_channels"],
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            sizes["groups"],
            module.bias is not None,
        )
    return made.train(module.training)


def _sizes(module: nn.Module) -> dict[str, int]:
    return {name: int(getattr(module, name)) for name in _SIZES[type(module)]}


def _factored_sizes(module: Factored) -> dict[str, int]:
    first, second = _sizes(module.first), _sizes(module.second)
    inputs, outputs = _SIZES[type(module.first)][:2]
    return {**first, inputs: first[inputs], outputs: second[outputs]}
