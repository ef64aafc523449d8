"""lincoln_fn, written as its users write it."""

from __future__ import annotations

import itertools
from functools import partial

import torch

import lincoln_fn as lf
from benchmarks import workloads
from benchmarks.peers import Way, Ways
from benchmarks.workloads import Block, Workload


def network(workload: Workload) -> lf.Layer:
    """Make the network."""
    layers = [layer(spec) for spec in workload.layers]
    if workload.codes:
        layers.append(lf.permute(0, 2, 1))  # the loss has the classes on axis 1
    return lf.serial(*layers)


def layer(spec: workloads.Spec) -> lf.Layer:
    """Make a layer."""
    match spec:
        case workloads.Dense(_, n_out):
            return lf.dense(n_out)
        case workloads.Conv(_, n_out, kernel):
            return lf.conv2d(n_out, kernel, padding=kernel // 2)
        case workloads.Embedding(entries, width):
            return lf.embedding(entries, width)
        case workloads.Positions(length, _):
            return lf.positional_embedding(length)
        case workloads.Lstm(_, hidden):
            return lf.lstm(hidden)
        case workloads.LayerNorm():
            return lf.layer_norm()
        case workloads.Block(width, heads):
            return lf.transformer_encoder_block(
                heads, 4 * width, 0.0, "gelu", norm_first=True, is_causal=True
            )
        case workloads.Plain("max_pool"):
            return lf.max_pool2d(2)
        case workloads.Plain(name):
            return {"sigmoid": lf.sigmoid, "relu": lf.relu, "flatten": lf.flatten}[name]()
    raise AssertionError(spec)


def parameters(workload: Workload) -> list[torch.Tensor]:
    """List the initial weights in the order of the network's leaves."""
    leaves: list[torch.Tensor] = []
    for spec, weights in zip(workload.layers, workload.weights(), strict=True):
        for name, weight in weights.items():
            tensor = torch.from_numpy(weight)
            if isinstance(spec, Block) and name == "qkv.weight":
                bias = torch.from_numpy(weights["qkv.bias"])
                for part, of_bias in zip(tensor.chunk(3, 1), bias.chunk(3), strict=True):
                    leaves += [part.contiguous(), of_bias.clone()]
            elif name != "qkv.bias":
                leaves.append(tensor)
    return leaves


def loss(workload: Workload) -> lf.Loss:
    """Make the loss on logits."""
    if workload.classes == 1:
        return lf.losses.sigmoid_cross_entropy()
    return lf.losses.softmax_cross_entropy()


def make_optimizer(name: str) -> lf.Optimizer:
    """Make the optimizer."""
    lr = workloads.LEARNING_RATES[name]
    if name == "adamw":
        of = workloads.ADAMW
        betas, decay = (of["beta1"], of["beta2"]), of["weight_decay"]
        return lf.optim.adamw(lr, betas, of["eps"], weight_decay=decay)
    return lf.optim.sgd(lr, momentum=workloads.MOMENTUM if name == "momentum" else 0.0)


def batches(workload: Workload) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Make tensors of the batches."""
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in workload.batches()]


def start(workload: Workload, net: lf.Layer, optimizer: lf.Optimizer) -> lf.TrainState:
    """Make the state that holds the initial weights."""
    state = lf.init_state(net, optimizer, lf.Key(0), batches(workload)[0][0])
    given = iter(parameters(workload))

    def placed(leaf: torch.Tensor) -> torch.Tensor:
        weight = next(given)
        assert weight.shape == leaf.shape, (weight.shape, leaf.shape)
        return torch.empty_like(leaf).copy_(weight)  # in the leaf's own order in memory

    params = lf.tree.map(placed, state.params)
    return lf.TrainState(params, optimizer.init(params), state.key, state.step)


def ways(workload: Workload, optimizer: str, *, compiled: bool = False) -> Ways:
    """Give the step that leaves its state alone and the one that may write over it."""
    lf.keep_freed_memory()
    net = network(workload)
    return [
        partial(way, net, workload, optimizer, compiled=compiled, donate=donate)
        for donate in (False, True)
    ]


def way(
    net: lf.Layer,
    workload: Workload,
    optimizer: str,
    *,
    compiled: bool = False,
    donate: bool = False,
) -> Way:
    """Make a way of a network that has a workload's parameters, in their order."""
    descent = make_optimizer(optimizer)
    step = lf.make_step(net, loss(workload), descent, donate=donate)
    if compiled:
        step = lf.compile(step)
    state = start(workload, net, descent)
    records = (record for _, record in lf.train(step, state, itertools.cycle(batches(workload))))
    what = f"lincoln_fn {lf.__version__}{', donated' if donate else ''}"
    return Way(lambda: next(records).loss, what)
