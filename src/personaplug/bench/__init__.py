"""Measuring methods on tasks: rows, controls, intervals, results, claims and the report."""
