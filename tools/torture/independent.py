"""Read weights files a second time, without gramstyle: the oracle for mutants that it accepts.

Other libraries parse the files (pickle, zipfile, tarfile, h5py, json, protobuf, onnx). The tensors
become a network by the rule in docs/weights.md: the weights are the tensors with four axes, in the
order of the numbers in their names, and the biases have the same name with "bias".
"""

import contextlib
import io
import itertools
import json
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import ml_dtypes
import numpy as np
import onnx
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from numpy.lib.stride_tricks import as_strided
from onnx import numpy_helper

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]
Layers = list[tuple[Array, Array]]

EPSILON = 1e-5
STORAGES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": ml_dtypes.bfloat16}
SAFE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}


def network(path: Path) -> Layers:
    """Return the weights and biases in a file, from the first layer to the last, in float64."""
    kinds: Mapping[str, Callable[[Path], Tensors]] = {
        ".safetensors": _safe_tensors,
        ".json": _safe_index,
        ".caffemodel": _caffe,
        ".h5": _h5,
        ".keras": _h5,
    }
    if path.suffix == ".onnx":
        return _onnx(path)
    return _in_order(kinds.get(path.suffix, _torch)(path))


def _in_order(tensors: Tensors) -> Layers:
    kernels = sorted((name for name, T in tensors.items() if T.ndim == 4), key=_numbers)
    layers = []
    for name in kernels:
        W = tensors[name].astype(np.float64)
        b = tensors.get(name.removesuffix("weight") + "bias", np.zeros(len(W))).astype(np.float64)
        layers.append((W, b))
    norms = [name for name in sorted(tensors, key=_numbers) if name.endswith(".running_mean")]
    for k, mean in enumerate(norms):
        parts = (mean.removesuffix("running_mean") + each for each in ("weight", "bias"))
        gamma, beta = (tensors.get(name) for name in parts)
        variance = tensors[mean.replace("running_mean", "running_var")]
        layers[k] = _folded(*layers[k], gamma, beta, tensors[mean], variance, EPSILON)
    return layers


def _folded(
    W: Array,
    b: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    variance: Array,
    epsilon: float,
) -> tuple[Array, Array]:
    s = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    s = s if gamma is None else s * gamma
    return W * s[:, None, None, None], s * (b - mean) + (0 if beta is None else beta)


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


