"""A convolution and the max-pooling after it, forward and backward."""
