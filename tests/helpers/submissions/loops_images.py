"""In loops of numpy: convolutions and poolings."""

import numpy as np

from helpers.submissions.loops_dense import submission
from helpers.submissions.submission import normal


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


def conv(m):
    def conv_backward(dout, cache):
        x, w, stride, pad = cache
        hh, ww = w.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        dx, dw = np.zeros_like(padded), np.zeros_like(w)
        step = 1 if m == "stride" else stride
        high, wide = dout.shape[2:]
        wide = min(high, wide) if m == "loop" else wide
        flipped = w[:, :, ::-1, ::-1] if m == "flip" else w
        for n, k, i, j in np.ndindex(*dout.shape[:2], high, wide):
            where = (slice(i * step, i * step + hh), slice(j * step, j * step + ww))
            window = (n, slice(None), *where)
            if m == "overlap":
                dx[window] = dout[n, k, i, j] * w[k]
            else:
                dx[window] += dout[n, k, i, j] * flipped[k]
            dw[k] += dout[n, k, i, j] * padded[window]
        if m == "slice":
            dx = dx[:, :, pad:-pad, pad:-pad]
        elif m == "cut":
            dx = dx[:, :, 1:-1, 1:-1]
        elif m == "corner":
            dx = dx[:, :, : x.shape[2], : x.shape[3]]
        elif m != "kept":
            dx = dx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]
        return dx, dw, dout.sum((0, 2)) if m == "axes" else dout.sum((0, 2, 3))

    return conv_backward


def of_conv(m, what, says, stride=1, pad=1, image=(6, 5), kernel=(3, 2)):
    arrays = (normal(2, 2, *image), normal(3, 2, *kernel, seed=1), normal(3, seed=2))
    options = {"stride": stride, "pad": pad}
    return submission("convolution", what, conv_forward, conv(m), arrays, says, **options)


def pool_forward(x, high, wide, stride):
    rows, columns = 1 + (x.shape[2] - high) // stride, 1 + (x.shape[3] - wide) // stride
    out = np.zeros((*x.shape[:2], rows, columns))
    for n, c, i, j in np.ndindex(*out.shape):
        out[n, c, i, j] = x[
            n, c, i * stride : i * stride + high, j * stride : j * stride + wide
        ].max()
    return out, (x, high, wide, stride)


def pool(m):
    def pool_backward(dout, cache):
        x, high, wide, stride = cache
        dx = np.zeros_like(x)
        if m == "window":
            high, wide = stride, stride
        for n, c, i, j in np.ndindex(*dout.shape):
            rows = slice(i * stride, i * stride + high)
            columns = slice(j * stride, j * stride + wide)
            window = x[n, c, rows, columns]
            r, k = np.unravel_index(window.argmax(), window.shape)
            g = dout[n, c, i, j]
            if m == "exchanged":
                r, k = k, r
            r, k = min(r + rows.start, x.shape[2] - 1), min(k + columns.start, x.shape[3] - 1)
            if m == "overlap":
                dx[n, c, r, k] = g
            elif m == "everywhere":
                dx[n, c, rows, columns] += g
            elif m == "evenly":
                dx[n, c, rows, columns] += g / window.size
            elif m == "smallest":
                dx[n, c, rows, columns] += (window == window.min()) * g
            else:
                dx[n, c, r, k] += g
        return dx

    return pool_backward


def of_pool(m, what, says, image=(7, 6), window=(3, 2), stride=2):
    options = {"high": window[0], "wide": window[1], "stride": stride}
    made = pool_forward, pool(m), (normal(2, 2, *image),)
    return submission("max pooling", what, *made, says, **options)


def average_forward(x, size, stride):
    rows, columns = (1 + (n - size) // stride for n in x.shape[2:])
    out = np.zeros((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        window = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
        out[:, :, i, j] = window.mean((2, 3))
    return out, (x.shape, size, stride)


def average(m):
    def average_backward(dout, cache):
        shape, size, stride = cache
        dx = np.zeros(shape)
        for i, j in np.ndindex(*dout.shape[2:]):
            g = dout[:, :, i : i + 1, j : j + 1] / (1 if m == "sum" else size * size)
            window = (
                ...,
                slice(i * stride, i * stride + size),
                slice(j * stride, j * stride + size),
            )
            dx[window] = g if m == "overlap" else dx[window] + g
        return dx

    return average_backward


def of_average(m, what, says, image=(5, 6), size=2, stride=1):
    made = average_forward, average(m), (normal(2, 2, *image),)
    return submission("average pooling", what, *made, says, size=size, stride=stride)


WRONG = [
    of_conv("slice", "pad:-pad at padding 0", "is empty", pad=0),
    of_conv("cut", "1:-1 at padding 0", r"has shape \(2, 2, 4, 3\), expected", pad=0),
    of_conv("corner", "the padding cut off the end",
        r"is wrong in 120 of 120 places, .* \(line \d+\)", pad=1),
    of_conv("kept", "the padding kept", "is the gradient of padded: shape"),
    of_conv("overlap", "windows overwritten", "dx, the gradient of padded, is not right"),
    of_conv("flip", "kernel flipped", "flip"),
    of_conv("loop", "height for width in the loop", r"is wrong in 36 of 36 places, .* \(line \d+\)",
        1, 0, (5, 7)),
    of_conv("axes", "db not summed over the columns", "not summed over"),
    of_pool("overlap", "shared maxima overwritten", "keeps one part where those of several",
        stride=1),
    of_pool("everywhere", "sent everywhere", r"is wrong in 140 of 168 places, .* \(line \d+\)"),
    of_pool("smallest", "the smallest", r"wrong in 63 of 168 places.* \(line \d+\)$"),
    of_pool("exchanged", "row and column exchanged", "has the right values in the wrong places:",
        (6, 6), (2, 2)),
    of_average("overlap", "windows overwritten", "keeps one part where those of several"),
    of_average("sum", "not divided by the window", "too large"),
]  # fmt: skip
RIGHT = [
    of_conv("", "padding 1", ""),
    of_conv("", "padding 0", "", pad=0),
    of_conv("", "stride 2", "", 2, 0, (7, 6)),
    of_conv("", "stride 2, padding 2", "", 2, 2),
    of_conv("", "kernel of 1", "", 1, 0, kernel=(1, 1)),
    of_conv("", "kernel of the image", "", 1, 0, kernel=(6, 5)),
    of_pool("", "windows side by side", "", (6, 4), (2, 2)),
    of_pool("", "overlapping windows", "", stride=1),
    of_pool("", "gaps between windows", "", window=(2, 2), stride=3),
    of_pool("", "oblong windows", ""),
    of_pool("evenly", "windows of one", "", window=(1, 1), stride=1),
    of_conv("", "stride 3", "", 3, 1, (8, 6)),
    of_conv("", "a square kernel", "", kernel=(3, 3)),
    of_pool("", "the whole image", "", (4, 3), (4, 3), 1),
    of_average("", "overlapping windows", ""),
    of_average("", "windows side by side", "", (4, 6), 2, 2),
]
