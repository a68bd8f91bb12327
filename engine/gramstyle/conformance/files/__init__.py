"""The cases as files (golden vectors), for implementations in any language.

Each case is a folder in the layout of ONNX's backend tests and a .npz file with all its arrays in
float64. One manifest describes the whole set.
"""

from gramstyle.conformance.files.graphs import write_graphs
from gramstyle.conformance.files.manifest import VERSION
from gramstyle.conformance.files.reading import PUBLISHED, read_cases, read_published
from gramstyle.conformance.files.writing import Written, write_cases

__all__ = [
    "PUBLISHED",
    "VERSION",
    "Written",
    "read_cases",
    "read_published",
    "write_cases",
    "write_graphs",
]
