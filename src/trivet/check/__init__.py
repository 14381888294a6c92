"""Whether a project holds together, and whether a row gets the same answer in all its hosts."""

from trivet.check.findings import BROKER, Finding
from trivet.check.inspection import inspect
from trivet.check.own_topics import try_broker
from trivet.check.proof import Verdict, prove

__all__ = ["BROKER", "Finding", "Verdict", "inspect", "prove", "try_broker"]
