"""Each paper's step in plain code, written from its equations without use of the package.

All functions take a 2D network with a sigmoid head, whose BatchNorm layers normalise by the batch that they see, and one window
``x`` ``(1, C, H, W)``. Those that learn change ``affine``, the network's scales and shifts, in place; the caller then runs the
network.
"""
