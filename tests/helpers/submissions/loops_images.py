"""In loops of numpy: convolutions and poolings."""

import numpy as np

from helpers.submissions.submission import Code, normal


def conv_forward(x, w, b, stride, pad):
    f, _, hh, ww = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = 1 + (x.shape[2] + 2 * pad - hh) // stride
    columns = 1 + (x.shape[3] + 2 * pad - ww) // stride
    out = np.zeros((len(x), f, rows, columns))
    for n, k, i, j in np.ndindex(*out.shape):
        window = padded[n, :, i * stride : i * stride + hh, j * stride : j * stride + ww]
        out[n, k, i, j] = np.sum(window * w[k]) + b[k]
    return out, (x, w, stride, pad)


def conv_backward(dout, cache):
    x, w, stride, pad = cache
    hh, ww = w.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for n, k, i, j in np.ndindex(*dout.shape):
        rows, columns = slice(i * stride, i * stride + hh), slice(j * stride, j * stride + ww)
        dx[n, :, rows, columns] += dout[n, k, i, j] * w[k]
        dw[k] += dout[n, k, i, j] * padded[n, :, rows, columns]
    dx = dx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]
    return dx, dw, dout.sum((0, 2, 3))


INNER = "pad : pad + x.shape[2], pad : pad + x.shape[3]"


def conv(stride=1, pad=1, image=(6, 5), kernel=(3, 2)):
    arrays = (normal(2, 2, *image), normal(3, 2, *kernel, seed=1), normal(3, seed=2))
    options = {"stride": stride, "pad": pad}
    return Code("convolution", conv_forward, conv_backward, arrays, options)


def of_conv(what, says="", changes=None, **sizes):
    return conv(**sizes).submission(what, says, changes)


def pool_forward(x, high, wide, stride):
    rows, columns = 1 + (x.shape[2] - high) // stride, 1 + (x.shape[3] - wide) // stride
    out = np.zeros((*x.shape[:2], rows, columns))
    for n, c, i, j in np.ndindex(*out.shape):
        out[n, c, i, j] = x[
            n, c, i * stride : i * stride + high, j * stride : j * stride + wide
        ].max()
    return out, (x, high, wide, stride)


def pool_backward(dout, cache):
    x, high, wide, stride = cache
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        rows, columns = slice(i * stride, i * stride + high), slice(j * stride, j * stride + wide)
        window = x[n, c, rows, columns]
        r, k = np.unravel_index(window.argmax(), window.shape)
        dx[n, c, rows.start + r, columns.start + k] += dout[n, c, i, j]
    return dx


EVERYWHERE = {"rows.start + r, columns.start + k": "rows, columns"}


def of_pool(what, says="", changes=None, image=(7, 6), window=(3, 2), stride=2):
    options = {"high": window[0], "wide": window[1], "stride": stride}
    code = Code("max pooling", pool_forward, pool_backward, (normal(2, 2, *image),), options)
    return code.submission(what, says, changes)


def average_forward(x, size, stride):
    rows, columns = (1 + (n - size) // stride for n in x.shape[2:])
    out = np.zeros((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        window = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
        out[:, :, i, j] = window.mean((2, 3))
    return out, (x.shape, size, stride)


def average_backward(dout, cache):
    shape, size, stride = cache
    dx = np.zeros(shape)
    for i, j in np.ndindex(*dout.shape[2:]):
        rows, columns = (slice(at * stride, at * stride + size) for at in (i, j))
        dx[:, :, rows, columns] += dout[:, :, i : i + 1, j : j + 1] / (size * size)
    return dx


AVERAGE = Code("average pooling", average_forward, average_backward, (normal(2, 2, 5, 6),),
    {"size": 2, "stride": 1})  # fmt: skip

WRONG = [
    of_conv("pad:-pad at padding 0", "is empty", {INNER: "pad:-pad, pad:-pad"}, pad=0),
    of_conv("1:-1 at padding 0", r"has shape \(2, 2, 4, 3\), expected", {INNER: "1:-1, 1:-1"},
        pad=0),
    of_conv("the padding cut off the end", r"is wrong in 120 of 120 places, .* \(line \d+\)",
        {INNER: ": x.shape[2], : x.shape[3]"}),
    of_conv("the padding kept", "is the gradient of padded: shape", {f"dx[:, :, {INNER}]": "dx"}),
    of_conv("windows overwritten", "dx, the gradient of padded, is not right",
        {"dx[n, :, rows, columns] +=": "dx[n, :, rows, columns] ="}),
    of_conv("kernel flipped", "dx, the gradient of padded, is not right",
        {"* w[k]": "* w[k, :, ::-1, ::-1]"}),
    of_conv("height for width in the loop", r"is wrong in 36 of 36 places, .* \(line \d+\)",
        {"*dout.shape)": "*dout.shape[:3], dout.shape[2])"}, pad=0, image=(5, 7)),
    of_conv("db not summed over the columns", "not summed over", {"(0, 2, 3)": "(0, 2)"}),
    of_pool("shared maxima overwritten", "keeps one part where those of several",
        {"] += ": "] = "}, stride=1),
    of_pool("sent everywhere", r"is wrong in 140 of 168 places, .* \(line \d+\)", EVERYWHERE),
    of_pool("the smallest", r"wrong in 63 of 168 places.* \(line \d+\)$",
        {**EVERYWHERE, "+= dout": "+= (window == window.min()) * dout"}),
    of_pool("row and column exchanged", "has the right values in the wrong places:",
        {"r, k =": "k, r ="}, (6, 6), (2, 2)),
    AVERAGE.submission("windows overwritten", "keeps one part where those of several",
        {"] += ": "] = "}),
    AVERAGE.submission("not divided by the window", "too large", {" / (size * size)": ""}),
]  # fmt: skip
RIGHT = [
    of_conv("padding 0", pad=0),
    of_conv("stride 2, padding 2", stride=2, pad=2),
    of_conv("kernel of 1", pad=0, kernel=(1, 1)),
    of_conv("kernel of the image", pad=0, kernel=(6, 5)),
    of_pool("overlapping windows", stride=1),
    of_pool("gaps between windows", window=(2, 2), stride=3),
    of_pool("windows of one", changes=EVERYWHERE, window=(1, 1), stride=1),
    of_conv("stride 3", stride=3, image=(8, 6)),
    of_pool("the whole image", image=(4, 3), window=(4, 3), stride=1),
    AVERAGE.submission("overlapping windows"),
    AVERAGE.submission("windows side by side", arrays=(normal(2, 2, 4, 6),),
        options={"size": 2, "stride": 2}),
]  # fmt: skip
