"""What a command's exit code tells whoever called it; `trivet.cli` has the list."""

from __future__ import annotations

DONE, FAILED, UNUSABLE, BUSY, UNREACHABLE = range(5)
INTERRUPTED = 130


def exit_code(error: Exception) -> int:
    """Return the exit code of a command that ended with an error."""
    from trivet import errors

    if isinstance(error, errors.IntervalBusy | errors.AlreadyUp):
        return BUSY
    if isinstance(error, errors.TransientError | errors.BrokerUnavailable):
        return UNREACHABLE
    failed = errors.RunError | errors.QueryError | errors.QueryTimeout | errors.PredictionError
    failed |= errors.UpError
    if isinstance(error, failed):
        return FAILED
    return UNUSABLE
