"""What is done with the operations of a call now, beside running them: questions that every call
asks, and that cost it 0.1 µs.
"""

import torch

tracing = torch._C._get_tracing_state
"""What `torch.jit.trace` records now, None for nothing; `torch.jit.is_tracing` costs several times
as much.
"""

transforming = torch._C._are_functorch_transforms_active
"""Whether a transform of `torch.func` (`grad`, `vmap`, `jvp` …) is at work. Forward-mode
differentiation without one is `forward_ad._current_level >= 0`.
"""
