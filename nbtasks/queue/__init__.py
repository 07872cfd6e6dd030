"""The queue directory: docs/format.md in code."""
