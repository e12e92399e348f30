"""Layers of several networks of one architecture, stacked so that one call computes all of them.

Small pictures cost more in calls than in arithmetic. Here K is how many networks there are, B how many pictures;
cells are (B, H, W, K, C), so that the channels of all networks lie beside each other, or (K, B, H, W, C).
Norms and scales that a finished network no longer changes are parts of the weights. For estimating only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers import LayerNorm, LayerNorm2d, Mlp
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional


def alike(modules: Sequence[nn.Module]) -> bool:
    """Whether modules of one build hold the same tensors, bit for bit."""
    first, *others = (module.state_dict() for module in modules)
    return all(all(torch.equal(first[name], other[name]) for name in first) for other in others)


class Product:
    """A linear layer a network: (K, N, in) → (K, N, out); inputs (1, N, in) are what all networks are given."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        self.weight = torch.stack([weight.detach() for weight in weights]).transpose(1, 2).contiguous()
        self.bias = torch.stack([bias.detach() for bias in biases])[:, None]

    def __call__(self, given: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, given.expand(len(self.weight), -1, -1), self.weight)


def product_of(layers: Sequence[nn.Linear]) -> Product:
    """A linear layer of each network, stacked; one without a bias has a bias of zeros."""
    weights = [layer.weight for layer in layers]
    biases = [
        weight.new_zeros(len(weight)) if one.bias is None else one.bias
        for one, weight in zip(layers, weights, strict=True)
    ]
    return Product(weights, biases)


def perceptron_of(modules: Sequence[nn.Module]) -> list[Callable[[Tensor], Tensor]]:
    """A linear layer, or a sequence of such and activations, of each network: the steps one after the other."""
    steps = zip(*(one if isinstance(one, nn.Sequential) else [one] for one in modules), strict=True)
    return [product_of(layers) if isinstance(layers[0], nn.Linear) else layers[0] for layers in steps]


def normed_product_of(norms: Sequence[Any], layers: Sequence[Any]) -> Product:
    """A norm and the 1 x 1 convolution or linear layer after it, for inputs that are normalised already."""
    weights = [layer.weight.flatten(1) for layer in layers]
    return Product(
        [weight * norm.weight for weight, norm in zip(weights, norms, strict=True)],
        [layer.bias + weight @ norm.bias for layer, weight, norm in zip(layers, weights, norms, strict=True)],
    )


def rows_of(cells: Tensor) -> Tensor:
    """(B, H, W, K, C) → (K, B * H * W, C), a view."""
    return cells.flatten(0, 2).transpose(0, 1)


class Block:
    """A ConvNeXt block (Liu 2022) a network: one depthwise convolution and two products."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        first = blocks[0]
        self.eps, self.padding = first.norm.eps, first.conv_dw.padding
        self.act = torch.relu_ if isinstance(first.mlp.act, nn.ReLU) else first.mlp.act
        depthwise = torch.cat([block.conv_dw.weight.detach() for block in blocks])
        self.depthwise = depthwise.contiguous(memory_format=torch.channels_last)
        self.depthwise_bias = torch.cat([block.conv_dw.bias.detach() for block in blocks])
        self.widen = normed_product_of([block.norm for block in blocks], [block.mlp.fc1 for block in blocks])
        outer = [block.mlp.fc2 for block in blocks]
        scales = [
            torch.ones_like(block.norm.weight) if block.gamma is None else block.gamma for block in blocks
        ]
        self.narrow = Product(
            [layer.weight.flatten(1) * scale[:, None] for layer, scale in zip(outer, scales, strict=True)],
            [layer.bias * scale for layer, scale in zip(outer, scales, strict=True)],
        )

    def __call__(self, cells: Tensor) -> Tensor:
        """(B, H, W, K, C) → the same."""
        rows, cols, networks, channels = cells.shape[1:]
        seen = functional.conv2d(
            cells.flatten(3).permute(0, 3, 1, 2),
            self.depthwise,
            self.depthwise_bias,
            padding=self.padding,
            groups=networks * channels,
        )
        level = functional.layer_norm(
            seen.permute(0, 2, 3, 1).reshape(cells.shape), (channels,), eps=self.eps
        )
        change = self.narrow(self.act(self.widen(rows_of(level))))
        return cells + change.view(networks, -1, rows, cols, channels).permute(1, 2, 3, 0, 4)


class Reduction:
    """What halves the maps between stages, a network: norm and a 2 x 2 convolution of stride 2, as one product."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.eps = layers[0][0].eps
        weights = [conv.weight * norm.weight[:, None, None] for norm, conv in layers]
        biases = [conv.bias + torch.einsum("oihw,i->o", conv.weight, norm.bias) for norm, conv in layers]
        self.product = Product([weight.permute(0, 2, 3, 1).flatten(1) for weight in weights], biases)

    def __call__(self, cells: Tensor) -> Tensor:
        """(B, H, W, K or 1, C) → (B, H / 2, W / 2, K, C')."""
        batch, rows, cols, _, channels = cells.shape
        rows, cols = rows // 2, cols // 2
        level = functional.layer_norm(cells, (channels,), eps=self.eps)[:, : 2 * rows, : 2 * cols]
        squares = level.unflatten(2, (cols, 2)).unflatten(1, (rows, 2)).permute(5, 0, 1, 3, 2, 4, 6)
        reduced = self.product(squares.reshape(len(squares), -1, 4 * channels))
        return reduced.view(-1, batch, rows, cols, reduced.shape[-1]).permute(1, 2, 3, 0, 4).contiguous()


def can_stack_block(module: nn.Module) -> bool:
    """Whether `Block` does all that this module does."""
    return (
        type(module) is ConvNeXtBlock
        and type(module.conv_dw) is nn.Conv2d
        and isinstance(module.norm, LayerNorm | LayerNorm2d)
        and type(module.mlp) is Mlp
        and isinstance(module.mlp.norm, nn.Identity)
        and isinstance(module.shortcut, nn.Identity)
        and not any(part is None for part in (module.norm.bias, module.conv_dw.bias, module.mlp.fc1.bias))
    )


def can_stack_reduction(module: nn.Module) -> bool:
    """Whether `Reduction` does all that this module does."""
    if not isinstance(module, nn.Sequential) or len(module) != 2:
        return False
    norm, conv = module
    return (
        isinstance(norm, LayerNorm2d)
        and type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((2, 2), (2, 2), (0, 0), 1)
        and conv.bias is not None
    )
