"""Turns rows and records into tables, plots and pages. Needs no torch."""
