"""Convolutions: every error says what was expected and what was given."""

import torch
from helpers.refusals import refused

import lincoln_fn as lf
from lincoln_fn.layers import conv

# Errors


test_hyperparameters_that_cannot_be = refused([
    (lambda: lf.conv2d(0, 3), "conv2d: expected out_channels of at least 1, got 0"),
    (lambda: lf.conv2d(4, 3, groups=0), "conv2d: expected groups of at least 1, got 0"),
    (lambda: lf.conv1d(4, 3, groups=3),
        "conv1d: expected out_channels that groups=3 divides, got 4"),
    (lambda: lf.conv2d(4, 0), "conv2d: expected kernel_size of at least 1, got 0"),
    (lambda: lf.conv2d(4, (3,)),
        "conv2d: expected kernel_size as an int or a tuple of 2, got (3,)"),
    (lambda: lf.conv2d(4, 3, (1, 0)), "conv2d: expected stride[1] of at least 1, got 0"),
    (lambda: lf.conv2d(4, 3, padding=-1), "conv2d: expected padding of at least 0, got -1"),
    (lambda: lf.conv2d(4, 3, dilation=0), "conv2d: expected dilation of at least 1, got 0"),
    (lambda: lf.conv2d(4, 3, padding=1.5),
        "conv2d: expected padding to be an int of at least 0, a tuple of ints of at least 0, "
        "'same' or 'valid', got 1.5"),
    (lambda: lf.conv2d(4, 3, padding="full"),
        "conv2d: expected padding to be an int of at least 0, a tuple of ints of at least 0, "
        "'same' or 'valid', got 'full'"),
    (lambda: lf.conv2d(4, 3, (1, 2), "same"),
        "conv2d: expected stride 1 for padding='same', got (1, 2)"),
    (lambda: lf.conv2d(4, 3, padding_mode="mirror"),
        "conv2d: expected padding_mode to be 'zeros', 'reflect', 'replicate' or 'circular', "
        "got 'mirror'"),
    (lambda: lf.conv_transpose2d(4, 3, 2, 0, (1, 2)),
        "conv_transpose2d: expected output_padding below stride or dilation, got (1, 2)"),
    (lambda: lf.conv_transpose1d(4, 3, stride=0),
        "conv_transpose1d: expected stride of at least 1, got 0"),
    (lambda: lf.conv_transpose1d(4, 3, dilation=0),
        "conv_transpose1d: expected dilation of at least 1, got 0"),
    (lambda: lf.conv_transpose1d(4, 3, padding=-1),
        "conv_transpose1d: expected padding of at least 0, got -1"),
    (lambda: lf.conv_transpose1d(4, 3, output_padding=-1),
        "conv_transpose1d: expected output_padding of at least 0, got -1"),
])  # fmt: skip


def wrong_input(layer, shape, *, like=(2, 4, 5, 7)):
    params = layer.init(lf.Key(0), torch.zeros(like))
    return lambda: layer.forward(params, torch.zeros(shape))


test_inputs_that_do_not_fit = refused([
    (wrong_input(lf.conv2d(6, 3), (2, 3, 5, 7)),
        "conv2d: expected x of shape (4, h, w) or (batch, 4, h, w), got (2, 3, 5, 7)"),
    (wrong_input(lf.conv2d(6, 3, groups=2), (2, 2, 5, 7)),
        "conv2d: expected x of shape (4, h, w) or (batch, 4, h, w), got (2, 2, 5, 7)"),
    (wrong_input(lf.conv1d(6, 3), (1, 1, 4, 5), like=(2, 4, 5)),
        "conv1d: expected x of shape (4, l) or (batch, 4, l), got (1, 1, 4, 5)"),
    (wrong_input(lf.conv_transpose2d(6, 3, groups=2), (2, 8, 5, 7)),
        "conv_transpose2d: expected x of shape (4, h, w) or (batch, 4, h, w), got (2, 8, 5, 7)"),
    (wrong_input(lf.conv2d(6, (3, 8)), (2, 4, 5, 7)),
        "conv2d: expected at least one position for the kernel, got x of shape "
        "(2, 4, 5, 7) for a kernel of (3, 8)"),
    (wrong_input(lf.conv_transpose2d(6, 1, padding=3), (2, 4, 6, 7)),
        "conv_transpose2d: expected at least one position for the kernel, got x of shape "
        "(2, 4, 6, 7) for a kernel of (1, 1)"),
    (wrong_input(lf.conv2d(6, 3, padding=(5, 0), padding_mode="reflect"), (2, 4, 5, 7)),
        "conv2d: expected padding from 0 to 4 for reflect on an axis of 5, got (5, 5)"),
    (lambda: lf.conv3d(6, 3).init(lf.Key(0), torch.zeros(5, 7)),
        "conv3d: expected x of shape (channels, d, h, w) or (batch, channels, d, h, w), "
        "got (5, 7)"),
    (lambda: lf.conv2d(6, 3, groups=3).init(lf.Key(0), torch.zeros(2, 4, 5, 7)),
        "conv2d: expected channels that groups=3 divides, got 4"),
    (lambda: lf.conv_transpose2d(6, 3, groups=3).init(lf.Key(0), torch.zeros(2, 4, 5, 7)),
        "conv_transpose2d: expected channels that groups=3 divides, got 4"),
    (lambda: lf.conv_transpose2d(6, 3).init(0, torch.zeros(2, 4, 5, 7)),
        "conv_transpose2d: expected key to be a Key, got 0; write lf.Key(0)"),
    (lambda: lf.conv2d(6, 3).init(lf.Key(0), torch.zeros(2, 4, 5, 7, dtype=torch.int64)),
        "conv2d: expected x of a floating dtype, got torch.int64; convert it first, say by "
        "x.float()"),
    (lambda: lf.conv2d(6, 3).forward((), torch.zeros(2, 4, 5, 7)),
        "conv: expected params conv.Params, got ()"),
    (lambda: lf.conv_transpose2d(6, 3).forward((), torch.zeros(2, 4, 5, 7)),
        "conv_transpose: expected params conv_transpose.Params, got ()"),
    (lambda: conv.forward(conv.Params(torch.zeros(6, 4), None), torch.zeros(2, 4)),
        "conv: expected a weight with one to three spatial axes, got (6, 4)"),
    (lambda: conv.forward(conv.Params(None, None), torch.zeros(2, 4)),
        "conv: expected a weight with one to three spatial axes, got NoneType"),
])  # fmt: skip
