"""The command line: flags to keywords, nothing else."""
