"""The backward pass of a convolution behind which there is max-pooling."""
