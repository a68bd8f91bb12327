"""Write a narrow VGG in every format of weights files, with other libraries or by hand."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from gramstyle.core.arrays import Array
from pickle_writer import dictionary, pickled, storage, stream, tensor
from tar_writer import write_torch_tar

BLOCKS = ((2,) * 2, (3,) * 2, (4,) * 4, (5,) * 4, (6,) * 4)
LAYERS = tuple(f"{b}_{k}" for b, n in enumerate(BLOCKS, 1) for k in range(1, len(n) + 1))
# The indices of the convolutions in torchvision's VGG-19, from its documentation.
INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)

Chain = list[tuple[Array, Array]]


def chain(seed: int = 0, blocks: tuple[tuple[int, ...], ...] = BLOCKS) -> Chain:
    """Random weights and biases, from the first layer to the last."""
    rng = np.random.default_rng(seed)
    layers, channels = [], 3
    for N in (n for block in blocks for n in block):
        W = rng.standard_normal((N, channels, 3, 3)).astype(np.float32)
        layers.append((W, rng.standard_normal(N).astype(np.float32)))
        channels = N
    return layers


def names_of(blocks: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    """Block and number of each convolution, such as "4_2"."""
    return tuple(f"{b}_{k}" for b, block in enumerate(blocks, 1) for k in range(1, len(block) + 1))


def torchvision_names(layers: Chain, indices: tuple[int, ...] = INDICES) -> dict[str, Array]:
    names = zip(indices, layers, strict=True)
    return {
        f"features.{index}.{part}": array
        for index, arrays in names
        for part, array in zip(("weight", "bias"), arrays, strict=True)
    }


def gatys_names(layers: Chain, names: tuple[str, ...] = LAYERS) -> dict[str, Array]:
    return {
        f"conv{name}.{part}": array
        for name, arrays in zip(names, layers, strict=True)
        for part, array in zip(("weight", "bias"), arrays, strict=True)
    }


def _pickled_tensors(arrays: Mapping[str, Array]) -> bytes:
    return dictionary(
        {
            name: tensor(
                storage(name, array.dtype.name, array.size),
                0,
                array.shape,
                [step // array.itemsize for step in array.strides],
            )
            for name, array in arrays.items()
        }
    )


def write_torch_stream(path: Path, arrays: Mapping[str, Array]) -> None:
    path.write_bytes(stream(_pickled_tensors(arrays), arrays))


def write_torch_zip(path: Path, arrays: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(_pickled_tensors(arrays)))
        archive.writestr("archive/byteorder", b"little")
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{name}", array.tobytes())
        archive.writestr("archive/version", b"3\n")


def write_keras(
    path: Path,
    layers: Chain,
    *,
    old: bool = False,
    root: str = "",
    names: tuple[str, ...] = LAYERS,
) -> None:
    with h5py.File(path, "w") as file:
        for name, (W, b) in zip(names, layers, strict=True):
            layer = "block{}_conv{}".format(*name.split("_"))
            group = file.require_group(f"{root}/{layer}")
            kernel, bias = (
                (f"{layer}_W_1:0", f"{layer}_b_1:0")
                if old
                else (f"{layer}/kernel:0", f"{layer}/bias:0")
            )
            group[kernel] = W.transpose(2, 3, 1, 0)
            group[bias] = b
        file.require_group(f"{root}/predictions")["predictions/kernel:0"] = np.zeros((4, 2), "f4")


def write_keras3(
    path: Path | IO[bytes], layers: Chain, *, named: bool = True, names: tuple[str, ...] = LAYERS
) -> None:
    """Write what Keras 3's model.save_weights("x.weights.h5") writes."""
    with h5py.File(path, "w") as file:
        for k, (name, (W, b)) in enumerate(zip(names, layers, strict=True)):
            number = f"conv2d_{k}" if k else "conv2d"
            variables = file.create_group(f"layers/{number}/vars")
            variables["0"], variables["1"] = W.transpose(2, 3, 1, 0), b
            layer = "block{}_conv{}".format(*name.split("_"))
            variables.attrs["name"] = layer if named else number
        dense = file.create_group("layers/dense/vars")
        dense.attrs["name"] = "predictions"
        dense["0"] = np.zeros((4, 2), "f4")
        # As after training.
        file["optimizer/vars/2"] = layers[0][0].transpose(2, 3, 1, 0)


