"""Check the CUDA code on a GPU, and time it against PyTorch on the same GPU.

    PYTHONPATH=engine python -m tools.gpu_check [--json FILE] [--seconds 240] [--model FILE]
                                                [--on cpu]

Run it from the repository's root. It needs CuPy, NumPy, SciPy, onnx and Pillow; with PyTorch it
also compares speed. Each part has a share of the seconds. A part that fails or runs out of time
does not stop the others, and the report says "not measured" for what was skipped.

The modules, in the order in which a run uses them:

    lacking     stand-ins for two small packages that a bare machine may lack
    stand_in    NumPy in CuPy's place, for --on cpu and for the tests
    parts       runs each part within its time, and collects its outcome
    kernels     every CUDA kernel, every kernel of the engine, and the forward pass
    kit         the conformance kit on the device
    objective   an objective of VGG-19's shape, on the device and as plain numbers
    timing      an evaluation and the iterations, and the peak of GPU memory
    pytorch     the same objective in PyTorch; the only `import torch`
    report      the table and the JSON
"""
