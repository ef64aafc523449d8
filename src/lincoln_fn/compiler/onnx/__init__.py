"""Steps and predictions as ONNX files: forward, backward and update in one graph.

A backward pass that calls forward operations alone can be written in any runtime's operations.
"""
