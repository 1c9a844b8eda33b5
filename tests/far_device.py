"""A pretended accelerator for machines without one. Its tensors compute on the CPU, say
that they are on the device `far`, and refuse what a GPU refuses: to be mixed with
tensors of the CPU (0-d ones, and indices into a far tensor, excepted), to become numpy
arrays, to draw from a generator of the CPU.
As `mps` it refuses float64, too, as an Apple GPU does; as `cuda` it takes it. Speed,
streams, graphs, compilation and autocast are not pretended.

`begin('mps')` turns it on for the rest of the process: use it in a process of its
own."""
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
# what its messages say
REFUSALS = ("on the same device", "support float64", "to numpy",
            "device type for generator", "indices should be")
_setup_privateuseone_for_python_backend(NAME)
# so that `torch.autocast(enabled=False)` can be asked for
getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
device = torch.device(NAME, 0)
aten, cpu = torch.ops.aten, torch.device("cpu")
# indices may be on the CPU
LOOKS_UP = {aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put_.default,
            aten.index_put.default, aten._index_put_impl_.default}
# lenient: everything is allowed, so that a cell that was refused can leave its names to
# the next
state = dict(float64=False, lenient=False)


class FarGenerator(torch.Generator):
    "Random numbers of the far device."


class Far(torch.Tensor):
    "A tensor on the far device: `near` holds its numbers."
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near):
        if near.dtype == torch.float64 and not (state["float64"] or state["lenient"]):
            raise TypeError("Cannot convert a far tensor to float64: this device "
                            "doesn't support float64. Please use float32 instead.")
        self = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, strides=near.stride(),
            storage_offset=near.storage_offset(), dtype=near.dtype, device=device)
        self.near = near
        return self

    def __repr__(self, **_):
        return f"far {self.near}"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return operate(operator, args, kwargs or {})


def far(t):
    return isinstance(t, Far)


def near(t):
    return t.near if far(t) else t


def check(operator, args, tensors, leaves):
    "Refuse what a GPU refuses."
    if operator in LOOKS_UP:
        indices, values = ([i for i in args[1] if isinstance(i, torch.Tensor)],
                           [args[2]] if len(args) > 2 else [])
        if not far(args[0]) and any(map(far, indices)):
            raise RuntimeError("indices should be either on cpu or on the same device "
                               "as the indexed tensor (cpu)")
        tensors = [args[0], *values]
    elif operator is not aten.copy_.default and any(
            isinstance(g, torch.Generator) and not isinstance(g, FarGenerator)
            for g in leaves):
        raise RuntimeError(
            f"Expected a 'far' device type for generator but found 'cpu' ({operator})")
    if (operator is not aten.copy_.default and any(map(far, tensors))
            and any(not far(t) and t.dim() for t in tensors)):
        raise RuntimeError("Expected all tensors to be on the same device, but found "
                           f"at least two devices, far and cpu ({operator})")


def operate(operator, args, kwargs):
    "One operation of ATen: done on the CPU, its result far if something in it is."
    leaves = tree_leaves((args, kwargs))
    tensors, asked = ([t for t in leaves if isinstance(t, torch.Tensor)],
                      kwargs.get("device"))
    there = (any(map(far, tensors))
             or (asked is not None and torch.device(asked).type == NAME))
    if operator is aten._to_copy.default:
        there = far(args[0]) if asked is None else torch.device(asked).type == NAME
        out = operator(near(args[0]), **{k: v for k, v in kwargs.items()
                                         if k not in ("device", "non_blocking")})
        return Far(out) if there else out
    if operator is aten._pin_memory.default:
        return args[0]
    if there and not state["lenient"]:
        check(operator, args, tensors, leaves)
    args_near, kwargs_near = tree_map(near, args), tree_map(near, kwargs)
    if asked is not None:
        kwargs_near["device"] = cpu
    out = operator(*args_near, **kwargs_near)
    name = operator._schema.name
    if (isinstance(out, torch.Tensor) and name.endswith("_") and not name.endswith("__")
            and operator is not aten.set_.source_Storage):
        # in place
        return args[0]
    if operator is aten.copy_.default:
        there = far(args[0])
    return tree_map(lambda t: Far(t) if isinstance(t, torch.Tensor) and not far(t)
                              else t, out) if there else out


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return operate(operator, args, kwargs or {})


