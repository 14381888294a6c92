"""Summaries of columns, drift between them, and measures of quality: pure functions."""

from trivet.monitoring.profiles import Profile, Reference
from trivet.monitoring.quality import regression_metrics, roc_auc

__all__ = ["Profile", "Reference", "regression_metrics", "roc_auc"]
