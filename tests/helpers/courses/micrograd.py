"""A Value as micrograd has it; `mul` overwrites where one value is used twice."""

import math


class Value:
    def __init__(self, data, children=()):
        self.data, self.grad = data, 0.0
        self._backward = lambda: None
        self._prev = children

    def __add__(self, other):
        out = Value(self.data + other.data, (self, other))

        def back():
            self.grad += out.grad
            other.grad += out.grad

        out._backward = back
        return out

    def __mul__(self, other):
        out = Value(self.data * other.data, (self, other))

        def back():
            self.grad = other.data * out.grad
            other.grad = self.data * out.grad

        out._backward = back
        return out

    def __pow__(self, n):
        out = Value(self.data**n, (self,))

        def back():
            self.grad += n * self.data ** (n - 1) * out.grad

        out._backward = back
        return out

    def relu(self):
        out = Value(max(0.0, self.data), (self,))

        def back():
            self.grad += (out.data > 0) * out.grad

        out._backward = back
        return out

    def tanh(self):
        out = Value(math.tanh(self.data), (self,))

        def back():
            self.grad += (1 - out.data) * out.grad

        out._backward = back
        return out

    def exp(self):
        out = Value(math.exp(self.data), (self,))

        def back():
            self.grad += out.data * out.grad

        out._backward = back
        return out

    def backward(self):
        order, seen = [], set()

        def visit(v):
            if v not in seen:
                seen.add(v)
                for child in v._prev:
                    visit(child)
                order.append(v)

        visit(self)
        self.grad = 1.0
        for v in reversed(order):
            v._backward()
