"""Mutants: samples with flipped bits, splices, cuts, other lengths, copies and magic values."""

import random
import re
from collections.abc import Callable, Sequence

from .sample import Files, Sample

# Values at which parsers go wrong, whole and as text.
BYTES = (0x00, 0x01, 0x0A, 0x20, 0x22, 0x28, 0x2E, 0x7F, 0x80, 0xFE, 0xFF)
NUMBERS = (
    *(0, 1, -1),
    *(2**bits + more for bits in (7, 8, 15, 16, 31, 32, 62, 63) for more in (-1, 0)),
)
TOKENS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"RIFF", b"GIF89a", b"IHDR",
    b"iCCP", b"eXIf", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"ustar\x0000",
    b"\x89HDF\r\n\x1a\n", b"SNOD", b"TREE", b"HEAP", b"OHDR", b"FRHP",
    b"\x80\x02", b"\x80\x05", b"cposix\nsystem\n", b"X\x04\0\0\0true", b"\x85R.", b"}", b"(",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"c__builtin__\neval\n", b"q\0", b"h\0", b"2", b"Q",
    b"b", b"0" * 40, b"../../etc/passwd", b"\x1b[2J", b"\r\n", b"\0" * 8, b"\xff" * 8,
    b"\xed\xa0\x80", "é".encode(), b"[" * 300, b"{" * 300,
)  # fmt: skip
# Values in the place of one in text: of JSON, of TOML, or of neither.
VALUES = (
    b"null", b"true", b"false", b"0", b"-1", b"-0.0", b"0.5", b"1e999", b"-1e999", b"NaN", b"nan",
    b"inf", b"1e308", b"9223372036854775807", b"18446744073709551616", b"1000000000", b"65536",
    b"9" * 5000, b"1" + b"0" * 400, b'""', b'"x"', b'"..."', b'"/"', b'"../../x"',
    b'"\\u0000"', b'"\\u001b[2J"', b'"\\ud800"', b"[]", b"{}", b"[[]]", b"[0, 0, 0]",
    b'["conv1_1", "conv1_1"]', b'[""]',
    b"[" * 5000, b'{"a": 1}', b'"' + b"x" * 5000 + b'"', b"1979-05-27T07:32:00", b"0xffffffff",
    b'"tcp://127.0.0.1:1"', b'"float64"', b'"scipy"', b'"cuda"', b'"noise"', b'"{content}"',
)  # fmt: skip
VALUE = re.compile(rb'(?<=[:=,\[])\s*("[^"\n]*"|[^",:=\[\]{}\s]+|\[[^\[\]]*\])')
# The first bytes of text in the corpus: JSON and TOML.
TEXT_BEGINS = frozenset((b"{", b"[", b"d"))
LENGTHS = (1, 2, 4, 8)

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutant(reader: str, number: int, samples: Sequence[Sample]) -> tuple[Sample, Files]:
    """Return a mutant of a reader's samples and the sample that it was made from.

    Equal arguments give the same mutant. The first ones are the samples themselves.
    """
    if number < len(samples):
        return samples[number], samples[number].files
    rng = random.Random(f"{reader}:{number}")  # noqa: S311 - not for secrets
    sample = rng.choice(samples)
    others = [*sample.parts, *rng.choice(samples).files.values()]
    if sample.assemble is not None and rng.random() < 0.7:
        place = rng.randrange(len(sample.parts))
        parts = list(sample.parts)
        parts[place] = mutated(rng, parts[place], others)
        return sample, sample.assemble(tuple(parts))
    name = rng.choice(list(sample.files))
    return sample, {**sample.files, name: mutated(rng, sample.files[name], others)}


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return data after one or a few mutations."""
    changed = bytearray(data)
    mutations = IN_TEXT if data[:1] in TEXT_BEGINS else IN_BYTES
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        if changed:
            rng.choice(mutations)(rng, changed, others)
    return bytes(changed)


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _bit in range(rng.choice((1, 1, 2, 8))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    data[_place(rng, data)] = rng.choice(BYTES)


def _change_length(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Take some bytes for a number and change it."""
    width, order = rng.choice(LENGTHS), rng.choice(("little", "big"))
    at = _place(rng, data)
    number = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
    near = (number + 1, number - 1, 2 * number, number // 2, len(data), *NUMBERS)
    value = rng.choice(near) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


def _truncate(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _remove(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + _size(rng)]


def _duplicate(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at, to = _place(rng, data), _place(rng, data)
    data[to:to] = data[at : at + _size(rng)] * rng.choice((1, 1, 1, 2, 50))


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Copy bytes of another sample over these, or between them."""
    other, size, to = rng.choice(others), _size(rng), _place(rng, data)
    at = rng.randrange(len(other) or 1)
    data[to : to + rng.choice((0, size))] = other[at : at + size]


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    token, at = rng.choice(TOKENS), _place(rng, data)
    data[at : at + rng.choice((0, len(token)))] = token


def _replace_value(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Replace a value in text by another."""
    found = [match.span(1) for match in VALUE.finditer(data)]
    if found:
        start, end = rng.choice(found)
        other = slice(*rng.choice(found))
        data[start:end] = rng.choice((rng.choice(VALUES), data[other]))


def _change_lines(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Remove, double or move a line of text."""
    lines = data.split(b"\n")
    line = rng.choice(lines)
    if rng.random() < 0.7:
        lines.remove(line)
    if rng.random() < 0.7:
        lines.insert(rng.randrange(len(lines) + 1), line)
    data[:] = b"\n".join(lines)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a place in the data; the beginning, where headers are, is likelier."""
    size = len(data) if rng.random() < 0.5 else min(len(data), 512)
    return rng.randrange(size or 1)


def _size(rng: random.Random) -> int:
    return rng.choice((1, 2, 4, 8, 16, 64, 256))


IN_BYTES: Sequence[Mutation] = (
    _flip, _flip, _set, _change_length, _change_length, _truncate, _remove, _duplicate, _splice,
    _insert,
)  # fmt: skip
IN_TEXT: Sequence[Mutation] = (
    *(_replace_value,) * 6, *(_change_lines,) * 3, _flip, _set, _remove, _duplicate, _splice,
    _insert, _truncate,
)  # fmt: skip
