"""The conformance kit: cases with their float64 truth, to hold any implementation against."""

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.catalogue import cases

__all__ = ["Answer", "Case", "cases"]
