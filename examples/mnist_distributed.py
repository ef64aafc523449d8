"""Read handwritten digits with several processes, which end with the bits of one.

    torchrun --nproc-per-node 2 examples/mnist_distributed.py

starts two processes on this machine; without torchrun there is one. Each batch is divided into
logical shards, four by default. Two processes compute two of them each. With OMP_NUM_THREADS=1,
which torchrun sets for several processes, the last line is the same for 1, 2 and 4 processes: a
checksum of the trained parameters.

--zero 1 divides the optimizer's state among the processes, and --zero 3 the parameters, too.

With --checkpoint DIR each process saves its part of the state every 100 steps. A run that was
stopped goes on from there, also with another number of processes, and ends with the same bits.
`torchrun --max-restarts 3` starts it again by itself if a process is lost.

The accuracy on the 10,000 test images is printed every 100 steps; data as for mnist.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from learning_curve import save_learning_curve
from mnist import load_data
from options import picture_file, positive_int
from torch import Tensor
from tqdm import tqdm

import lincoln_fn as lf
from lincoln_fn import distributed

Examples = tuple[Tensor, Tensor]
TIME = "A default run takes about half a minute on two cores."


def make_training(
    zero: int, lr: float, group: distributed.Group
) -> tuple[lf.Layer, lf.Layer, lf.Optimizer]:
    """Make the network as one process and as several have it, and the optimizer."""
    hidden = lf.serial(lf.dense(500), lf.relu(), lf.dropout(0.2))
    whole, optimizer = lf.serial(hidden, lf.dense(10)), lf.optim.adamw(lr)
    if zero == 1:
        return whole, whole, lf.optim.sharded(optimizer, group)
    if zero == 3:
        return whole, lf.serial(distributed.fully_sharded(hidden, group), lf.dense(10)), optimizer
    return whole, whole, optimizer


def train_network(
    options: argparse.Namespace, train: Examples, test: Examples, group: distributed.Group
) -> Iterator[tuple[lf.FitRecord, lf.Params]]:
    """Train, and give the whole parameters and a record every 100 steps and at the end."""
    whole, net, optimizer = make_training(options.zero, options.lr, group)
    reduce = distributed.mean(group, shards=options.shards)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(options.key), train[0])
    shard = (group.rank, group.size)
    directory = None
    if options.checkpoint:
        directory = distributed.Directory(path=options.checkpoint, group=group)
        state = directory.latest(state) or state
    batches = lf.data.batches(
        train, options.batch_size,
        key=state.key, epochs=options.epochs, start=int(state.step), shard=shard,
    )  # fmt: skip
    states = lf.train(step, state, batches)
    if directory:
        states = lf.checkpoint.every(states, directory, steps=100)
    if group.rank == 0:
        states = lf.streams.progress(states, total=len(batches))
    losses, began = list[float](), time.perf_counter()
    for state, record in states:
        losses.append(record.loss)
        if record.step % 100 == 0 or record.step == options.epochs * batches.per_epoch:
            params = distributed.whole(state.params, group)
            scores = lf.evaluate(
                whole, params, lf.data.batches(test, 1000, shard=shard),
                {"test": lf.metrics.accuracy}, reduce=reduce,
            )  # fmt: skip
            epoch = 1 + (record.step - 1) // batches.per_epoch
            seconds, mean = time.perf_counter() - began, sum(losses) / len(losses)
            yield lf.FitRecord(record.step, epoch, mean, scores["test"], seconds), params
            losses.clear()


def checksum(params: lf.Params) -> str:
    """Compute a number that differs if a bit of the parameters does."""
    digest = blake2b(digest_size=8)
    for leaf in lf.tree.leaves(params, states=True):
        digest.update(leaf.numpy().tobytes())
    return digest.hexdigest()


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--epochs", type=positive_int, default=3, help="default: 3")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=128,
        help="of all processes together (default: 128)",
    )
    parser.add_argument("--lr", type=float, default=0.001, help="default: 0.001")
    parser.add_argument(
        "--shards", type=positive_int, default=4, help="a multiple of the processes (default: 4)"
    )
    parser.add_argument(
        "--zero", type=int, choices=(0, 1, 3), default=0, help="stage of ZeRO (default: 0, none)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="save in DIR, and go on from there"
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE.png", help="save the learning curves"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the training images, and print the accuracy on the test images as it grows."""
    options = parse_options(arguments)
    with distributed.connect() as group:
        if group.rank == 0:
            load_data()  # so that one process alone downloads them
        group.wait()
        train, test = load_data()
        history, params = list[lf.FitRecord](), None
        for record, params in train_network(options, train, test, group):
            history.append(record)
            if group.rank == 0:
                tqdm.write(
                    f"epoch {record.epoch}  step {record.step:5}  loss {record.loss:6.4f}"
                    f"  test accuracy {record.metric:.4f}  {record.seconds:.0f} s"
                )
    if group.rank:
        return
    if not history:
        print(f"The run in {options.checkpoint} has taken all its steps.")
        return
    print(f"Test accuracy {history[-1].metric:.2%} with {group.size} processes")
    print(f"Checksum of the parameters {checksum(params)}")
    if options.plot:
        of_train, on_test = "of the training images", "on the test images"
        steps = {of_train: -(-len(train[0]) // options.batch_size)}
        title = f"MNIST, {group.size} processes"
        save_learning_curve(options.plot, title, {of_train: history}, {on_test: history}, steps)


if __name__ == "__main__":
    main()
