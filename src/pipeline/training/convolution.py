"""Convolutions of small feature maps, in bfloat16 on a CPU, as products of matrices.

Late in a network a feature map has few pixels and many channels. There oneDNN spends most of its
time on bringing weights and gradients into the layouts of its kernels, above all for the gradient
of the weights: a layer of 512 channels at 4 × 4 pixels takes four times as long as the plain
product of matrices that it is (measurements: docs/adr/0019). The sums are the same, only their
order differs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PRODUCT_PIXELS = 16
"""Pixels of a result up to which all three passes are products of matrices."""
PRODUCT_GRADIENT_PIXELS = 64
"""Pixels up to which the gradient of the weights is."""
MIN_CHANNELS = 128
"""With fewer, oneDNN's kernels are as fast."""

Pair = tuple[int, int]


def speed_up_convolutions(model: nn.Module) -> None:
    """Let the convolutions of ``model`` use this module's passes where they are faster.

    Only what trains in bfloat16 on a CPU does; elsewhere, and where no gradient is asked for, a
    layer computes as before, to the same bits. Names, weights and types of the layers stay.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = _Conv2d


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.bias is None
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Conv2d(nn.Conv2d):
    padding: Pair  # never a word, see `_is_plain`

    def forward(self, images: Tensor) -> Tensor:
        reduced = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (reduced and torch.is_grad_enabled() and self.in_channels >= MIN_CHANNELS):
            return super().forward(images)
        height, width = (
            (side + 2 * p - k) // s + 1
            for side, p, k, s in zip(
                images.shape[2:], self.padding, self.kernel_size, self.stride, strict=True
            )
        )
        if not 0 < height * width <= PRODUCT_GRADIENT_PIXELS:
            return super().forward(images)
        way = _Product if height * width <= PRODUCT_PIXELS else _ProductGradient
        dtype = torch.get_autocast_dtype("cpu")
        convolved: Tensor = way.apply(
            images.to(dtype), self.weight.to(dtype), self.stride, self.padding
        )
        return convolved


class _Product(torch.autograd.Function):
    """All passes: rows of the matrices are the result's pixels, columns what each is made from."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        patches = _patches(images, weight.shape[2:], stride, padding)  # (N, h, w, kh, kw, C)
        n, height, width = patches.shape[:3]
        columns = patches.reshape(n * height * width, -1)
        rows = weight.permute(0, 2, 3, 1).flatten(1)  # (O, kh * kw * C)
        ctx.save_for_backward(columns, rows)
        ctx.shapes = images.shape, patches.shape, stride, padding
        return (columns @ rows.t()).view(n, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        columns, rows = ctx.saved_tensors
        images, patches, stride, padding = ctx.shapes
        grad = grad.permute(0, 2, 3, 1).reshape(len(columns), -1)
        to_images = to_weight = None
        if ctx.needs_input_grad[0]:
            to_images = _added_up((grad @ rows).view(patches), images, stride, padding)
        if ctx.needs_input_grad[1]:
            to_weight = (grad.t() @ columns).view(-1, *patches[3:]).permute(0, 3, 1, 2)
        return to_images, to_weight, None, None


class _ProductGradient(torch.autograd.Function):
    """Only the gradient of the weights, one product for each place of the kernel."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding
        return functional.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        to_images = to_weight = None
        if ctx.needs_input_grad[0]:
            to_images = torch.ops.aten.convolution_backward(
                *(grad, images, weight, None, stride, padding),
                *((1, 1), False, (0, 0), 1, (True, False, False)),
            )[0]
        if ctx.needs_input_grad[1]:
            patches = _patches(images, weight.shape[2:], stride, padding)
            channels = patches.shape[-1]
            grad = grad.permute(0, 2, 3, 1).reshape(-1, len(weight)).t()
            by_place = weight.new_empty(len(weight), *patches.shape[3:])
            for i in range(patches.shape[3]):
                for j in range(patches.shape[4]):
                    by_place[:, i, j] = grad @ patches[:, :, :, i, j].reshape(-1, channels)
            to_weight = by_place.permute(0, 3, 1, 2)
        return to_images, to_weight, None, None


def _patches(images: Tensor, kernel: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """(N, h, w, kh, kw, C): what each pixel of the result is made from; a view of padded images."""
    down, right = padding
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, right, right, down, down))
    patches = padded.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
    return patches.permute(0, 1, 2, 4, 5, 3)


def _added_up(patches: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """The reverse of `_patches`: (N, C, H, W) sums, in float32, of what each image pixel is in."""
    n, channels, height, width = shape
    (down, right), (_, rows, columns, kh, kw, _) = padding, patches.shape
    dtype = torch.promote_types(patches.dtype, torch.float32)
    total = torch.zeros(n, height + 2 * down, width + 2 * right, channels, dtype=dtype)
    for i in range(kh):
        for j in range(kw):
            bottom, edge = i + stride[0] * (rows - 1) + 1, j + stride[1] * (columns - 1) + 1
            total[:, i : bottom : stride[0], j : edge : stride[1]] += patches[:, :, :, i, j]
    inside = total[:, down : down + height, right : right + width]
    return inside.to(patches.dtype).permute(0, 3, 1, 2)
