"""One image in, one answer out."""
