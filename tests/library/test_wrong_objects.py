"""Objects of the wrong kind: swapped, without brackets, or of another library."""

from helpers.given import misuses

test_an_object_of_the_wrong_kind_is_named = misuses("""
residual(relu) -> ^residual ... relu()
fast(relu) -> ^fast ... relu()
compile(relu) -> ^compile ... relu()
NET(X) -> ^serial: expected no call ... net.predict(params, x) ... net.forward(params, x)
relu()(X) -> ^relu() ... net.predict(params, x)
Layer('mine()', relu(), relu()) -> ^mine() ... forward to be a function ... the Layer relu()
NET.init(X) -> ^init: expected a key and x, got no key ... net.init(lf.Key(0), x)
NET.init(KEY) -> expected a key and x, got no x ... net.init(lf.Key(0), x)
NET.init(X, KEY) -> expected key to be a Key ... the order is serial.init(key, x)
serial((dense(2), relu())) -> ^serial ... (dense(2), relu()) ... serial(*layers)
serial(nn.Linear(3, 2)) -> ^serial ... a Linear of torch ... from_torch
serial(nn.ReLU) -> ^serial ... the class ReLU ... from_torch
serial(torch.relu) -> ^serial ... function relu ... from_function
serial(lambda x: x) -> ^serial ... Layer ... function
serial(784, 10) -> ^serial ... 784
serial(dense(2), NLL) -> ^serial ... the Loss nll()
serial(dense(2), SGD) -> ^serial ... the Optimizer sgd(0.1)
serial(dense(2), None) -> ^serial ... None
serial(layers.dense) -> ^serial ... module ... dense
branch([relu(), relu()]) -> ^branch ... layers[0] ... [relu(), relu()]
frozen(PARAMS) -> ^frozen ... Params(
repeat(relu(), 3) -> ^repeat ... n ... relu()
map_layers(NET, lambda layer: layer) -> ^map_layers ... net ... function
summary(X, NET) -> ^summary ... net ... float32[6, 3]
summary(NET, (6, 3)) -> ^summary ... x ... torch.empty(6, 3)
inspect.trace(NET, PARAMS, X, losses.nll, T) -> ^trace ... loss ... nll()
make_step(NET, SGD, NLL) -> ^make_step ... sgd(0.1) ... (net, loss, optimizer)
make_step(NET, NLL, optim.clip_by_value(1.0)) -> ^make_step ... optimizer ... clip_by_value(1.0) ...
    chain
make_step(NET, nn.NLLLoss(), SGD) -> ^make_step ... NLLLoss ... lf.losses
make_step(NET, NLL, torch.optim.SGD([nn.Parameter(X)], 0.1)) -> ^make_step ... optimizer ... SGD ...
    lf.optim
make_step(NET, NLL, 0.1) -> ^make_step ... optimizer ... 0.1
make_step(NET, NLL, schedules.constant(0.1)) -> ^make_step ... optimizer ... constant(0.1) ... sgd(
init_state(NET, SGD, 0, X) -> ^init_state ... key ... lf.Key(0)
init_state(NET, SGD, X, KEY) -> ^init_state ... float32[6, 3] ... (net, optimizer, key, x)
init_state(NET, SGD, KEY, (6, 3)) -> ^init_state ... x ... torch.empty(6, 3)
fit(state=PARAMS) -> ^fit ... state ... TrainState
fit(valid=(X, T), metric='accuracy') -> ^fit ... 'accuracy' ... lf.metrics
fit(valid=(X, T), metric=metrics.top_k_error) -> ^fit ... metric ... the constructor top_k_error;
    write top_k_error()
evaluate(PARAMS, NET, [(X, T)], ACCURACY) -> ^evaluate ... (net, params, batches, metrics)
evaluate(NET, STATE, [(X, T)], ACCURACY) -> TrainState ... state.params
list(train(NET, STATE, [(X, T)])) -> ^train ... make_step ... serial(
list(train(STEP, PARAMS, [(X, T)])) -> ^train ... TrainState ... init_state
STEP(PARAMS, (X, T)) -> ^step ... TrainState ... init_state
STEP((X, T), STATE) -> ^step ... state to be a TrainState ... (float32[6, 3], int64[6])
cotangents(relu, (), X, X) -> ^cotangents ... net ... relu()
testing.check_layer(relu, (), X) -> ^check_layer ... relu()
testing.check_layer(dense(4), X, PARAMS[0]) -> params ... float
testing.check_layer(NLL, X, T) -> ^check_layer ... nll() ... check_loss
testing.check_loss(relu(), X, X) -> ^check_loss ... relu() ... check_layer
testing.check_loss(nn.MSELoss(), X, X) -> ^check_loss ... MSELoss ... lf.losses
optim.chain(optim.clip_by_value(1.0), optim.sgd) -> ^chain ... sgd()
optim.chain(SGD, optim.clip_by_value(1.0)) -> ^chain ... transforms and then one optimizer
optim.by_path(SGD) -> ^by_path ... mapping ... the Optimizer sgd(0.1)
dense(4, weight_init=nn.init.zeros_) -> ^dense ... weight_init ... zeros_ ... lf.initializers
dense(4, bias_init=0.0) -> ^dense ... bias_init ... constant(0.0)
optim.adam(PARAMS, 0.1) -> ^adam ... lr
Layer(lambda params, x: (x, None), lambda params, c, g: (g, ()), None) -> ^Layer ... name
Layer('mine()', None, None) -> ^mine() ... forward ... function
optim.Transform('mine()', 3.0) -> ^mine() ... around ... function
interop.to_torch(relu, ()) -> ^to_torch ... layer ... relu()
interop.from_torch(NET) -> ^from_torch ... torch.nn.Module ... serial(
interop.from_torch(nn.ReLU) -> ^from_torch ... the class ReLU ... make an object
interop.from_torch(nn.Linear(3, 2).state_dict()) -> ^from_torch ... from_state_dict
interop.from_state_dict(NET, nn.Linear(3, 2)) -> ^from_state_dict ... state_dict()
export_step(NET, STATE, (X, T), '/tmp/none') -> ^export_step ... make_step
streams.evaluated([], NET, [(X, T)], metrics.accuracy, every=1) -> ^evaluated ... metrics ...
    function accuracy
streams.finite(NET, train(STEP, STATE, [(X, T)])) -> ^finite ... net
list(streams.early_stopping(STEP, 'accuracy', patience=1)) -> ^early_stopping ... stream ... train
""")
