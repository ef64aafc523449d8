"""A GPU that nobody has: tensors that say they are on another device, and hold their numbers here.

    with Accelerator() as gpu:
        x = gpu.move(torch.ones(3))     x.device is DEVICE
        x + torch.ones(3)               raises: the devices mix
        x.sum().item()                  works, and gpu.synchronised lists it

An operation on tensors of two devices raises, as CUDA's kernels do. As there, a number on the CPU,
a tensor without axes, may stand beside one tensor of the device in an elementwise operation, and
indices may be on the CPU.
"""

import functools

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf

# Of the names that torch knows, the one for which it has what surrounds a kernel, and no kernel.
DEVICE = torch.device("lazy", 0)
CPU = torch.device("cpu")
ATEN = torch.ops.aten

# Operations that wait for the device, since a number of it decides a shape or is read.
_READING = {
    *(ATEN._local_scalar_dense, ATEN._linalg_check_errors, ATEN.equal, ATEN.nonzero),
    *(ATEN.masked_select, ATEN.bincount, ATEN.repeat_interleave),
    *(ATEN._unique2, ATEN.unique_dim, ATEN.unique_consecutive),
}
# Operations that take indices of either device, and wait for a mask.
_INDEXED = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_}
_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_COPIES = {ATEN._to_copy, ATEN.copy_, ATEN.copy}
_NOTED = _READING | _INDEXED | _COPIES
_WITH_NUMBER = {ATEN.where, ATEN.masked_fill, ATEN.masked_fill_}


class OnDevice(torch.Tensor):
    """A tensor of the device: it shares the memory of its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)  # which torch also asks for, by an operation

    @staticmethod
    def __new__(cls, numbers):
        made = torch.Tensor._make_subclass(cls, numbers, dispatch_device=True)
        made.numbers = numbers
        return made

    def __repr__(self):
        return f"{self.numbers!r} on {DEVICE}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return DEVICE
        return _run(func, args, kwargs or {}, None)


class Accelerator(TorchDispatchMode):
    """The device, which lists what keeps it waiting.

    Attributes:
        made_on_cpu: the operations that made a tensor on the CPU.
        synchronised: the operations that read a number of the device, or moved one to it.
    """

    @classmethod
    def _should_skip_dynamo(cls):  # which would import it
        return False

    def __init__(self):
        super().__init__()
        self.made_on_cpu, self.synchronised = [], []

    def __enter__(self):
        # `torch.tensor(..., device=)` then makes its numbers here, and moves them by an operation.
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self.before)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default and type(args[0]) is OnDevice:
            return DEVICE
        if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
            return func(*args, **(kwargs or {}))  # fake tensors, which say where they are
        return _run(func, args, kwargs or {}, self)

    @staticmethod
    def move(arrays):
        """Move a tree of tensors to the device, by no operation that is listed."""

        def move(leaf):
            if type(leaf) is OnDevice or not isinstance(leaf, torch.Tensor):
                return leaf
            return OnDevice(leaf.detach().clone())

        return lf.tree.map(move, arrays, states=True)


def here(arrays):
    """Move a tree of tensors back, by no operation that is listed."""
    return lf.tree.map(lambda leaf: getattr(leaf, "numbers", leaf), arrays, states=True)


def _run(func, args, kwargs, gpu):
    """Run an operation on the numbers, and say on which device its results are."""
    on_device, beside, on_meta = [], [], []

    def plain(value):
        if isinstance(value, torch.Tensor):
            if type(value) is OnDevice:
                on_device.append(value)
                return value.numbers
            (on_meta if value.is_meta else beside).append(value)
        elif isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return value

    numbers = [plain(value) for value in args]
    options = {name: plain(value) for name, value in kwargs.items()} if kwargs else {}
    device = options.get("device") if kwargs else None
    if device is None:
        device = DEVICE if on_device else CPU
    elif device.type == DEVICE.type:
        options["device"] = CPU
    if func.overloadpacket is ATEN.copy_:
        device = args[0].device
    if on_device and beside:
        _check(func, on_device, beside)
    if gpu is not None and func.overloadpacket in _NOTED:
        _note(func.overloadpacket, on_device, beside, device, gpu)
    is_new = func.overloadpacket is ATEN.lift_fresh or not (on_device or beside or on_meta)
    if gpu is not None and is_new and device == CPU and _makes_tensors(func):
        gpu.made_on_cpu.append(str(func))
    result = func(*numbers, **options)
    return _placed(result, on_device) if device.type == DEVICE.type else result


def _placed(result, on_device):
    """Say that a result is on the device."""
    if isinstance(result, list | tuple):
        return type(result)([_placed(each, on_device) for each in result])
    if type(result) is not torch.Tensor or result.is_meta:
        return result
    for owner in on_device:  # one that was changed in place stays the tensor that it is
        if owner.numbers is result:
            if owner.shape != result.shape:  # as by `squeeze_`
                strided = result.shape, result.stride(), result.storage_offset()
                ATEN.as_strided_.default.redispatch(_KERNELS, owner, *strided)
            return owner
    return OnDevice(result)


@functools.cache
def _takes_number(func):
    """Whether a number on the CPU may stand beside a tensor of the device."""
    tensors = [each for each in func._schema.arguments if str(each.type).startswith("Tensor")]
    is_binary = torch.Tag.pointwise in func.tags and len(tensors) == 2
    return is_binary or func.overloadpacket in _WITH_NUMBER


def _check(func, on_device, beside):
    """Raise where an operation mixes devices, as CUDA does."""
    is_free = func.overloadpacket in _COPIES | _INDEXED
    if not is_free and not (_takes_number(func) and all(value.ndim == 0 for value in beside)):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and cpu! ({func})"
        )


@functools.cache
def _makes_tensors(func):
    return any("Tensor" in str(each.type) for each in func._schema.returns)


def _note(packet, on_device, beside, device, gpu):
    """List what keeps the device waiting."""
    if (
        (packet in _READING and on_device)
        or (packet in _COPIES and (beside if device == DEVICE else on_device and device == CPU))
        or (packet in _INDEXED and any(value.dtype is torch.bool for value in on_device[1:]))
    ):
        gpu.synchronised.append(str(packet))
