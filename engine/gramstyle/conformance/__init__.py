"""The conformance kit: cases with a float64 truth, against which any implementation is tested."""

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.catalogue import cases
from gramstyle.conformance.derivatives import Derivatives

__all__ = ["Answer", "Case", "Derivatives", "cases"]
