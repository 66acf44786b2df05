"""Small networks with what makes exporting hard, and their programs as bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F


class Squeeze(nn.Module):
    """Weighs units by their means, with arithmetic that no module makes."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(units, 4), nn.Linear(4, units)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3)))))).view(
            x.shape[0], -1, 1, 1
        )


class Block(nn.Module):
    """Depthwise and pointwise convolutions around a shortcut; one ReLU is called twice."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(units, units, 3, padding=1, groups=units, bias=False)
        self.norm = nn.BatchNorm2d(units)
        self.point = nn.Conv2d(units, units, 1)
        self.relu = nn.ReLU(inplace=True)
        self.squeeze = Squeeze(units)

    def forward(self, x):
        inner = self.squeeze(self.point(self.relu(self.norm(self.deep(x)))))
        inner += x
        return self.relu(inner)


class Net(nn.Module):
    """Branches, shuffled units, a buffer, a shared convolution, dropout, a head on the means."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.blocks = nn.Sequential(Block(8), nn.MaxPool2d(2), Block(8))
        self.shared = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.register_buffer("gain", torch.rand(8, 1, 1) + 0.5)
        self.act = nn.SiLU()
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = self.blocks(F.leaky_relu(self.stem(x), 0.1))
        x = self.act(self.shared(self.shared(x))) * self.gain
        n, c, h, w = x.shape
        x = torch.cat((x, x.view(n, 2, 4, h, w).transpose(1, 2).reshape(n, c, h, w)), 1)
        return self.head(self.drop(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


def network(classes: int = 5) -> Net:
    """The network with weights and running means that are no defaults."""
    torch.manual_seed(0)
    net = Net(classes)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
    return net.eval()


def exported(
    net: nn.Module,
    shape: Sequence[int] = (3, 32, 32),
    batch: int | None = None,
    change: Callable = lambda program: program,
    any_size: bool = False,
) -> bytes:
    """The program of a network, of any size of batch or of one, or of any size of picture too."""
    x = torch.rand((batch or 2, *shape))
    sizes = None if batch else ({0: torch.export.Dim("batch")},)
    if any_size:
        sides = {2: 4 * torch.export.Dim("rows", min=4), 3: 4 * torch.export.Dim("columns", min=4)}
        sizes = ({0: torch.export.Dim("batch"), **sides},)
    program = torch.export.export(net, (x,), dynamic_shapes=sizes)
    buffer = io.BytesIO()
    torch.export.save(change(program), buffer)
    return buffer.getvalue()


def rewritten(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The same archive with other files in it, stored as torch stores them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_graph(data: bytes, change: Callable[[dict], None]) -> bytes:
    """The same program with another graph."""

    def edit(files: dict[str, bytes]) -> None:
        (name,) = (n for n in files if "/models/" in n)
        tree = json.loads(files[name])
        change(tree)
        files[name] = json.dumps(tree).encode()

    return rewritten(data, edit)


def old_layout(data: bytes, net: nn.Module) -> bytes:
    """The program as PyTorch 2.1 to 2.7 laid it out."""

    def saved(tensors: dict) -> bytes:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        return buffer.getvalue()

    def edit(files: dict[str, bytes]) -> None:
        (graph,) = (content for name, content in files.items() if "/models/" in name)
        files.clear()
        files["serialized_exported_program.json"] = graph
        files["serialized_state_dict.pt"] = saved(dict(net.state_dict()))
        files["serialized_constants.pt"] = saved({})
        files["serialized_example_inputs.pt"] = b"never read"
        files["version"] = b"8.2"

    return rewritten(data, edit)
