"""Keys, modules of torch and estimators that would give a wrong result in silence."""

import numpy as np
from helpers.given import X, misuses
from torch import nn
from torch.nn.utils import prune

from lincoln_fn import estimators
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
    made = estimators.NetClassifier(net, loss, epochs=1, random_state=0, **options).fit(XN, y)
    return made.predict_proba(XN)


test_a_wrong_result_in_silence_is_refused = misuses("""
Key(0.5) -> TypeError: ^Key ... int ... 0.5
Key(True) -> TypeError: ^Key ... int ... True
Key(torch.tensor([1, 2])) -> ^Key ... shape () ... [2]
KEY.fold_in(2 ** 70) -> ^Key.fold_in ... 64 bits ... 1180591620717411303424
KEY.fold_in(1.5) -> ^Key.fold_in ... int ... 1.5
KEY.fold_in(torch.tensor(1.0)) -> ^Key.fold_in ... float32
KEY.split(2.5) -> ^Key.split ... 2.5
KEY.near('cpu') -> ^Key.near ... x to be a tensor ... str
keys.normal(0, (2,)) -> ^keys ... lf.Key(0)
keys.uniform(KEY, 2) -> shape ... (2,)
keys.permutation(5, KEY) -> ^keys ... lf.Key(5)
keys.bernoulli(KEY, (2,), 2.0) -> ValueError: ^bernoulli ... 2.0
hooked('register_forward_hook', lambda module, args, y: 2 * y) -> ^from_torch ... Sequential ...
    hook
child_hooked() -> ^from_torch ... 0 Linear ... hook
hooked('register_forward_pre_hook', lambda module, args: (2 * args[0],)) -> ^from_torch ... hook
patched('whole') -> ^from_torch ... forward
from_torch(Called(nn.Linear(3, 3))) -> ^from_torch ... Called
from_torch(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))) -> ^from_torch
pruned() -> ^from_torch
from_torch(nn.Dropout(0.5), key=0) -> ^from_torch ... key ... lf.Key(0)
classifier(losses.cross_entropy(), dense) -> ^cross_entropy ... [0, 1]
classifier(losses.log_loss(), dense) -> ^log_loss ... [0, 1]
classifier(losses.multi_margin(), dense) -> AttributeError: predict_proba
classifier(None, relu) -> ^NetClassifier ... net ... the constructor relu
classifier(None, nn.Linear(3, 2)) -> ^NetClassifier ... net ... Linear ... from_torch
classifier('nll', dense) -> ^NetClassifier ... loss ... 'nll'
classifier(None, dense, optimizer=optim.sgd) -> ^NetClassifier ... optimizer ... sgd()
classifier(None, [dense(2)]) -> ^NetClassifier ... net ... list ... serial
estimators.NetRegressor(None, losses.nll(), epochs=1).fit(XN, XN[:, 0]) -> ^nll
estimators.NetRegressor(lambda n: n, epochs=1).fit(XN, XN[:, 0]) -> ^NetRegressor ... net ... 1
""")
