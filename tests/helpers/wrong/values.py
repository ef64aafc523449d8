"""Keys, modules of torch and estimators that would give a wrong result in silence."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import lincoln_fn as lf
from helpers.wrong.given import KEY, X
from lincoln_fn.estimators import NetClassifier, NetRegressor
from lincoln_fn.interop import from_torch

TWO = np.array([0, 1, 0, 1, 0, 1])
XN = X.numpy()


def hooked(register, *arguments):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    getattr(module, register)(*arguments)
    return from_torch(module)


def child_hooked():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    module[0].register_forward_hook(lambda module, args, y: 2 * y)
    return from_torch(module)


def patched(of="child"):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    target = module[0] if of == "child" else module
    target.forward = lambda x: 2 * x
    return from_torch(module)


class Called(nn.Sequential):
    def __call__(self, x):
        return 2 * super().__call__(x)


def pruned():
    module = nn.Linear(3, 4)
    prune.l1_unstructured(module, "weight", amount=0.5)
    return from_torch(module)


def classifier(loss, net, y=TWO, **options):
    made = NetClassifier(net, loss, epochs=1, random_state=0, **options).fit(XN, y)
    return made.predict_proba(XN)


ROWS = {
    "Key: a float": (lambda: lf.Key(0.5), TypeError, "Key", "int", "0.5"),
    "Key: a bool": (lambda: lf.Key(True), TypeError, "Key", "int", "True"),
    "Key: a word": (lambda: lf.Key("seed"), TypeError, "Key", "int", "'seed'"),
    "Key: a key": (lambda: lf.Key(KEY), TypeError, "Key", "int"),
    "Key: several seeds": (lambda: lf.Key(torch.tensor([1, 2])), "Key", "shape ()", "[2]"),
    "Key.fold_in: too large": (lambda: KEY.fold_in(2**70), "Key.fold_in", "64 bits", str(2**70)),
    "Key.fold_in: a float": (lambda: KEY.fold_in(1.5), "Key.fold_in", "int", "1.5"),
    "Key.fold_in: a float tensor": (lambda: KEY.fold_in(torch.tensor(1.0)), "Key.fold_in",
        "float32"),
    "Key.fold_in: a word": (lambda: KEY.fold_in("epoch"), "Key.fold_in", "'epoch'"),
    "Key.fold_in: a bool": (lambda: KEY.fold_in(True), "Key.fold_in", "True"),
    "Key.fold_in: several": (lambda: KEY.fold_in(torch.tensor([1, 2])), "Key.fold_in", "shape ()"),
    "Key.split: a float": (lambda: KEY.split(2.5), "Key.split", "2.5"),
    "Key.near: a device": (lambda: KEY.near("cpu"), "Key.near", "x to be a tensor", "str"),
    "keys.normal: an int for a key": (lambda: lf.keys.normal(0, (2,)), "keys", "key", "lf.Key(0)"),
    "keys.uniform: an int for a shape": (lambda: lf.keys.uniform(KEY, 2), "shape", "(2,)"),
    "keys.permutation: swapped": (lambda: lf.keys.permutation(5, KEY), "keys", "key", "lf.Key(5)"),
    "keys.bernoulli: a tensor for p": (lambda: lf.keys.bernoulli(KEY, (2,), 2.0), ValueError,
        "bernoulli", "2.0"),
    "from_torch: a forward hook": (
        lambda: hooked("register_forward_hook", lambda module, args, y: 2 * y), "from_torch",
        "hook", "Sequential"),
    "from_torch: a forward hook of a child": (child_hooked, "from_torch", "hook", "0 Linear"),
    "from_torch: a forward pre-hook": (
        lambda: hooked("register_forward_pre_hook", lambda module, args: (2 * args[0],)),
        "from_torch", "hook"),
    "from_torch: a backward hook": (
        lambda: hooked("register_full_backward_hook", lambda module, dx, g: dx), "from_torch",
        "hook"),
    "from_torch: a backward pre-hook": (
        lambda: hooked("register_full_backward_pre_hook", lambda module, g: g), "from_torch",
        "hook"),
    "from_torch: a patched forward": (lambda: patched("whole"), "from_torch", "forward"),
    "from_torch: a child's patched forward": (patched, "from_torch", "0 Linear", "forward"),
    "from_torch: a Sequential with its own call": (lambda: from_torch(Called(nn.Linear(3, 3))),
        "from_torch", "Called"),
    "from_torch: spectral norm": (
        lambda: from_torch(parametrizations.spectral_norm(nn.Linear(3, 4))), "from_torch"),
    "from_torch: pruned": (pruned, "from_torch"),
    "from_torch: an int for a key": (lambda: from_torch(nn.Dropout(0.5), key=0), "from_torch",
        "key", "lf.Key(0)"),
    "NetClassifier: logits in cross_entropy": (
        lambda: classifier(lf.losses.cross_entropy(), lf.dense), "cross_entropy", "[0, 1]"),
    "NetClassifier: logits in nll": (lambda: classifier(lf.losses.nll(), lf.dense), "nll",
        "log-probabilities"),
    "NetClassifier: logits in log_loss": (lambda: classifier(lf.losses.log_loss(), lf.dense),
        "log_loss", "[0, 1]"),
    "NetClassifier: logits in log_sigmoid_loss": (
        lambda: classifier(lf.losses.log_sigmoid_loss(), lf.dense), "log_sigmoid_loss"),
    "NetClassifier: a loss without probabilities": (
        lambda: classifier(lf.losses.multi_margin(), lf.dense), AttributeError, "predict_proba"),
    "NetClassifier: a net without brackets": (lambda: classifier(None, lf.relu), "NetClassifier",
        "net", "the constructor relu"),
    "NetClassifier: a class": (lambda: classifier(None, nn.Linear), "NetClassifier", "net",
        "the class Linear", "from_torch"),
    "NetClassifier: a torch module": (lambda: classifier(None, nn.Linear(3, 2)), "NetClassifier",
        "net", "Linear", "from_torch"),
    "NetClassifier: a loss without brackets": (lambda: classifier(lf.losses.nll, lf.dense),
        "NetClassifier", "loss", "nll()"),
    "NetClassifier: a loss by name": (lambda: classifier("nll", lf.dense), "NetClassifier", "loss",
        "'nll'"),
    "NetClassifier: an optimizer without brackets": (
        lambda: classifier(None, lf.dense, optimizer=lf.optim.sgd), "NetClassifier", "optimizer",
        "sgd()"),
    "NetClassifier: a list of layers": (lambda: classifier(None, [lf.dense(2)]), "NetClassifier",
        "net", "list", "serial"),
    "NetClassifier: mse on labels": (lambda: classifier(lf.losses.mse(), lf.dense), "mse"),
    "NetRegressor: a loss on classes": (
        lambda: NetRegressor(None, lf.losses.nll(), epochs=1).fit(XN, XN[:, 0]), "nll"),
    "NetRegressor: a net's function that gives no layer": (
        lambda: NetRegressor(lambda n: n, epochs=1).fit(XN, XN[:, 0]), "NetRegressor", "net", "1"),
}  # fmt: skip
