"""Loss and gradient on an NVIDIA GPU, with CuPy and ONNX Runtime's CUDA provider."""
