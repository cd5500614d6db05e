"""The native library: loaded from beside this file, connected to the OpenMP runtime of torch and
set to this processor.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from swbench.native import sources

if TYPE_CHECKING:
    from torch import Tensor, dtype

SWITCH = "SWBENCH_NATIVE"
"""Environment variable: `off` leaves the library alone; the name of an instruction set (`v3`,
`generic`) asks for that one.
"""
REMEDY = (
    "install a C compiler and swbench again, with pip's --no-cache-dir, or in a checkout run "
    "`python setup.py build_ext --inplace`"
)

_P, _L, _I, _O = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.py_object
_SHAPE = (
    _L,
    _L,
    _L,
    _I,
    _I,
    _I,
    _I,
)  # images, channels, pixels, group, channels_last, element, threads


class Layer(ctypes.Structure):
    """`struct layer` of `src/algebra.h`, where the fields are explained."""

    _fields_ = (
        ("statistics", _P),
        ("kinds", _I),
        ("images", _L),
        ("groups", _L),
        ("group", _I),
        ("shared", _I),
        ("eps", ctypes.c_float),
        ("per_pixel", ctypes.c_double),
        ("share", ctypes.c_double),
        *(
            (name, _P)
            for name in (
                "mean",
                "cov",
                "batch_mean",
                "batch_cov",
                "gamma",
                "beta",
                "mean_logits",
                "cov_logits",
            )
        ),
        *((name, _P) for name in ("a", "b", "w", "mixed_mean", "norm", "m", "s", "shift")),
        *(
            (name, _P)
            for name in (
                "grad_b",
                "grad_c",
                "grad_gamma",
                "grad_beta",
                "grad_mean_logits",
                "grad_cov_logits",
            )
        ),
    )


class FusedLayer(ctypes.Structure):
    """`struct fused_layer` of `src/fused_layer.h`, where the fields are explained."""

    _fields_ = (
        *((name, _L) for name in ("images", "channels", "pixels", "centre")),
        ("group", _I),
        ("channels_last", _I),
        ("element", _I),
        ("statistics", _P),
        *((name, _I) for name in ("kinds", "uses_batch", "uses_image", "training")),
        ("eps", ctypes.c_float),
        ("fresh", ctypes.c_float),
    )


_SIGNATURES = {
    "sw_sources": (ctypes.c_char_p, ()),
    "sw_compiler": (ctypes.c_char_p, ()),
    "sw_set_openmp": (None, (_P,)),
    "sw_select": (ctypes.c_char_p, (ctypes.c_char_p,)),
    "sw_moments": (_I, (_P, _P, _P, _P, *_SHAPE)),
    "sw_products": (_I, (_P, _P, _P, _P, _P, *_SHAPE)),
    "sw_affine": (None, (_P, _P, _P, _I, _P, *_SHAPE)),
    "sw_combine": (None, (_P, _P, _P, _I, _P, _P, _I, _P, *_SHAPE)),
    "sw_mix_and_solve": (_I, (ctypes.POINTER(Layer), _I)),
    "sw_small_gradients": (_I, (ctypes.POINTER(Layer), _I)),
    "sw_workspace": (_L, (ctypes.POINTER(FusedLayer),)),
    "sw_forward": (_I, (*10 * (_P,), _I)),
    "sw_backward": (_I, (*9 * (_P,), _I)),
    "sw_inverse_sqrt": (None, (_P, _P, _P, _L, _I, _I)),
    "sw_inverse_sqrt_gradient": (None, (_P, _P, _P, _P, _L, _I, _I)),
}
_WITH_GIL = {  # work on Python's objects and need its lock
    "sw_read_tensors": (_I, (_P, *4 * (_O,))),
    "sw_function": (_O, (_I,)),
}
UNSUPPORTED = 2
"""Result of a function of tensors that did nothing, because C cannot read one of them as it is."""
MAX_GROUP = 64
"""The largest G of any kernel."""


def _runtime() -> int | None:
    """The address of GOMP_parallel in the OpenMP runtime this process has loaded already; None
    without one.
    """
    import torch

    torch.get_num_threads()  # loads it
    try:
        mapped = {
            line.split(maxsplit=5)[-1].strip()
            for line in os.fsdecode(Path("/proc/self/maps").read_bytes()).splitlines()
        }
    except OSError:
        mapped = {str(path) for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*")}
    for path in _openmp(mapped, Path(torch.__file__).parent):
        with contextlib.suppress(OSError):  # the file of a library in use may be gone
            function = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
            if function is not None:
                return ctypes.cast(function, ctypes.c_void_p).value
    return None


def _openmp(mapped: Iterable[str], torch_folder: Path) -> list[str]:
    """The OpenMP runtimes among the `mapped` files, torch's own first: other packages bring theirs,
    with a pool of threads of its own.
    """
    runtimes = (
        path for path in mapped if Path(path).name.startswith(("libgomp", "libiomp5", "libomp"))
    )
    return sorted(runtimes, key=lambda path: (torch_folder not in Path(path).parents, path))


def _exchange() -> int | None:
    """The address of the functions by which C reads torch's tensors (DLPack's exchange table);
    None before torch 2.10.
    """
    import torch

    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    pointer = ctypes.PYFUNCTYPE(_P, _O, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    return pointer(capsule, b"dlpack_exchange_api")


@cache
def load() -> ctypes.CDLL | str:
    """The library, its functions typed, connected to torch's threads and tensors; or the reason why
    it cannot be used, with a remedy.
    """
    library = _open()
    if not isinstance(library, str):
        import torch

        library.sw_set_openmp(_runtime())
        library.sw_read_tensors(
            _exchange(), torch.Tensor, torch.nn.Parameter, torch.Tensor.is_neg, None
        )
    return library


def _open() -> ctypes.CDLL | str:
    """The library before it is connected to torch, or the reason why it cannot be used."""
    wanted = os.environ.get(SWITCH, "")
    if wanted == "off":
        return f"the native kernels are switched off by {SWITCH}=off"
    path = Path(__file__).with_name("_kernels.so")
    if not path.exists():
        return f"the native kernels are not built: {REMEDY}"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        locked = ctypes.PyDLL(str(path), handle=library._handle)
        for name, (result, arguments) in _WITH_GIL.items():
            function = getattr(locked, name)
            function.restype, function.argtypes = result, arguments
            setattr(library, name, function)
        for is_backward, name in enumerate(("sw_forward_tensors", "sw_backward_tensors")):
            setattr(library, name, library.sw_function(is_backward))
    except (OSError, AttributeError) as problem:
        return f"the native kernels do not load ({problem}): {REMEDY}"
    expected = sources.digest()
    if expected is not None and library.sw_sources().decode() != expected:
        return f"the native kernels were built from other sources: {REMEDY}"
    if library.sw_select(wanted.encode()) is None:
        return (
            f"{SWITCH}={wanted}: this processor or this build has no such instruction set; "
            "leave it unset for the best"
        )
    return library


def missing() -> str | None:
    """The reason why the library cannot be used here, with a remedy; None if it can."""
    loaded = load()
    return loaded if isinstance(loaded, str) else None


def facts() -> dict[str, str | None]:
    """Facts that bear on timings: the instruction set in use, the compiler, and whether `C` reads
    the tensors of a layer or Python passes their addresses (`ctypes`); or why the library is
    `missing`.
    """
    loaded = load()
    if isinstance(loaded, str):
        return {"missing": loaded}
    return {
        "instructions": select(os.environ.get(SWITCH, "")),
        "compiler": loaded.sw_compiler().decode(),
        "calls": "ctypes" if _exchange() is None else "C",
    }


def summary() -> str:
    """One line about the kernels, for `--version`. Does not import torch."""
    library = _open()
    if isinstance(library, str):
        return f"no native kernels ({library})"
    instructions = library.sw_select(os.environ.get(SWITCH, "").encode()).decode()
    return f"native kernels {instructions} ({library.sw_compiler().decode()})"


@cache
def elements() -> "dict[dtype, int]":
    """`enum element` of `src/element.h`: the dtypes that inputs of layers may have in C."""
    import torch

    return {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def reads(tensor: "Tensor", half: bool = False) -> bool:
    """Whether C may read the memory of `tensor`: float32, or with `half` any of the `elements`, on
    the CPU, not fake nor a zero without memory, and not being traced by a compiler.
    """
    import torch

    plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
    # Not `is_compiling`, which is true of real tensors too while a compiler works.
    return (
        plain
        and (tensor.dtype == torch.float32 or (half and tensor.dtype in elements()))
        and tensor.is_cpu
        and not torch.compiler.is_dynamo_compiling()
        and not tensor._is_zerotensor()
    )


def has_memory(tensor: "Tensor") -> bool:
    """Whether a plain `tensor` has memory of its own to give C. Tensors of `vmap`, and of a batch
    of gradients (`is_grads_batched`), have none.
    """
    try:
        tensor.data_ptr()
    except RuntimeError:
        import torch

        return type(tensor) is not torch.Tensor
    return True


def select(name: str = "") -> str | None:
    """Use the instruction set `name`, or the best one if it is empty. Returns the name in use;
    None, and changes nothing, where this processor or build lacks it.
    """
    loaded = load()
    chosen = None if isinstance(loaded, str) else loaded.sw_select(name.encode())
    return None if chosen is None else chosen.decode()
