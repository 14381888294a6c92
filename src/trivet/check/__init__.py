"""Whether a project holds together, and whether a row gets the same answer in all its hosts."""

from trivet.check.findings import Finding
from trivet.check.inspection import inspect
from trivet.check.proof import Verdict, prove

__all__ = ["Finding", "Verdict", "inspect", "prove"]
