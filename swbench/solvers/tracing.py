"""Checks whether operations are being traced or transformed, in every call, at 0.1 µs each."""

import torch

tracing = torch._C._get_tracing_state
"""Returns the active trace of `torch.jit.trace`, or None. `torch.jit.is_tracing` takes several
times as long.
"""

transforming = torch._C._are_functorch_transforms_active
"""Returns whether a transform of `torch.func` (`grad`, `vmap`, `jvp` …) is active. Forward-mode
differentiation without one is `forward_ad._current_level >= 0`.
"""
