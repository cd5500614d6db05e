"""The passes and the small algebra of a whitening layer in Triton. Importing this package does not
import Triton; its kernel modules do.

| file | what it is |
|---|---|
| `set` | the kernel set |
| `plan` | blocks, parts and warps, from the shape alone |
| `place` | where a program's rows and pixels lie in a tensor |
| `sums` | Σ(x − s)(x − s)ᵀ and Σ dy (x − s)ᵀ, in parts |
| `maps` | y = A (x − μ̂) + β and dx = Aᵀ dy + B (x − μ) + c |
| `merge` | what several images have in common |
| `solve`, `small` | the small matrices, there and back |
| `mixture` | the weights of switchable whitening |
| `launches` | one pass at a time, for `Kernels` |
| `form`, `room` | what a layer of one shape comes to, and where its small tensors lie |
| `launch`, `whole`, `function` | the whole layer in as few calls as can be |
"""
