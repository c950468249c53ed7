"""The network of the paper's authors in their names, as their checkpoints hold it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

LENGTHS = {"": 21, "_medium": 11, "_small": 3}


def convolution(inputs: int, outputs: int, kernel: tuple[int, int] = (1, 1), stride: int = 1, **settings: object) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, **{"bias": False, **settings})


class TheirBranches(nn.Module):
    """What the paper's section 3.2 says of a block, in the authors' names."""

    def __init__(self, inputs: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.a_head, self.a_head_bn = convolution(inputs, width, stride=stride), nn.BatchNorm2d(width)
        for suffix, k in LENGTHS.items():
            for letter, kernel in (("a", (k, 1)), ("b", (1, k))):
                self.add_module(f"{letter}{suffix}", convolution(width, width, kernel, groups=width))
                self.add_module(f"{letter}_bn{suffix}", nn.BatchNorm2d(width))
        self.c, self.c_bn = convolution(width, expansion * width), nn.BatchNorm2d(expansion * width)
        self.d, self.d_bn = convolution(expansion * width, width), nn.BatchNorm2d(width)

    def mix(self, x: Tensor, letter: str) -> Tensor:
        if hasattr(self, f"{letter}_reparam"):
            return torch.relu(x + self.get_submodule(f"{letter}_reparam")(x))
        branches = [
            self.get_submodule(f"{letter}_bn{suffix}")(self.get_submodule(f"{letter}{suffix}")(x)) for suffix in LENGTHS
        ]
        return torch.relu(x + sum(branches))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a_head_bn(self.a_head(x)))
        x = self.mix(self.mix(x, "a"), "b")
        return self.d_bn(self.d(torch.relu(self.c_bn(self.c(x)))))

    def merge(self) -> None:
        width = self.a_head.out_channels
        for letter, kernel, center in (("a", (21, 1), 2), ("b", (1, 21), 3)):
            weight, bias = torch.zeros(width, 1, *kernel), torch.zeros(width)
            for suffix, k in LENGTHS.items():
                conv, bn = self.get_submodule(f"{letter}{suffix}"), self.get_submodule(f"{letter}_bn{suffix}")
                gain = bn.weight / (bn.running_var + bn.eps).sqrt()
                weight.narrow(center, (21 - k) // 2, k).add_(conv.weight * gain[:, None, None, None])
                bias += bn.bias - gain * bn.running_mean
                delattr(self, f"{letter}{suffix}")
                delattr(self, f"{letter}_bn{suffix}")
            merged = convolution(width, width, kernel, groups=width, bias=True).requires_grad_(False)
            merged.weight.copy_(weight)
            merged.bias.copy_(bias)
            self.add_module(f"{letter}_reparam", merged)


class TheirBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        if inputs != width or stride > 1:
            self.branch1, self.branch1_bn = convolution(inputs, width, stride=stride), nn.BatchNorm2d(width)
        self.branch2 = TheirBranches(inputs, width, stride, expansion)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x
        return torch.relu(shortcut + self.branch2(x))


class TheirNetwork(nn.Module):
    """The whole network in the authors' names; every weight, gain and statistic is drawn, none of them 0 or 1."""

    def __init__(self, classes: tuple[int, ...], width: int = 4, depths: tuple[int, ...] = (1, 2, 1, 1), expansion: int = 4):
        super().__init__()
        self.s1 = nn.Module()
        self.s1.pathway0_stem = nn.Module()
        self.s1.pathway0_stem.conv = convolution(1, width, (5, 7), 2)
        self.s1.pathway0_stem.bn = nn.BatchNorm2d(width)
        inputs = width
        for stage, depth in enumerate(depths):
            blocks, outputs = nn.Module(), width * 2**stage
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.add_module(f"pathway0_res{block}", TheirBlock(inputs, outputs, stride, expansion))
                inputs = outputs
            self.add_module(f"s{stage + 2}", blocks)
        self.head = nn.Module()
        for suffix, count in zip(("",) if len(classes) == 1 else ("_verb", "_noun"), classes, strict=True):
            self.head.add_module(f"projection{suffix}", nn.Linear(inputs, count))
        self.requires_grad_(False).eval()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)  # the default would fade what is heard below the biases
            elif isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.weight, 0.3, 0.9),
                    (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                ):
                    tensor.uniform_(low, high)
                module.num_batches_tracked.fill_(7)

    def forward(self, x: Tensor) -> list[Tensor]:
        stem = self.s1.pathway0_stem
        x = nn.functional.max_pool2d(torch.relu(stem.bn(stem.conv(x))), 3, 2, 1)
        for name, stage in self.named_children():
            if name not in ("s1", "head"):
                for block in stage.children():
                    x = block(x)
        pooled = x.mean((2, 3))
        return [torch.softmax(head(pooled), 1) for head in self.head.children()]

    def merge(self) -> TheirNetwork:
        for module in self.modules():
            if isinstance(module, TheirBranches):
                module.merge()
        return self

    def save(self, path: Path, prefix: str = "", **changes: object) -> Path:
        state = {f"{prefix}{name}": tensor for name, tensor in self.state_dict().items()}
        whole = {"epoch": 49, "model_state": state, "optimizer_state": {"state": {}}, "cfg": "TRAIN:\n  ENABLE: True\n"}
        torch.save({**whole, **changes}, path)
        return path
