"""Thin shells for other people's programs."""
