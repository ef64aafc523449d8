"""What training does not import: torch's compiler, which takes seconds."""

import pytest
from helpers.children import printed_by_child

TRAIN = """
import sys
import torch
import lincoln_fn as lf

x, target = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
net = lf.serial(
    lf.conv2d(4, 3), lf.batch_norm(), lf.gelu(), lf.max_pool2d(2), lf.residual(lf.softmax(1)),
    lf.flatten(), lf.layer_norm(36), lf.dropout(0.1), lf.dense(6), lf.swiglu(5), lf.dense(3),
)
loss, adam, key = lf.losses.softmax_cross_entropy(), lf.optim.adamw(1e-3), lf.Key(0)
state = lf.init_state(net, adam, key, x)
state, _ = lf.make_step(net, loss, adam)(state, (x, target))
net.predict(state.params, x)
again = lf.init_state(net, adam, key, x, params=state.params)
lf.fit(net, loss, adam, (x, target), key=key, batch_size=2, epochs=2, progress=False)
text = torch.zeros(2, 5, dtype=torch.int64)
block = lf.transformer_encoder_block(2, is_causal=True)
writer = lf.serial(lf.embedding(9, 4), block, lf.gru(4), lf.dense(9))
lf.init_state(writer, adam, key, text)
print("torch._dynamo" in sys.modules)
"""

# The wrappers of torch's functions still keep its compiler from tracing them once it is imported.
COMPILE = """
import torch
import lincoln_fn as lf

x = torch.empty(4, 3, device="meta")
net = lf.serial(lf.dense(4), lf.gelu(), lf.dense(3))
net.init(lf.Key(0), x)
import torch._dynamo
calls = []
disable = torch._dynamo.disable
torch._dynamo.disable = lambda f, *rest, **options: calls.append(f) or disable(f, *rest, **options)
for _ in range(2):
    assert (x * 2).gt(0).shape == (4, 3)
print(len(calls), all(hasattr(f, "__dynamo_disable") for f in calls))
compiled = torch.compile(lambda x: (x * 2).exp() + 1, backend="eager")
print(torch.equal(compiled(torch.ones(3)), torch.ones(3).mul(2).exp() + 1))
"""


@pytest.mark.full
def test_training_does_not_import_torchs_compiler():
    assert printed_by_child(TRAIN).split() == ["False"]


@pytest.mark.full
def test_torchs_compiler_is_kept_from_the_same_functions_once_it_is_there():
    assert printed_by_child(COMPILE).split() == ["2", "True", "True"]