class _Storage:
    """The elements of a torch storage, which a stream reads after the tensors that use it."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.elements: Array = np.empty(0, self.dtype)


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: Any, stride: Any) -> None:
        self._parts = storage, offset, shape, stride

    def read(self) -> Array:
        storage, offset, shape, stride = self._parts
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if min((offset, *shape, *stride), default=0) < 0 or last >= len(storage.elements):
            raise ValueError("a tensor outside its storage")
        steps = [step * storage.dtype.itemsize for step in stride]
        return as_strided(storage.elements[offset:], shape, steps, writeable=False)


class _Unpickler(pickle.Unpickler):
    """Builds tensors, and objects without meaning for everything else; imports nothing."""

    def __init__(self, file: BinaryIO, find: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="utf-8")
        self._find = find

    def find_class(self, _: str, name: str) -> Any:
        if name.startswith("_rebuild_tensor"):
            return lambda storage, offset, shape, stride, *_: _Tensor(
                storage, offset, shape, stride
            )
        if name == "_rebuild_parameter":
            return lambda data, *_: data
        if name.endswith("Storage"):
            return name.removesuffix("Storage")
        return dict if name == "OrderedDict" else lambda *_: None

    def persistent_load(self, pid: Any) -> Any:
        return self._find(pid)


def _torch(path: Path) -> Tensors:
    head = path.read_bytes()[:2]
    if head == b"PK":
        return _torch_zip(path)
    return _torch_stream(path) if head[:1] == b"\x80" else _torch_tar(path)


def _torch_zip(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = ">" if f"{folder}byteorder" in archive.namelist() and (
            archive.read(f"{folder}byteorder") == b"big"
        ) else "<"  # fmt: skip

        def find(pid: Any) -> _Storage:
            _, kind, key, _, count, *_ = pid
            storage = _Storage(np.dtype(STORAGES[kind]).newbyteorder(order))
            data = archive.read(f"{folder}data/{key}")
            storage.elements = np.frombuffer(data, storage.dtype, count)
            return storage

        return _read(_Unpickler(io.BytesIO(archive.read(pickled)), find).load())


def _torch_stream(path: Path) -> Tensors:
    storages: dict[str, _Storage] = {}

    def find(pid: Any) -> _Storage:
        return storages.setdefault(str(pid[2]), _Storage(STORAGES[pid[1]]))

    with path.open("rb") as stream:
        *_, described, keys = (_Unpickler(stream, find).load() for _ in range(5))
        for key in keys:
            (count,) = struct.unpack("<q", stream.read(8))
            storage = storages[str(key)]
            data = stream.read(count * storage.dtype.itemsize)
            storage.elements = np.frombuffer(data, storage.dtype, count)
    return _read(described)


def _torch_tar(path: Path) -> Tensors:
    storages: dict[int, _Storage] = {}
    tensors: dict[int, _Tensor] = {}
    with tarfile.open(path) as archive:
        members = {each.name: archive.extractfile(each) for each in archive.getmembers()}

        def load(name: str) -> Any:
            return _Unpickler(members[name], lambda key: tensors[key]).load()  # type: ignore[arg-type]

        def read(name: str, form: str) -> tuple[int, ...]:
            stream = members[name]
            assert stream is not None  # noqa: S101 - the archive has only files
            return struct.unpack(form, stream.read(struct.calcsize(form)))

        for _ in range(load("storages")):
            key, _, kind = load("storages")
            storage = storages[key] = _Storage(STORAGES[kind])
            (count,) = read("storages", "<q")
            size = count * storage.dtype.itemsize
            data = b"".join(bytes([x]) for x in read("storages", f"<{size}B"))
            storage.elements = np.frombuffer(data, storage.dtype, count)
        for target, whole, first, count in load("storages"):
            storages[target] = _Storage(storages[whole].dtype)
            storages[target].elements = storages[whole].elements[first : first + count]
        for _ in range(load("tensors")):
            key, at, _ = load("tensors")
            (axes, _) = read("tensors", "<ii")
            shape, stride = read("tensors", f"<{axes}q"), read("tensors", f"<{axes}q")
            (offset,) = read("tensors", "<q")
            tensors[key] = _Tensor(storages[at], offset, shape, stride)
        return _read(load("pickle"))


def _read(found: Any) -> Tensors:
    """Return the tensors of the outermost dictionary that has some."""
    tensors = {name: T.read() for name, T in found.items() if isinstance(T, _Tensor)}
    if tensors:
        return tensors
    return _read(next(each for each in found.values() if isinstance(each, dict)))


def _safe_tensors(path: Path) -> Tensors:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:end]).items():
        if name != "__metadata__" and entry["dtype"] in SAFE:
            first, last = entry["data_offsets"]
            values = np.frombuffer(data[end + first : end + last], SAFE[entry["dtype"]])
            found[name] = values.reshape(entry["shape"])
    return found


def _safe_index(path: Path) -> Tensors:
    names = json.loads(path.read_bytes())["weight_map"]
    files = {file: _safe_tensors(path.parent / file) for file in set(names.values())}
    return {name: files[file][name] for name, file in names.items()}


def _h5(path: Path) -> Tensors:
    data = path.read_bytes()
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            data = archive.read("model.weights.h5")
    found: dict[str, Array] = {}
    with h5py.File(io.BytesIO(data)) as file:
        pending: list[tuple[str, Any]] = [("", file)]
        while pending:
            place, item = pending.pop()
            if isinstance(item, h5py.Group):
                for name in item:
                    # An object that cannot be opened may be that of another layer.
                    with contextlib.suppress(Exception):
                        pending.append((f"{place}/{name}", item[name]))
            elif item.ndim in (1, 4) and not place.startswith("/optimizer"):
                layer = place.rpartition("/")[0]
                if layer.endswith("/vars"):  # Keras 3: the name is an attribute
                    layer = item.parent.attrs.get("name", layer)
                value = item[()]
                part = "weight" if value.ndim == 4 else "bias"
                found[f"{layer}.{part}"] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    return found


def _caffe(path: Path) -> Tensors:
    net = _caffe_message()()
    net.ParseFromString(path.read_bytes())
    found = {}
    for layer in itertools.chain(net.layers, net.layer):
        for part, blob in zip(("weight", "bias"), layer.blobs, strict=False):
            values = np.array(blob.data or blob.double_data)
            shape = list(blob.shape.dim)
            if not shape:  # the old description, always of four axes
                shape = [blob.num, blob.channels, blob.height, blob.width]
                shape = shape[3:] if part == "bias" else shape
            found[f"{layer.name}.{part}"] = values.reshape(shape)
    return found


def _caffe_message() -> Any:
    """Return the class of Caffe's NetParameter, with the fields that weights files have."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    # Name, number, type, whether it is repeated.
    messages: Mapping[str, list[tuple[str, int, Any, bool]]] = {
        "Shape": [("dim", 1, field.TYPE_INT64, True)],
        "Blob": [
            *((name, k, field.TYPE_INT32, False)
              for k, name in enumerate(("num", "channels", "height", "width"), 1)),
            ("data", 5, field.TYPE_FLOAT, True),
            ("shape", 7, "Shape", False),
            ("double_data", 8, field.TYPE_DOUBLE, True),
        ],
        "Old": [("name", 4, field.TYPE_STRING, False), ("blobs", 6, "Blob", True)],
        "New": [("name", 1, field.TYPE_STRING, False), ("blobs", 7, "Blob", True)],
        "Net": [("layers", 2, "Old", True), ("layer", 100, "New", True)],
    }  # fmt: skip
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for key, number, kind, repeated in fields:
            added = message.field.add(name=key, number=number)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    return message_factory.GetMessageClass(pool.Add(file).message_types_by_name["Net"])


def _onnx(path: Path) -> Layers:
    """Return the inputs of each Conv in the order of the graph, with normalisations folded in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unknown keys of external data
        model = onnx.load(path)
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    layers: Layers = []
    for node in model.graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            stored[node.output[0]] = numpy_helper.to_array(attributes["value"])
        # The operators that decode the weights in model files of gramstyle.
        elif node.op_type == "Cast" and node.input[0] in stored:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
            stored[node.output[0]] = stored[node.input[0]].astype(dtype)
        elif node.op_type == "Gather" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]][stored[node.input[1]]]
        elif node.op_type == "Identity" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
        elif node.op_type == "Conv":
            W = stored[node.input[1]].astype(np.float64)
            has_biases = len(node.input) > 2 and node.input[2]
            layers.append((W, stored[node.input[2]] if has_biases else np.zeros(len(W))))
        elif node.op_type == "BatchNormalization":
            gamma, beta, mean, variance = (stored[name] for name in node.input[1:])
            epsilon = attributes.get("epsilon", EPSILON)
            layers[-1] = _folded(*layers[-1], gamma, beta, mean, variance, epsilon)
    return layers