class MoveThere(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return Far(t.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return near(gradient).clone()


class MoveHere(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return t.near.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient if far(gradient) else Far(gradient.clone())


def moved(t, there):
    "`t` on the far device, or on the CPU."
    if far(t) == there:
        return t
    if t.requires_grad and torch.is_grad_enabled():
        return (MoveThere if there else MoveHere).apply(t)
    return Far(t.detach().clone()) if there else t.near.detach().clone()


def is_far(word):
    return ((isinstance(word, torch.device) and word.type == NAME)
            or (isinstance(word, str) and word.split(":")[0] == NAME))


class Calls(TorchFunctionMode):
    """Calls that name a device: done without its name, the result moved. Torch itself
    would ask for a real one."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if function is torch.device or name in ("_parse_to", "manual_seed", "fork_rng"):
            return function(*args, **kwargs)
        if name == "to":
            return (function(*args, **kwargs)
                    if "meta" in map(str, [*args[1:], kwargs.get("device")])
                    else self.to(*args, **kwargs))
        if name == "cpu":
            return moved(args[0], False)
        if name == "tensor" and args and isinstance(args[0], (list, tuple)):
            # a list of 0-d tensors: read one by one
            args = tree_map(near, args)
        if name == "new_tensor" and far(args[0]):
            return Far(args[0].near.new_tensor(*args[1:], **kwargs))
        if name == "tolist" and far(args[0]):
            return args[0].near.tolist()
        if name in ("numpy", "__array__", "__dlpack__") and far(args[0]):
            if state["lenient"]:
                return args[0].near.detach().numpy()
            raise TypeError("can't convert far device type tensor to numpy. Use "
                            "Tensor.cpu() to copy the tensor to host memory first.")
        if any(map(is_far, args)) or is_far(kwargs.get("device")):
            generator = kwargs.get("generator")
            if isinstance(generator, torch.Generator) and not isinstance(
                    generator, FarGenerator) and not state["lenient"]:
                raise RuntimeError("Expected a 'far' device type for generator but "
                                   f"found 'cpu' ({name})")
            if is_far(kwargs.get("device")):
                kwargs["device"] = cpu
            out = function(*(cpu if is_far(a) else a for a in args), **kwargs)
            return moved(out, True) if isinstance(out, torch.Tensor) else out
        return function(*args, **kwargs)

    def to(self, t, *words, **named):
        words = [*words, *(named.get(k) for k in ("device", "dtype", "other"))]
        target, dtype = (t.device,
                         next((w for w in words if isinstance(w, torch.dtype)), None))
        for word in words:
            if isinstance(word, torch.Tensor):
                target, dtype = word.device, word.dtype
            elif isinstance(word, (torch.device, str)):
                target = torch.device(word)
        if dtype is not None and dtype != t.dtype:
            # the device comes before the type, as in `.to('cpu', torch.float64)`
            goes = far(t) and target.type != NAME and dtype == torch.float64
            t = aten._to_copy.default(moved(t, False) if goes else t, dtype=dtype)
        return moved(t, target.type == NAME)


def begin(pretend="mps"):
    """Turn the far device on for the rest of the process: `mps` refuses float64, `cuda`
    takes it. `fit` and `pick_device` then take it for the fastest."""
    from vae_course import acceleration, data, devices, elbo
    state["float64"] = pretend == "cuda"
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    Operations().__enter__(), Calls().__enter__()
    devices.available_devices = lambda: [NAME, "cpu"]
    acceleration.compiled = lambda function: function
    acceleration.Trial.fastest = lambda self, best, changes: (
        best, self.run.accelerated(best))

    def on_device(generator, where):
        if generator is None or where.type == "cpu":
            return generator
        return FarGenerator().manual_seed(
            torch.randint(2**62, (1,), generator=generator).item())

    for room in (data, devices, elbo):
        room.on_device = on_device
