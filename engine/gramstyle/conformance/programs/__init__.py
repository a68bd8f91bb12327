"""Programs in any language as subjects: cases go in and answers come out as lines of JSON."""

from gramstyle.conformance.programs.messages import PROTOCOL, Hello
from gramstyle.conformance.programs.subject import TIMEOUT, ProgramSubject, running_program

__all__ = ["PROTOCOL", "TIMEOUT", "Hello", "ProgramSubject", "running_program"]
