"""How a machine does it, never what: arithmetic, kernels, memory, several processes."""
