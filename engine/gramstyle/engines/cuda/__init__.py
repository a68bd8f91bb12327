"""The evaluation on an NVIDIA GPU."""