def write_keras_archive(
    path: Path, layers: Chain, *, named: bool = True, names: tuple[str, ...] = LAYERS
) -> None:
    """Write what Keras 3's model.save("x.keras") writes."""
    weights = io.BytesIO()
    write_keras3(weights, layers, named=named, names=names)
    with zipfile.ZipFile(path, "w") as archive:
        # A ZipInfo has a fixed date, so the bytes are the same each time.
        archive.writestr(zipfile.ZipInfo("metadata.json"), '{"keras_version": "3.15.1"}')
        archive.writestr(zipfile.ZipInfo("config.json"), '{"class_name": "Functional"}')
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), weights.getvalue())


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> None:
    save_file(dict(arrays), path)


def write_safe_index(path: Path, arrays: Mapping[str, Array], shards: int = 2) -> None:
    """Write an index and the files that it names, as transformers' save_pretrained does."""
    weight_map = {}
    for k in range(shards):
        shard = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(arrays.items())[k::shards])
        save_file(part, path.with_name(shard), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    size = sum(array.nbytes for array in arrays.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def write_caffe(path: Path, layers: Chain, *, old: bool, names: tuple[str, ...] = LAYERS) -> None:
    """Write a .caffemodel in the first format (V1LayerParameter) or the second (LayerParameter)."""
    layer_number, name_number, blobs_number = (2, 4, 6) if old else (100, 1, 7)

    def varint(value: int) -> bytes:
        head, value = value & 0x7F, value >> 7
        return bytes([head | 0x80]) + varint(value) if value else bytes([head])

    def field(number: int, data: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(data)) + data

    def blob(array: Array) -> bytes:
        values = field(5, array.astype("<f4").tobytes())
        if old:
            dims = (1,) * (4 - array.ndim) + array.shape
            return b"".join(varint(k << 3) + varint(n) for k, n in enumerate(dims, 1)) + values
        return values + field(7, field(1, b"".join(map(varint, array.shape))))

    message = field(1, b"VGG")
    for name, (W, b) in zip(names, layers, strict=True):
        blobs = field(blobs_number, blob(W)) + field(blobs_number, blob(b))
        message += field(layer_number, field(name_number, f"conv{name}".encode()) + blobs)
        message += field(layer_number, field(name_number, f"relu{name}".encode()))
    path.write_bytes(message)


def write_onnx(path: Path, layers: Chain, *, names: tuple[str, ...] = LAYERS) -> None:
    """Write an ONNX file with the names of the ONNX model zoo."""
    nodes, tensors, at, block = [], [], "data", "1"
    for k, (name, (W, b)) in enumerate(zip(names, layers, strict=True)):
        if name[0] != block:
            pool = helper.make_node(
                "MaxPool", [at], [f"p{block}"], kernel_shape=[2, 2], strides=[2, 2]
            )
            nodes.append(pool)
            at, block = f"p{block}", name[0]
        keys = [f"vgg0_conv{k}_weight", f"vgg0_conv{k}_bias"]
        tensors += [numpy_helper.from_array(x, key) for key, x in zip(keys, (W, b), strict=True)]
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [at, *keys], [f"c{k}"], **pads))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        at = f"r{k}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "zoo",
        [value("data", TensorProto.FLOAT, None)],
        [value(at, TensorProto.FLOAT, None)],
        tensors,
    )
    onnx.save(helper.make_model(graph), path)


FORMATS: Mapping[str, Callable[[Path, Chain], None]] = {
    "torch.pth": lambda p, c: write_torch_zip(p, torchvision_names(c)),
    "old.pth": lambda p, c: write_torch_stream(p, torchvision_names(c)),
    "tar.pth": lambda p, c: write_torch_tar(p, torchvision_names(c)),
    "vgg_conv.pth": lambda p, c: write_torch_stream(p, gatys_names(c)),
    "keras.h5": write_keras,
    "keras1.h5": lambda p, c: write_keras(p, c, old=True),
    "keras_whole.h5": lambda p, c: write_keras(p, c, root="model_weights"),
    "keras.weights.h5": write_keras3,
    "unnamed.weights.h5": lambda p, c: write_keras3(p, c, named=False),
    "archive.keras": write_keras_archive,
    "timm.safetensors": lambda p, c: write_safetensors(p, torchvision_names(c)),
    "model.safetensors.index.json": lambda p, c: write_safe_index(p, torchvision_names(c)),
    "v1.caffemodel": lambda p, c: write_caffe(p, c, old=True),
    "v2.caffemodel": lambda p, c: write_caffe(p, c, old=False),
    "zoo.onnx": write_onnx,
}

# The formats that do not determine the preprocessing.
AMBIGUOUS = frozenset(
    {
        *("torch.pth", "old.pth", "tar.pth", "vgg_conv.pth", "timm.safetensors", "zoo.onnx"),
        "model.safetensors.index.json",
    }
)
