"""A convolution and the max-pooling behind it."""
