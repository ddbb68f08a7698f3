"""A bundle and files to masks on disk."""
