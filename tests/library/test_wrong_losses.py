"""Predictions and labels that do not belong to a loss."""

import torch
from helpers.given import NLL, misuses
from torch.nn.functional import one_hot

import lincoln_fn as lf
from lincoln_fn import losses

Z = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.0, 1.0, -2.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
LOG_P = Z.log_softmax(1)
P = Z.softmax(1)
C = torch.tensor([0, 3, 1])
HOT = one_hot(C, 4)
CE, SCE = losses.cross_entropy(), losses.softmax_cross_entropy()
BCE, LOG = losses.sigmoid_cross_entropy(), losses.log_loss()
ALONE = lf.Loss("mine()", lambda prediction, target: prediction.sum(), NLL.backward)
Y = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
test_what_does_not_belong_to_a_loss_is_named = misuses("""
NLL.forward(Z, C) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
step(LOGITS, NLL) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
fit(net=LOGITS, loss=NLL) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
inspect.trace(LOGITS, LOGITS.init(KEY, X), X, NLL, T) -> ^nll ... log-probabilities ... log_softmax
    ... softmax_cross_entropy
CE.forward(Z, C) -> ^cross_entropy ... [0, 1] ... softmax_cross_entropy
NLL.forward(P, C) -> ^nll ... log-probabilities ... log_softmax
CE.forward(LOG_P, C) -> ^cross_entropy ... [0, 1] ... nll
LOG.forward(Z[:, 0], Y[:3]) -> ^log_loss ... [0, 1] ... sigmoid_cross_entropy
losses.log_sigmoid_loss().forward(Z[:, 0], Y[:3]) -> ^log_sigmoid_loss ... 0
losses.kl_div().forward(P, P) -> ^kl_div ... log-probabilities
losses.kl_div().forward(LOG_P, LOG_P) -> ^kl_div ... log_target
NLL.forward(LOG_P, HOT) -> ^nll ... target of shape (3,) ... (3, 4) ... argmax(1)
NLL.forward(torch.zeros(2, 5, 4).log_softmax(2), torch.zeros(2, 5).long()) -> ^nll ... (2, 4) ...
    (2, 5)
NLL.forward(LOG_P, C.numpy()) -> ^nll ... target ... ndarray ... torch.as_tensor
NLL.forward(LOG_P, 1) -> ^nll ... target ... int
NLL.forward(NET.forward(NET.init(KEY, X), X), T) -> ^nll ... prediction ... tuple
losses.mse().forward(torch.zeros(3, 1), torch.zeros(3)) -> ^mse ... (3, 1) ... (3,)
losses.triplet_margin().forward(Z, None) -> ^triplet_margin ... anchor ... float32[3, 4]
losses.triplet_margin().forward([Z, Z, Z], None) -> ^triplet_margin ... anchor
step(serial(LOGITS, log_sigmoid()), NLL) -> ^nll ... sum to 1 ... log_softmax
NLL.backward(NLL.forward(LOG_P, C)) -> ^nll ... cache
NLL.backward(SCE.forward(Z, C)[1]) -> ^nll ... cache
step(loss=ALONE) -> ^mine(): expected forward to return (value, cache), got a Tensor
value_and_gradient(NET, ALONE)(PARAMS, (X, T)) -> ^mine(): expected forward to return (value,
    cache), got a Tensor
losses.nll(reduction=torch.mean) -> ^nll ... reduction ... mean
""")
