"""Labelled cases to rows: what is compared on what, and how good each answer is."""
