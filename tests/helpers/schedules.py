"""Every schedule."""

from torch.optim import lr_scheduler

from lincoln_fn import schedules as of


def warmup_then_cosine(optimizer):
    rise = lr_scheduler.LinearLR(optimizer, 0.2, total_iters=5)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, 20)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], [5])


def exponential_then_steps(optimizer):
    first = lr_scheduler.ExponentialLR(optimizer, 0.9)
    second = lr_scheduler.StepLR(optimizer, 3, 0.5)
    return lr_scheduler.SequentialLR(optimizer, [first, second], [8])


def cycle(**options):
    return lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, 0.5, 30, cycle_momentum=False, **options
    )


def with_factor(factor):
    """Multiply the rate by a function of the step, as a formula of Python."""
    return lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor)


def restarts(*options):
    return lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, *options)


def rise_stay_and_fall(step):
    if step < 7:
        return (step + 1) / 5 if step < 4 else 1.0
    return max(1 - 0.9 * (step - 7) / 6, 0.1)


# Each row: ours, torch's, whose optimizer begins at a rate of 0.5, and the steps to compare.
TABLE = [
    (of.constant(0.5), lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0), 5),
    (of.piecewise((0.5, 0.05, 0.005), (3, 7)), lambda o: lr_scheduler.MultiStepLR(o, [3, 7]), 12),
    (of.exponential(0.5, 0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9), 30),
    (of.exponential(0.5, 0.3, 4, staircase=True), lambda o: lr_scheduler.StepLR(o, 4, 0.3), 30),
    (of.linear(0.1, 0.4, 6), lambda o: lr_scheduler.LinearLR(o, 0.2, 0.8, 6), 10),
    (of.polynomial(0.5, 9), lambda o: lr_scheduler.PolynomialLR(o, 9), 12),
    (of.polynomial(0.5, 9, 2.5), lambda o: lr_scheduler.PolynomialLR(o, 9, 2.5), 12),
    (of.cosine(0.5, 20), lambda o: lr_scheduler.CosineAnnealingLR(o, 20), 21),
    (of.cosine(0.5, 20, 0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 20, 0.1), 21),
    (of.cosine_restarts(0.5, 7), restarts(7), 30),
    (of.cosine_restarts(0.5, 3, 2, 0.1), restarts(3, 2, 0.1), 100),
    (of.cosine_restarts(0.5, 1, 3), restarts(1, 3), 130),
    (of.inverse_sqrt(0.5, 8), with_factor(lambda t: min((t + 1) / 8, (8 / (t + 1)) ** 0.5)), 40),
    (of.wsd(0.5, 4, 3, 6, 0.05), with_factor(rise_stay_and_fall), 20),
    (of.linear_warmup(0.5, 6), lambda o: lr_scheduler.LinearLR(o, total_iters=6), 10),
    (of.linear_warmup(of.cosine(0.5, 20), 5, 0.2), warmup_then_cosine, 25),
    (of.joined((of.exponential(0.5, 0.9), of.exponential(0.5, 0.5, 3, staircase=True)), (8,)),
        exponential_then_steps, 20),
    (of.one_cycle(0.5, 30), cycle(), 30),
    (of.one_cycle(0.5, 30, 0.41, "linear"), cycle(pct_start=0.41, anneal_strategy="linear"), 30),
    (of.one_cycle(0.5, 30, div_factor=5.0, final_div_factor=100.0),
        cycle(div_factor=5.0, final_div_factor=100.0), 30),
    (of.one_cycle(0.5, 30, 0.27, three_phase=True), cycle(pct_start=0.27, three_phase=True), 30),
    (of.one_cycle(0.5, 30, 0.4, "linear", three_phase=True),
        cycle(pct_start=0.4, anneal_strategy="linear", three_phase=True), 30),
]  # fmt: skip
SCHEDULES = [row[0] for row in TABLE]
