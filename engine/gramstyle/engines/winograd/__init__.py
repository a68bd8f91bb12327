"""Convolutions with fewer multiplications: F(4×4, 3×3), in strips, positions before channels.

A direct 3×3 convolution takes 9 multiplications for each output, channel and filter. Winograd's
minimal filtering computes a tile of 4×4 outputs from 6×6 inputs with 36, four times fewer, so it
passes what any direct convolution can reach on the machine. It costs a digit of float32, and no
more (docs/performance.md).

- `algorithm` is what to read: the three matrices, and a convolution with its backward in NumPy;
- `lanes` gives Numba eight floats that are worked on at once; the only `import numba`;
- `tiles` takes tiles to the transformed domain and back, what stands next to them (ReLU, mask,
  bias, pooling) done on the way;
- `passes` runs a network forward and backward in strips of tiles, on several threads.
"""
