"""Loops whose length is an argument, in Triton's interpreter with numpy 2.4 or later."""

from functools import cache

from swbench.solvers.triton_kernels import interpreted


@cache
def patch_interpreter() -> None:
    """Let the interpreter's scalars be bounds of `range`. They are arrays of one element, which
    numpy converted to integers before 2.4.

    Does nothing where kernels are compiled, or where the interpreter has changed.
    """
    if not interpreted():
        return
    from triton.runtime import interpreter

    original = getattr(interpreter, "_patch_lang_tensor", None)
    if original is None:
        return

    def patched(tensor: type, *rest: object) -> None:
        original(tensor, *rest)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched
