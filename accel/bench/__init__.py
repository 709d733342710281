"""Measuring engines: work for them, contests between them, and what a copy of the same bytes costs."""
