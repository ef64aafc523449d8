"""How Inductor calls this library's operations from its own code in C++, and reuses memory.

Inductor calls an operation that it does not know through Python, and such a call takes as long as a
small loop. So the code of a C++ kernel is written into Inductor's code. A product by oneDNN is
called as torch's own operations are.

The last loop that reads a tensor may put its result in the tensor's memory: y = f(z) in that of z.
Inductor also counts loops that only have to run later, because they update what the tensor was
computed from, as a donated weight's update does. So a donated step would reuse almost no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import torch
from torch._inductor import ir, mkldnn_ir
from torch._inductor.custom_graph_pass import CustomSchedulerPass
from torch._inductor.lowering import empty_strided, permute, register_lowering
from torch._inductor.virtualized import V
from torch.fx.node import map_arg

from lincoln_fn.compiler import cpp_kernel
from lincoln_fn.compiler.cpp_kernel import POINTERS, CppKernel, flatten_arguments, result_of
from lincoln_fn.compiler.passes.rewriting import mm_by_onednn
from lincoln_fn.fastpath import Operation

Box: TypeAlias = Any  # Any: Inductor's own tensors, layouts and writer, of no public type


@cache
def lower() -> None:
    """Register the operations with Inductor, for as long as the process lives."""
    register_lowering(mm_by_onednn, type_promotion_kind=None)(_product)
    for operation, kernel in cpp_kernel.CPP_KERNELS.items():
        lowered = partial(_lower_call, operation, kernel)
        register_lowering(operation, type_promotion_kind=None)(lowered)


class Call(ir.ExternKernel):
    """A call of a kernel that updates some of its arguments in place."""

    # If it makes one tensor, Inductor sees the call as that tensor, and its loops may update it in
    # place.

    def __init__(
        self,
        name: str,
        code: Callable[[str], str],
        tensors: list[Box],
        written: list[Box],
        like: torch.Tensor | None,
    ) -> None:
        cpu = torch.device("cpu")
        nowhere = ir.NoneLayout(device=cpu)
        layout: Box = nowhere
        if like is not None:
            layout = ir.FixedLayout(cpu, like.dtype, [*like.shape], [*like.stride()])
        super().__init__(None, layout, self.unwrap_storage(tensors), ())
        self.loop, self.code = name, code
        self.name = V.graph.register_buffer(self)
        V.graph.register_operation(self)
        self.mutation_outputs = [ir.MutationOutput(nowhere, x, self) for x in written]

    def codegen(self, wrapper: Box) -> None:
        """Write the call, and before the first call the code of the kernel."""
        names, key = wrapper.src_to_kernel, self.code(self.loop)
        if key not in names:
            names[key] = f"{self.loop}_{wrapper.next_kernel_suffix()}"
            code = self.code(names[key])
            head = code[code.rindex('extern "C"') :].partition("{")[0]
            wrapper.define_kernel(names[key], code, gpu=False, cpp_definition=f"{head};")
        own = [self] if self.should_allocate() else []
        tensors: list[Box] = [*self.inputs, *own]
        pointers = [
            f"({POINTERS[x.get_dtype()]})({x.get_name()}.data_ptr()) + {x.get_layout().offset}"
            for x in tensors
        ]
        wrapper.writeline(f"{names[key]}({', '.join(pointers)});")

    def should_allocate(self) -> bool:
        """Return whether the result is a new tensor, and not one of the arguments."""
        return not isinstance(self.layout, ir.NoneLayout)


def _lower_call(operation: Operation, kernel: CppKernel, *arguments: Box) -> Box:
    like = map_arg(V.graph.current_node.args, lambda node: node.meta["val"])
    outputs, _ = kernel.plan(*like)
    tensors, written = [], []
    for one_or_more, its, argument in zip(
        arguments, like, operation._schema.arguments, strict=True
    ):
        for x, traced in zip(
            flatten_arguments((one_or_more,)), flatten_arguments((its,)), strict=True
        ):
            if isinstance(x, ir.TensorBox):
                tensors.append(_require_strides(x, traced))
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written.append(tensors[-1])
    code = partial(kernel.code, like)
    if len(outputs) == 1 and not written:
        return ir.TensorBox.create(Call(kernel.name, code, tensors, [], outputs[0]))
    empty = tuple(
        [empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu") for x in outputs]
    )
    Call(kernel.name, code, [*tensors, *empty], [*empty, *written], None)
    return result_of(empty)


def _require_strides(x: Box, traced: torch.Tensor) -> Box:
    if traced.is_contiguous():
        return ir.ExternKernel.require_contiguous(ir.ExternKernel.realize_input(x))
    return ir.ExternKernel.require_exact_strides(x, traced.stride())


def _product(a: Box, b: Box) -> Box:
    x = ir.ExternKernel.require_contiguous(ir.ExternKernel.realize_input(a))
    weight = ir.ExternKernel.realize_input(permute(b, [1, 0]))
    size = [x.get_size()[0], weight.get_size()[0]]
    layout = ir.FixedLayout(x.get_device_or_error(), x.get_dtype(), size)
    return ir.TensorBox.create(mkldnn_ir.LinearUnary(layout, [x, weight], [None, "none", [-1], ""]))


class WithoutOrderings(CustomSchedulerPass):
    """Forgets which loops only have to run later: their order is also kept elsewhere."""

    def __call__(self, nodes: list[Box]) -> list[Box]:
        """Forget them, except for views: a view of an updated tensor needs its order."""
        for node in nodes:
            for output in node.get_outputs():
                if not output.get_aliases():
                    output.users = [user for user in output.users if not user.is_weak]
        return nodes

    def uuid(self) -> str:
        """Return its name for the key of Inductor's cache."""
        return "lincoln_fn"
