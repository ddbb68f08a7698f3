"""Rows and records to text, pictures and pages; no torch."""
