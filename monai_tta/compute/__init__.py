"""How a machine computes, not what: arithmetic, kernels, memory, several processes. Knows nothing of adaptation."""
