"""The passes and the small algebra of a whitening layer in Triton. Importing this package does not import Triton; its kernel modules do.

| file | what it is |
|---|---|
| `plan` | blocks, splits and warps from the shape alone |
| `place` | where a program's rows and pixels lie in a tensor |
| `sums` | Σ(x − s)(x − s)ᵀ and Σ dy (x − s)ᵀ, in parts |
| `maps` | y = A x + b and dx = Aᵀ dy + B x + c |
| `set` | the kernel set |
"""
