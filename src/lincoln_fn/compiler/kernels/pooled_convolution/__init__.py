"""A convolution and the max-pooling behind it, forward and backward."""
