"""Write torch's first format, a tar archive, without torch."""

import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gramstyle.core.arrays import Array
from pickle_writer import TYPES, dictionary, list_of, name_of, number, pickled, text, tuple_of

# A part of a storage: its key, the key of the whole, the first element, the number of elements.
Part = tuple[int, int, int, int]


def storages_member(storages: Mapping[int, Array], parts: Sequence[Part] = ()) -> bytes:
    member = pickled(number(len(storages)))
    for key, elements in storages.items():
        kind = name_of("torch", f"{TYPES[elements.dtype.name]}Storage")
        member += pickled(tuple_of(number(key), text("cpu"), kind))
        member += struct.pack("<q", elements.size) + elements.tobytes()
    return member + pickled(list_of(*(tuple_of(*map(number, part)) for part in parts)))


def tensor_entry(
    key: int, storage: int, offset: int, shape: Sequence[int], stride: Sequence[int]
) -> bytes:
    kind = name_of("torch", "FloatTensor")
    entry = pickled(tuple_of(number(key), number(storage), kind))
    entry += struct.pack("<ii", len(shape), 0)
    entry += struct.pack(f"<{len(shape)}q", *shape) + struct.pack(f"<{len(stride)}q", *stride)
    return entry + struct.pack("<q", offset)


def tensors_member(entries: Sequence[bytes]) -> bytes:
    return pickled(number(len(entries))) + b"".join(entries)


def pickle_member(names: Mapping[str, int]) -> bytes:
    return pickled(dictionary({name: number(key) + b"Q" for name, key in names.items()}))


def archive(members: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def write_torch_tar(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write contiguous tensors with a storage each; the keys are addresses of 47 bits."""
    keys = {name: 0x7F0000000000 + 64 * k for k, name in enumerate(arrays)}
    entries = [
        tensor_entry(
            keys[name] + 1, keys[name], 0, a.shape, [step // a.itemsize for step in a.strides]
        )
        for name, a in arrays.items()
    ]
    path.write_bytes(
        archive(
            {
                "sys_info": pickled(dictionary({})),
                "pickle": pickle_member({name: key + 1 for name, key in keys.items()}),
                "tensors": tensors_member(entries),
                "storages": storages_member({keys[n]: a.ravel() for n, a in arrays.items()}),
            }
        )
    )
