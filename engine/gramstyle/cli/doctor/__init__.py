"""The examination of an installation: what is installed, what is broken, and how to repair it.

The modules of this folder import only Python's own library, `gramstyle.errors` and
`gramstyle.system`, so that `gramstyle doctor` works when a package is missing or cannot be
imported. A child process imports the rest.
"""

from gramstyle.cli.doctor.examining import examine
from gramstyle.cli.doctor.finding import Finding, Report

__all__ = ["Finding", "Report", "examine"]
