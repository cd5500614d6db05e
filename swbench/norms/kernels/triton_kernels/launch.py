"""Launches of kernels that cost little on the host: the compiled kernel is cached and called with
addresses.

`kernel[grid](…)` binds and inspects every argument in each call. Here the numbers are part of the
launch, and where all tensors begin at multiples of 16 bytes, the kernel compiled for the first call
is valid for all.
"""

from collections.abc import Iterable
from functools import cache

import torch
import triton
from torch import Tensor

from swbench.norms.kernels.triton_kernels.workspace import Workspace
from swbench.solvers.triton_kernels import interpreted
from swbench.solvers.triton_kernels.device_guard import on_device
from swbench.solvers.triton_kernels.interpreter import patch_interpreter

patch_interpreter()

KNOWN = ("3.3", "3.4", "3.5", "3.6", "3.7")
"""Versions of Triton whose compiled kernels can be called as below: the driver gets the same
arguments (`tests/norms/test_triton_launch.py`). With others Triton's own dispatch launches them.
"""

Table = dict[str, Tensor | int | None]
"""Tensors, or their addresses, by the names that kernels give them."""


@cache
def direct() -> bool:
    """Whether compiled kernels can be called with addresses here."""
    return triton.__version__.rpartition(".")[0] in KNOWN and not interpreted()


class Launch:
    """`programs` programs of `kernel`, whose arguments are pointers by the `names` they have in a
    table (None: no tensor), `sizes` and `constants`.

    `registers` is the limit for each thread; None leaves it to the compiler, which spills a few to
    the stack rather than use many more.
    """

    def __init__(
        self,
        kernel: "triton.JITFunction",
        programs: int,
        sizes: tuple[float, ...],
        constants: dict[str, object],
        warps: int,
        names: tuple[str | None, ...],
        registers: int | None = None,
    ) -> None:
        self.kernel, self.programs, self.sizes, self.constants, self.names = (
            kernel,
            programs,
            sizes,
            constants,
            names,
        )
        self.warps, self.registers = warps, registers
        self.compiled = None

    @property
    def options(self) -> dict[str, int]:
        """The compile options of the kernel."""
        return (
            {"num_warps": self.warps}
            if self.registers is None
            else {"num_warps": self.warps, "maxnreg": self.registers}
        )

    def launch_with_tensors(self, table: Table, aligned: bool = False) -> None:
        """Launch with tensors, through Triton's own dispatch. The compiled kernel is cached if all
        tensors are `aligned`, because then it loads 16 bytes at a time.
        """
        pointers = [None if name is None else table[name] for name in self.names]
        compiled = self.kernel[(self.programs,)](
            *pointers, *self.sizes, **self.constants, **self.options
        )
        if aligned:
            self.compiled = compiled

    def launch_with_addresses(self, table: Table, stream: int) -> None:
        """Launch the compiled kernel with addresses."""
        compiled = self.compiled
        pointers = [None if name is None else table[name] for name in self.names]
        # constants are compiled in, but are still passed
        places = (*pointers, *self.sizes, *self.constants.values())
        compiled.run(
            self.programs,
            1,
            1,
            stream,
            compiled.function,
            compiled.packed_metadata,
            None,
            None,
            None,
            *places,
        )


def launch(
    launches: Iterable[Launch],
    tensors: dict[str, Tensor | None],
    workspaces: tuple[tuple[Workspace, Tensor], ...],
    device: torch.device,
) -> None:
    """Launch in order on the current stream of `device`, with `tensors` and those in `workspaces`,
    by name.
    """
    with on_device(device):
        _launch(launches, tensors, workspaces, device)


def _launch(launches, tensors, workspaces, device) -> None:
    addresses = {
        name: None if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()
    }
    aligned = not any(
        address & 15
        for address in (*addresses.values(), *(memory.data_ptr() for _, memory in workspaces))
        if address is not None
    )
    if aligned and direct() and all(launch.compiled is not None for launch in launches):
        for workspace, memory in workspaces:
            addresses.update(workspace.addresses(memory))
        stream = triton.runtime.driver.active.get_current_stream(device.index)
        for launch in launches:
            launch.launch_with_addresses(addresses, stream)
        return
    table = dict(tensors)
    for workspace, memory in workspaces:
        table.update(workspace.tensors(memory))
    for launch in launches:
        launch.launch_with_tensors(table, aligned)
