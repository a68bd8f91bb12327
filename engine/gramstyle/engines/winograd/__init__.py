"""Convolutions with fewer multiplications: F(4×4, 3×3) and F(6×6, 3×3), in strips of tiles.

A direct 3×3 convolution takes 9 multiplications for each output, channel and filter. Winograd's
minimal filtering computes a tile of 4×4 outputs from 6×6 inputs with 36, a quarter of that, and a
tile of 6×6 outputs from 8×8 inputs with 64, a fifth. It is therefore faster than any direct
convolution on the same machine. It costs one digit of float32 (docs/performance.md).

- `algorithm` is the module to read first: the three matrices, and a convolution in NumPy;
- `layout` stores responses channels last, padded to the width of a register;
- `simd` gives Numba a type for a register of floats;
- `tiles` generates the transforms of one tile from the matrices;
- `transforms` transforms strips and back, and applies bias, ReLU, masks and pooling on the way;
- `kernel_panels` transforms the kernels, and `products` multiplies by them panel by panel;
- `masks` applies masks outside a convolution;
- `channels_first` converts the responses of ONNX Runtime;
- `convolution` computes one convolution of a whole image on several threads;
- `passes` runs a network forward and backward, with `blocks`, `storage` and
  `first_layer`;
- `kernels` computes the loss terms on responses stored channels last, with `seeds`.
"""
