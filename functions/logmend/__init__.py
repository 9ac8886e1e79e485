"""Event remediator for Compute Engine: from a log entry to a verified fix and one honest outcome."""

__version__ = "0.1.0"
COMMIT = "$Format:%H$"
"""The commit of a release; ``git archive`` writes it (.gitattributes)."""
