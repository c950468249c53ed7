"""Training on a CPU writes nowhere but where it may, whatever the networks' widths and the processor's vectors."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from support.processes import python, run
from torch import nn

from audiorep import models
from audiorep.models.layers import SubsampledConv2d, convolution, safe_on_cpu
from audiorep.reparam import fuse

CHECKING = "libc_malloc_debug.so.0"
"""The allocator of glibc 2.34 and newer that looks at a block's borders when it is freed."""
NARROW = {
    "arin_pico": {"depths": [1, 1, 1, 1]},
    "arin_nano": {"width": 3, "depths": [1, 1], "strides": [2, 3], "stem_kernel": [1, 1], "squeeze_excitation": 4},
    "resnet50": {"width": 1, "depths": [1, 1, 1]},
    "slowfast": {
        "width": 2,
        "fast_width": 1,
        "frame_ratio": 4,
        "depths": [1, 1],
        "slow_kernels": [1, 3],
        "fast_kernels": [3, 3],
    },
    "mobilenetv3": {"multiplier": 0.2},
    "yamnet": {"stem_width": 3, "widths": [6, 8], "strides": [1, 2]},
    "inceptionnext_tiny": {"widths": [8, 12], "depths": [1, 1], "expansions": [2, 2]},
    "replknet_31t": {"widths": [4, 8], "depths": [1, 1], "kernels": [5, 3]},
}
"""An architecture of each kind with convolutions, as narrow as it goes."""
BY_DEFAULT = ["arin_nano", "resnet50", "slowfast"]
"""Those with the fewest channels before a strided convolution; that no other has an unsafe one is seen in its layers."""
STEPS = """
import json, sys, torch
from audiorep import models
from audiorep.models.layers import channels_last
for name, settings in json.loads(sys.argv[1]).items():
    network = channels_last(models.build(name, {"label": 3}, settings))
    for batch, frames, mels in ((2, 512, 128), (3, 417, 129)):
        sound = torch.randn(batch, 1, frames, mels).contiguous(memory_format=torch.channels_last).requires_grad_()
        for training in (True, False):
            network.train(training)(sound)["label"].square().mean().backward()
    print(name)
"""


def checked(threads: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a process of its own that ends where a block was written beyond its borders."""
    environment = {**os.environ, "LD_PRELOAD": CHECKING, "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": threads}
    done = run(python(code, *arguments), env=environment)
    if "cannot be preloaded" in done.stderr:
        pytest.skip(f"this machine has no {CHECKING}")
    return done


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the checking allocator is glibc's")
def test_the_checking_allocator_sees_a_write_beyond_a_block():
    code = "import ctypes; c = ctypes.pythonapi; c.PyMem_RawMalloc.restype = ctypes.c_void_p; block = c.PyMem_RawMalloc(64)\n"
    done = checked("1", code + "ctypes.memset(block, 1, 64 + 16); c.PyMem_RawFree(ctypes.c_void_p(block))")
    assert done.returncode < 0, done


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the checking allocator is glibc's")
@pytest.mark.parametrize(
    ("threads", "names"), [("2", BY_DEFAULT), *(pytest.param(n, list(NARROW), marks=pytest.mark.full) for n in "12")]
)
def test_no_narrow_network_writes_beyond_a_block_when_it_trains(threads, names):
    done = checked(threads, STEPS, json.dumps({name: NARROW[name] for name in names}))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == names


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_no_network_has_a_strided_pointwise_convolution_that_is_unsafe(name):
    with torch.device("meta"):
        assert unsafe(models.build(name, {"label": 3}, NARROW[name])) == []
        assert unsafe(models.build(name, {"label": 3})) == []


def unsafe(network: nn.Module) -> list[str]:
    """Convolutions whose kernel is one long along a strided axis and that are no `SubsampledConv2d`."""
    return [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
        and any(k == 1 and s > 1 for k, s in zip(module.kernel_size, module.stride, strict=True))
        and not isinstance(module, SubsampledConv2d)
    ]


@pytest.mark.parametrize(
    ("inputs", "kernel", "stride", "groups"),
    [
        (1, (1, 1), 2, 1),
        (8, (1, 1), 2, 1),
        (15, (1, 1), (1, 2), 3),
        (24, (1, 1), (4, 1), 1),
        (1, (1, 7), (8, 2), 1),
        (6, (5, 1), (2, 3), 6),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (8, 7), (13, 16)])
def test_taking_every_second_frame_first_gives_the_same_values_and_gradients(inputs, kernel, stride, groups, size):
    torch.manual_seed(0)
    safe = convolution(inputs, 6, kernel, stride, groups, bias=True).double()
    assert isinstance(safe, SubsampledConv2d)
    plain = nn.Conv2d(inputs, 6, kernel, stride, safe.padding, groups=groups).double()  # the default layout, which is sound
    plain.load_state_dict(safe.state_dict())
    found, expected = (torch.randn(2, inputs, *size, dtype=torch.float64).requires_grad_() for _ in range(2))
    expected.data.copy_(found.data)
    weights = torch.randn(plain(expected).shape, dtype=torch.float64)
    for module, x in ((safe, found), (plain, expected)):
        (module(x) * weights).sum().backward()
    torch.testing.assert_close(safe(found), plain(expected), rtol=1e-12, atol=1e-12)
    for a, b in ((found.grad, expected.grad), (safe.weight.grad, plain.weight.grad), (safe.bias.grad, plain.bias.grad)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(safe(found), plain(expected), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def fused() -> nn.Module:
    """A merged network of four stages."""
    return fuse(models.build("arin_pico", {"label": 3}, NARROW["arin_pico"]).eval(), torch.randn(2, 1, 64, 32)).model


@pytest.mark.slow
def test_without_gradients_the_operator_is_the_strided_convolution_that_exports_and_merges(fused):
    strides = [module.stride for module in fused.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    assert strides.count((2, 2)) == 6  # reduce and shortcut of three stages


@pytest.mark.slow
def test_a_merged_network_is_made_safe_before_it_trains_again(fused):
    assert len(unsafe(fused)) == 6
    x = torch.randn(2, 1, 64, 32)
    safe = safe_on_cpu(copy.deepcopy(fused))
    assert unsafe(safe) == []
    assert list(safe.state_dict()) == list(fused.state_dict())
    torch.testing.assert_close(safe(x), fused(x))
