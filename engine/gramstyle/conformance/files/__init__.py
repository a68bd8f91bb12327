"""Golden vectors: a set of cases as files, for implementations in any language.

A case is a folder in the layout of ONNX's backend tests, and beside it a .npz file with all its
arrays in float64; one manifest tells of all.
"""

from gramstyle.conformance.files.manifest import VERSION
from gramstyle.conformance.files.reading import PUBLISHED, read_cases, read_published
from gramstyle.conformance.files.writing import Written, write_cases

__all__ = ["PUBLISHED", "VERSION", "Written", "read_cases", "read_published", "write_cases"]
