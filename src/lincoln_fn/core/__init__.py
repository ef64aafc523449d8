"""What every room builds on: records, trees, keys and the layer protocol."""
