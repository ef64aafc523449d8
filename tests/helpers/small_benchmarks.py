"""A benchmark's workload, made small."""

from benchmarks.workloads import char_lstm, dense_network, gpt, lenet

# Every workload, with fewer features.
SMALL = {
    "logistic": dense_network("logistic", (5, 4, 1), 6, "sigmoid"),
    "mlp-small": dense_network("mlp-small", (9, 7, 4), 3, "sigmoid"),
    "mlp": dense_network("mlp", (12, 8, 5), 6, "sigmoid"),
    "mlp-wide": dense_network("mlp-wide", (9, 11, 10, 5), 7, "relu"),
    "lenet-128": lenet("lenet-128", 6, (2, 3), 7, 12),
    "lenet-8": lenet("lenet-8", 3, (3, 4), 7, 8),
    "char-lstm": char_lstm("char-lstm", 3, 6, 5, width=4, entries=7),
    "gpt-pico": gpt("gpt-pico", 3, 5, 8, 2, 2, entries=7),
    "gpt-nano": gpt("gpt-nano", 2, 6, 16, 3, 4, entries=9),
}
