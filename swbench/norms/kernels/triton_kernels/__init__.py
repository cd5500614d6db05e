"""The passes and the small algebra of a whitening layer in Triton. Importing this package does not
import Triton; its kernel modules do.

| file | contents |
|---|---|
| `backend` | the backend `triton`: which tensors it takes, and its entry points |
| `autograd_function` | a fused layer's forward and backward, also as one autograd function |
| `fused_plan` | a fused layer as a list of launches, decided once for a shape |
| `layer_config` | the decisions for a layer of one shape, and the tensors that its launches share |
| `workspace` | one allocation for many small tensors |
| `launch` | a kernel with all arguments but its tensors |
| `passes` | one pass at a time, where the small algebra is torch's |
| `plan` | blocks, parts and warps, from the shape alone |
| `indexing` | the rows and pixels of a program in a tensor |
| `sums` | kernel: Σ(x − s)(x − s)ᵀ and Σ dy (x − s)ᵀ, in parts |
| `maps` | kernel: y = A (x − μ̂) + β and dx = Aᵀ dy + B (x − μ) + c |
| `merge` | kernels: statistics and sums over the images of a batch |
| `solve` | kernel: from sums to A and μ̂ |
| `small_gradients` | kernels: from sums to the gradients of the small matrices |
| `mixture` | the weights of switchable whitening |
"""
