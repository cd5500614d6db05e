"""Calibration of a profile's roof: the arithmetic rate and the bandwidth that this machine reaches
now, with these threads and this dtype.
"""

import torch

from swbench.probes.machine_peak import rates
from swbench.profile.types import Roof


def calibrate(
    device: torch.device,
    dtype: torch.dtype,
    sides: tuple[int, ...] = (),
    copy_bytes: int | None = None,
) -> Roof:
    """The roof for `dtype` on `device` with the present number of threads, measured by
    `swbench.probes.machine_peak`.
    """
    flops_per_s, bytes_per_s = rates(device, dtype, sides, copy_bytes)
    return Roof(flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)


def higher_rates(first: Roof, second: Roof) -> Roof:
    """The higher value of each rate from two calibrations, one before and one after the profile."""
    return Roof(
        flops_per_s=max(first.flops_per_s, second.flops_per_s),
        bytes_per_s=max(first.bytes_per_s, second.bytes_per_s),
    )
