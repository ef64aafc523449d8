"""Objects of the wrong kind: swapped, without brackets, or of another library."""

import numpy as np
import torch
from torch import nn

import lincoln_fn as lf
from helpers.wrong.given import (
    ACCURACY,
    KEY,
    NET,
    NLL,
    PARAMS,
    SGD,
    STATE,
    STEP,
    T,
    X,
    fit,
)
from lincoln_fn import LayerError
from lincoln_fn.testing import check_layer, check_loss

RELU = lf.relu()
INIT = "net.init(lf.Key(0), x)"

ROWS = {
    "a call of a network": (
        lambda: NET(X),
        LayerError, "serial: expected no call", "net.predict(params, x)", "net.forward(params, x)",
    ),
    "a call of a layer": (lambda: RELU(X), LayerError, "relu()", "net.predict(params, x)"),
    "a Layer where a function belongs": (
        lambda: lf.Layer("mine()", RELU, RELU),
        LayerError, "mine()", "forward to be a function", "the Layer relu()",
    ),
    "init of a network: no key": (
        lambda: NET.init(X), LayerError, "init: expected a key and x, got no key", INIT,
    ),
    "init of a layer: no key": (lambda: lf.dense(2).init(X), LayerError, "got no key", INIT),
    "init of a layer without params: no key": (
        lambda: RELU.init(x=X), LayerError, "got no key", INIT,
    ),
    "init: no x": (lambda: NET.init(KEY), LayerError, "expected a key and x, got no x", INIT),
    "init: swapped": (
        lambda: NET.init(X, KEY),
        LayerError, "expected key to be a Key", "the order is serial.init(key, x)",
    ),
    "init_state: no key": (
        lambda: lf.init_state(NET, SGD, X),
        LayerError, "init_state", "got no key", "lf.init_state(net, optimizer, lf.Key(0), x)",
    ),
    "init_state: one argument too few": (
        lambda: lf.init_state(NET, SGD, KEY),
        LayerError, "init_state", "got no x", "lf.init_state(net, optimizer, lf.Key(0), x)",
    ),
    "serial: a list": (
        lambda: lf.serial([lf.dense(2), RELU]),
        LayerError, "serial", "layers[0] to be a Layer", "[dense(2), relu()]", "serial(*layers)",
    ),
    "serial: a tuple": (
        lambda: lf.serial((lf.dense(2), RELU)),
        LayerError, "serial", "(dense(2), relu())", "serial(*layers)",
    ),
    "serial: no brackets": (
        lambda: lf.serial(lf.dense(2), lf.relu),
        LayerError, "serial", "the constructor relu; write relu()",
    ),
    "serial: a torch module": (
        lambda: lf.serial(nn.Linear(3, 2)),
        LayerError, "serial", "a Linear of torch", "from_torch",
    ),
    "serial: a torch module's class": (
        lambda: lf.serial(nn.ReLU),
        LayerError, "serial", "the class ReLU", "from_torch",
    ),
    "serial: a torch function": (
        lambda: lf.serial(torch.relu),
        LayerError, "serial", "function relu", "from_function",
    ),
    "serial: a lambda": (lambda: lf.serial(lambda x: x), LayerError, "serial", "function", "Layer"),
    "serial: a number": (lambda: lf.serial(784, 10), LayerError, "serial", "784"),
    "serial: a loss": (lambda: lf.serial(lf.dense(2), NLL), LayerError, "serial", "the Loss nll()"),
    "serial: an optimizer": (
        lambda: lf.serial(lf.dense(2), SGD),
        LayerError, "serial", "the Optimizer sgd(0.1)",
    ),
    "serial: a name": (lambda: lf.serial("relu"), LayerError, "serial", "'relu'"),
    "serial: None": (lambda: lf.serial(lf.dense(2), None), LayerError, "serial", "None"),
    "serial: a module of layers": (
        lambda: lf.serial(lf.layers.dense),
        LayerError, "serial", "module", "dense",
    ),
    "serial: params": (lambda: lf.serial(PARAMS[0]), LayerError, "serial", "Params"),
    "residual: no brackets": (lambda: lf.residual(lf.relu), LayerError, "residual", "relu()"),
    "residual: a shortcut without brackets": (
        lambda: lf.residual(RELU, lf.identity),
        LayerError, "residual", "identity()",
    ),
    "branch: no brackets": (lambda: lf.branch(RELU, lf.tanh), LayerError, "branch", "tanh()"),
    "branch: a list": (
        lambda: lf.branch([RELU, RELU]),
        LayerError, "branch", "[relu(), relu()]", "layers[0]",
    ),
    "branch: a merge without brackets": (
        lambda: lf.branch(RELU, RELU, merge=lf.add),
        LayerError, "branch", "add()",
    ),
    "branch: torch.add as merge": (
        lambda: lf.branch(RELU, RELU, merge=torch.add),
        LayerError, "branch", "function add",
    ),
    "parallel: no brackets": (lambda: lf.parallel(lf.relu, RELU), LayerError, "parallel", "relu()"),
    "parallel: a list": (
        lambda: lf.parallel([RELU, RELU]),
        LayerError, "parallel", "[relu(), relu()]", "layers[0]",
    ),
    "shared: no brackets": (lambda: lf.shared(lf.tanh), LayerError, "shared", "tanh()"),
    "frozen: no brackets": (lambda: lf.frozen(lf.dense), LayerError, "frozen", "dense(...)"),
    "frozen: params": (lambda: lf.frozen(PARAMS), LayerError, "frozen", "Params("),
    "checkpointed: no brackets": (
        lambda: lf.checkpointed(lf.relu),
        LayerError, "checkpointed", "relu()",
    ),
    "in_dtype: no brackets": (
        lambda: lf.in_dtype(lf.relu, torch.float64),
        LayerError, "in_dtype", "relu()",
    ),
    "in_dtype: swapped": (
        lambda: lf.in_dtype(torch.float64, RELU),
        LayerError, "in_dtype", "torch.float64",
    ),
    "in_dtype: a numpy dtype": (
        lambda: lf.in_dtype(RELU, np.float64),
        LayerError, "in_dtype", "dtype", "the class float64",
    ),
    "tied: no brackets": (
        lambda: lf.tied(lf.embedding, lf.dense(4)),
        LayerError, "tied", "embedding(...)",
    ),
    "tied: a body that is no layer": (
        lambda: lf.tied(lf.embedding(5, 4), torch.tanh),
        LayerError, "tied", "function tanh",
    ),
    "with_context: no brackets": (
        lambda: lf.with_context(lf.relu),
        LayerError, "with_context", "relu()",
    ),
    "repeat: swapped": (lambda: lf.repeat(RELU, 3), LayerError, "repeat", "n", "relu()"),
    "repeat: no brackets": (lambda: lf.repeat(3, lf.relu), LayerError, "relu()"),
    "map_layers: swapped": (
        lambda: lf.map_layers(NET, lambda layer: layer),
        LayerError, "map_layers", "net", "function",
    ),
    "fast: no brackets": (lambda: lf.fast(lf.relu), LayerError, "fast", "net", "relu()"),
    "fast: a torch module": (
        lambda: lf.fast(nn.Linear(3, 2)),
        LayerError, "fast", "Linear", "from_torch",
    ),
    "compile: a function": (lambda: lf.compile(torch.relu), LayerError, "compile", "function relu"),
    "compile: no brackets": (lambda: lf.compile(lf.relu), LayerError, "compile", "relu()"),
    "compile: a torch module": (
        lambda: lf.compile(nn.Linear(3, 2)),
        LayerError, "compile", "Linear", "from_torch",
    ),
    "compile: a loss": (lambda: lf.compile(NLL), LayerError, "compile", "nll()"),
    "summary: no brackets": (
        lambda: lf.summary(lf.relu, X),
        LayerError, "summary", "net", "relu()",
    ),
    "summary: swapped": (lambda: lf.summary(X, NET), LayerError, "summary", "net", "float32[6, 3]"),
    "summary: a shape": (
        lambda: lf.summary(NET, (6, 3)),
        LayerError, "summary", "x", "(6, 3)", "torch.empty(6, 3)",
    ),
    "trace: no brackets": (
        lambda: lf.inspect.trace(lf.relu, (), X, NLL, T),
        LayerError, "trace", "net", "relu()",
    ),
    "trace: params and x swapped": (
        lambda: lf.inspect.trace(NET, X, PARAMS, NLL, T),
        LayerError, "params", "float32[6, 3]",
    ),
    "trace: a loss without brackets": (
        lambda: lf.inspect.trace(NET, PARAMS, X, lf.losses.nll, T),
        LayerError, "trace", "loss", "nll()",
    ),
    "make_step: loss and optimizer swapped": (
        lambda: lf.make_step(NET, SGD, NLL),
        LayerError, "make_step", "loss", "sgd(0.1)", "(net, loss, optimizer)",
    ),
    "make_step: net and loss swapped": (
        lambda: lf.make_step(NLL, NET, SGD),
        LayerError, "make_step", "net", "the Loss nll()",
    ),
    "make_step: net without brackets": (
        lambda: lf.make_step(lf.relu, NLL, SGD),
        LayerError, "make_step", "net", "the constructor relu; write relu()",
    ),
    "make_step: loss without brackets": (
        lambda: lf.make_step(NET, lf.losses.nll, SGD),
        LayerError, "make_step", "loss", "the constructor nll; write nll()",
    ),
    "make_step: optimizer without brackets": (
        lambda: lf.make_step(NET, NLL, lf.optim.adam),
        LayerError, "make_step", "optimizer", "the constructor adam; write adam()",
    ),
    "make_step: a transform": (
        lambda: lf.make_step(NET, NLL, lf.optim.clip_by_value(1.0)),
        LayerError, "make_step", "optimizer", "clip_by_value(1.0)", "chain",
    ),
    "make_step: a torch module": (
        lambda: lf.make_step(nn.Linear(3, 4), NLL, SGD),
        LayerError, "make_step", "net", "Linear", "from_torch",
    ),
    "make_step: a torch loss": (
        lambda: lf.make_step(NET, nn.NLLLoss(), SGD),
        LayerError, "make_step", "loss", "NLLLoss", "lf.losses",
    ),
    "make_step: a torch function as loss": (
        lambda: lf.make_step(NET, nn.functional.nll_loss, SGD),
        LayerError, "make_step", "loss", "function nll_loss",
    ),
    "make_step: a torch optimizer": (
        lambda: lf.make_step(NET, NLL, torch.optim.SGD([nn.Parameter(X)], 0.1)),
        LayerError, "make_step", "optimizer", "SGD", "lf.optim",
    ),
    "make_step: a torch optimizer's class": (
        lambda: lf.make_step(NET, NLL, torch.optim.Adam),
        LayerError, "make_step", "optimizer", "Adam", "lf.optim",
    ),
    "make_step: a learning rate": (
        lambda: lf.make_step(NET, NLL, 0.1),
        LayerError, "make_step", "optimizer", "0.1",
    ),
    "make_step: a schedule": (
        lambda: lf.make_step(NET, NLL, lf.schedules.constant(0.1)),
        LayerError, "make_step", "optimizer", "constant(0.1)", "sgd(",
    ),
    "make_step: a name": (
        lambda: lf.make_step(NET, "nll", SGD),
        LayerError, "make_step", "loss", "'nll'",
    ),
    "make_step: a list of layers": (
        lambda: lf.make_step([lf.dense(4), RELU], NLL, SGD),
        LayerError, "make_step", "net", "[dense(4)", "serial",
    ),
    "make_step: a layer's module": (
        lambda: lf.make_step(NET, lf.losses, SGD),
        LayerError, "make_step", "loss", "module",
    ),
    "init_state: an int for a key": (
        lambda: lf.init_state(NET, SGD, 0, X),
        LayerError, "init_state", "key", "lf.Key(0)",
    ),
    "init_state: a torch generator": (
        lambda: lf.init_state(NET, SGD, torch.Generator(), X),
        LayerError, "init_state", "key", "Generator", "lf.Key",
    ),
    "init_state: Key without brackets": (
        lambda: lf.init_state(NET, SGD, lf.Key, X),
        LayerError, "init_state", "key", "Key",
    ),
    "init_state: key and x swapped": (
        lambda: lf.init_state(NET, SGD, X, KEY),
        LayerError, "init_state", "key", "float32[6, 3]", "(net, optimizer, key, x)",
    ),
    "init_state: a loss for the optimizer": (
        lambda: lf.init_state(NET, NLL, KEY, X),
        LayerError, "init_state", "optimizer", "nll()",
    ),
    "init_state: optimizer without brackets": (
        lambda: lf.init_state(NET, lf.optim.sgd, KEY, X),
        LayerError, "init_state", "optimizer", "sgd()",
    ),
    "init_state: net without brackets": (
        lambda: lf.init_state(lf.dense, SGD, KEY, X),
        LayerError, "init_state", "net", "dense(...)",
    ),
    "init_state: a shape": (
        lambda: lf.init_state(NET, SGD, KEY, (6, 3)),
        LayerError, "init_state", "x", "(6, 3)", "torch.empty(6, 3)",
    ),
    "init_state: a numpy array": (
        lambda: lf.init_state(NET, SGD, KEY, X.numpy()),
        LayerError, "init_state", "x", "ndarray", "torch.as_tensor",
    ),
    "init_state: a number": (
        lambda: lf.init_state(NET, SGD, KEY, 3),
        LayerError, "init_state", "x", "int",
    ),
    "init_state: no x": (
        lambda: lf.init_state(NET, SGD, KEY, None),
        LayerError, "init_state", "x", "None",
    ),
    "init: an int for a key": (
        lambda: lf.dense(4).init(0, X),
        LayerError, "dense(4)", "key", "lf.Key(0)",
    ),
    "init: an int for a key, in serial": (
        lambda: NET.init(0, X),
        LayerError, "serial", "key", "lf.Key(0)",
    ),
    "init: key and x swapped": (
        lambda: lf.dense(4).init(X, KEY),
        LayerError, "dense(4)", "x to be a tensor", "Key",
    ),
    "init: an int for a key, dropout": (
        lambda: lf.dropout(0.5).init(0, X),
        LayerError, "dropout", "key", "lf.Key(0)",
    ),
    "init: an int for a key, conv2d": (
        lambda: lf.conv2d(2, 3).init(1, torch.ones(1, 2, 5, 5)),
        LayerError, "conv2d", "key", "lf.Key(1)",
    ),
    "init: an int for a key, lstm": (
        lambda: lf.lstm(2).init(1, torch.ones(1, 2, 5)),
        LayerError, "lstm", "key", "lf.Key(1)",
    ),
    "init: an int for a key, embedding": (
        lambda: lf.embedding(5, 2).init(1, T),
        LayerError, "embedding", "key", "lf.Key(1)",
    ),
    "fit: loss and optimizer swapped": (
        lambda: fit(loss=SGD, optimizer=NLL),
        LayerError, "fit", "loss", "sgd(0.1)", "(net, loss, optimizer, data)",
    ),
    "fit: net without brackets": (lambda: fit(net=lf.relu), LayerError, "fit", "net", "relu()"),
    "fit: loss without brackets": (
        lambda: fit(loss=lf.losses.nll),
        LayerError, "fit", "loss", "nll()",
    ),
    "fit: optimizer without brackets": (
        lambda: fit(optimizer=lf.optim.sgd),
        LayerError, "fit", "optimizer", "sgd()",
    ),
    "fit: an int for a key": (lambda: fit(key=0), LayerError, "fit", "key", "lf.Key(0)"),
    "fit: params for a state": (
        lambda: fit(state=PARAMS),
        LayerError, "fit", "state", "TrainState",
    ),
    "fit: a metric by name": (
        lambda: fit(valid=(X, T), metric="accuracy"),
        LayerError, "fit", "metric", "'accuracy'", "lf.metrics",
    ),
    "fit: top_k_error without brackets": (
        lambda: fit(valid=(X, T), metric=lf.metrics.top_k_error),
        LayerError, "fit", "metric", "the constructor top_k_error; write top_k_error()",
    ),
    "fit: metrics in a list": (
        lambda: fit(valid=(X, T), metric=[ACCURACY["accuracy"]]),
        LayerError, "fit", "metric", "list",
    ),
    "evaluate: net and params swapped": (
        lambda: lf.evaluate(PARAMS, NET, [(X, T)], ACCURACY),
        LayerError, "evaluate", "net", "(net, params, batches, metrics)",
    ),
    "evaluate: a metric alone": (
        lambda: lf.evaluate(NET, PARAMS, [(X, T)], lf.metrics.accuracy),
        LayerError, "evaluate", "metrics", "function accuracy", "{",
    ),
    "evaluate: a state for params": (
        lambda: lf.evaluate(NET, STATE, [(X, T)], ACCURACY),
        LayerError, "TrainState", "state.params",
    ),
    "evaluate: a loss for a metric": (
        lambda: lf.evaluate(NET, PARAMS, [(X, T)], {"loss": NLL}),
        LayerError, "evaluate", "metrics", "nll()",
    ),
    "train: no step": (
        lambda: list(lf.train(NET, STATE, [(X, T)])),
        LayerError, "train", "step", "serial(", "make_step",
    ),
    "train: step and state swapped": (
        lambda: list(lf.train(STATE, STEP, [(X, T)])),
        LayerError, "train", "step", "(step, state, batches)",
    ),
    "train: params for a state": (
        lambda: list(lf.train(STEP, PARAMS, [(X, T)])),
        LayerError, "train", "state", "TrainState", "init_state",
    ),
    "step: params for a state": (
        lambda: STEP(PARAMS, (X, T)),
        LayerError, "step", "state", "TrainState", "init_state",
    ),
    "step: state and batch swapped": (
        lambda: STEP((X, T), STATE),
        LayerError, "step", "state to be a TrainState", "(float32[6, 3], int64[6])",
    ),
    "cotangents: no brackets": (
        lambda: lf.cotangents(lf.relu, (), X, X),
        LayerError, "cotangents", "net", "relu()",
    ),
    "check_layer: a function": (
        lambda: check_layer(torch.relu, (), X),
        LayerError, "check_layer", "layer", "function relu",
    ),
    "check_layer: no brackets": (
        lambda: check_layer(lf.relu, (), X),
        LayerError, "check_layer", "layer", "relu()",
    ),
    "check_layer: a torch module": (
        lambda: check_layer(nn.ReLU(), (), X),
        LayerError, "check_layer", "layer", "ReLU", "from_torch",
    ),
    "check_layer: params and x swapped": (
        lambda: check_layer(lf.dense(4), X, PARAMS[0]),
        LayerError, "params", "float",
    ),
    "check_layer: no params": (
        lambda: check_layer(lf.dense(4), X, None),
        LayerError, "check_layer", "x to be a tensor",
    ),
    "check_layer: a loss": (
        lambda: check_layer(NLL, X, T),
        LayerError, "check_layer", "nll()", "check_loss",
    ),
    "check_loss: no brackets": (
        lambda: check_loss(lf.losses.mse, X, X),
        LayerError, "check_loss", "loss", "mse()",
    ),
    "check_loss: a layer": (
        lambda: check_loss(RELU, X, X),
        LayerError, "check_loss", "loss", "relu()", "check_layer",
    ),
    "check_loss: a torch loss": (
        lambda: check_loss(nn.MSELoss(), X, X),
        LayerError, "check_loss", "loss", "MSELoss", "lf.losses",
    ),
    "chain: no brackets": (
        lambda: lf.optim.chain(lf.optim.clip_by_value(1.0), lf.optim.sgd),
        LayerError, "chain", "sgd()",
    ),
    "chain: a transform without brackets": (
        lambda: lf.optim.chain(lf.optim.clip_by_value, SGD),
        LayerError, "chain", "clip_by_value(...)",
    ),
    "chain: a list": (
        lambda: lf.optim.chain([lf.optim.clip_by_value(1.0), SGD]),
        LayerError, "chain", "parts[0]", "[clip_by_value(1.0), sgd(0.1)]",
    ),
    "chain: the optimizer first": (
        lambda: lf.optim.chain(SGD, lf.optim.clip_by_value(1.0)),
        LayerError, "chain", "transforms and then one optimizer",
    ),
    "by_path: an optimizer": (
        lambda: lf.optim.by_path(SGD),
        LayerError, "by_path", "the Optimizer sgd(0.1)", "mapping",
    ),
    "by_path: no brackets": (
        lambda: lf.optim.by_path({"*": lf.optim.sgd}),
        LayerError, "by_path", "sgd()",
    ),
    "dense: an initializer without brackets": (
        lambda: lf.dense(4, weight_init=lf.initializers.zeros),
        LayerError, "dense", "weight_init", "zeros()",
    ),
    "dense: torch's initializer": (
        lambda: lf.dense(4, weight_init=nn.init.zeros_),
        LayerError, "dense", "weight_init", "zeros_", "lf.initializers",
    ),
    "dense: a number as initializer": (
        lambda: lf.dense(4, bias_init=0.0),
        LayerError, "dense", "bias_init", "0.0", "constant(0.0)",
    ),
    "conv2d: an initializer without brackets": (
        lambda: lf.conv2d(2, 3, weight_init=lf.initializers.normal),
        LayerError, "conv2d", "weight_init", "normal(...)",
    ),
    "lstm: an initializer without brackets": (
        lambda: lf.lstm(3, weight_init=lf.initializers.orthogonal),
        LayerError, "lstm", "weight_init", "orthogonal()",
    ),
    "sgd: a schedule without brackets": (
        lambda: lf.optim.sgd(lf.schedules.cosine),
        LayerError, "sgd", "lr", "cosine(...)",
    ),
    "adam: a torch scheduler's class": (
        lambda: lf.optim.adam(torch.optim.lr_scheduler.StepLR),
        LayerError, "adam", "lr", "the class StepLR",
    ),
    "adam: parameters first, as torch has them": (
        lambda: lf.optim.adam(PARAMS, 0.1),
        LayerError, "adam", "lr",
    ),
    "sgd: params as torch takes them": (
        lambda: lf.optim.sgd(nn.Linear(3, 2).parameters(), 0.1),
        LayerError, "sgd", "lr", "generator",
    ),
    "Layer: no name": (
        lambda: lf.Layer(lambda params, x: (x, None), lambda params, c, g: (g, ()), None),
        LayerError, "Layer", "name",
    ),
    "Layer: no function": (
        lambda: lf.Layer("mine()", None, None),
        LayerError, "mine()", "forward", "function",
    ),
    "Loss: no name": (lambda: lf.Loss(None, print, print), LayerError, "Loss", "name"),
    "Optimizer: no name": (
        lambda: lf.optim.Optimizer(None, print, print), LayerError, "Optimizer", "name",
    ),
    "Transform: no function": (
        lambda: lf.optim.Transform("mine()", 3.0), LayerError, "mine()", "around", "function",
    ),
    "Schedule: a number": (
        lambda: lf.schedules.Schedule("mine()", 0.1), LayerError, "mine()", "at", "function",
    ),
    "Initializer: a number": (
        lambda: lf.initializers.Initializer("mine()", 0.1),
        LayerError, "mine()", "draw", "function",
    ),
    "Layer: a layer's own forward's y": (
        lambda: lf.Layer("mine()", X, X),
        LayerError, "mine()", "forward", "float32[6, 3]",
    ),
    "to_torch: no brackets": (
        lambda: lf.interop.to_torch(lf.relu, ()),
        LayerError, "to_torch", "layer", "relu()",
    ),
    "to_torch: a torch module": (
        lambda: lf.interop.to_torch(nn.ReLU(), ()),
        LayerError, "to_torch", "layer", "ReLU",
    ),
    "to_torch: swapped": (
        lambda: lf.interop.to_torch(PARAMS, NET),
        LayerError, "to_torch", "layer",
    ),
    "from_torch: a layer": (
        lambda: lf.interop.from_torch(NET),
        LayerError, "from_torch", "serial(", "torch.nn.Module",
    ),
    "from_torch: a class": (
        lambda: lf.interop.from_torch(nn.ReLU),
        LayerError, "from_torch", "the class ReLU", "make an object",
    ),
    "from_torch: a state_dict": (
        lambda: lf.interop.from_torch(nn.Linear(3, 2).state_dict()),
        LayerError, "from_torch", "from_state_dict",
    ),
    "from_torch: a function": (
        lambda: lf.interop.from_torch(torch.relu),
        LayerError, "from_torch", "function relu", "from_function",
    ),
    "from_state_dict: swapped": (
        lambda: lf.interop.from_state_dict(nn.Linear(3, 2).state_dict(), NET),
        LayerError, "from_state_dict", "layer",
    ),
    "from_state_dict: a module": (
        lambda: lf.interop.from_state_dict(NET, nn.Linear(3, 2)),
        LayerError, "from_state_dict", "state_dict()",
    ),
    "export_step: a layer": (
        lambda: lf.export_step(NET, STATE, (X, T), "/tmp/none"),
        LayerError, "export_step", "step", "make_step",
    ),
    "evaluated: no brackets": (
        lambda: lf.streams.evaluated([], lf.relu, [(X, T)], ACCURACY, every=1),
        LayerError, "evaluated", "net", "relu()",
    ),
    "evaluated: a metric alone": (
        lambda: lf.streams.evaluated([], NET, [(X, T)], lf.metrics.accuracy, every=1),
        LayerError, "evaluated", "metrics", "function accuracy",
    ),
    "finite: net and stream swapped": (
        lambda: lf.streams.finite(NET, lf.train(STEP, STATE, [(X, T)])),
        LayerError, "finite", "net",
    ),
    "early_stopping: a step": (
        lambda: list(lf.streams.early_stopping(STEP, "accuracy", patience=1)),
        LayerError, "early_stopping", "stream", "train",
    ),
    "logged: batches for a stream": (
        lambda: list(lf.streams.logged([(X, T)], "/tmp/none.csv")),
        LayerError, "logged", "stream", "train",
    ),
    "best: a state": (
        lambda: lf.streams.best(STATE, "accuracy"),
        LayerError, "best", "stream", "TrainState",
    ),
}  # fmt: skip
