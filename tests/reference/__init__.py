"""Each paper's step in plain lines, written from its equations and sharing no code with the package.

All take a 2D network whose BatchNorm layers normalise by the batch they see (one window), a window ``x`` of shape
``(1, C, H, W)`` and a sigmoid head, change the network's scale and shift in place, and leave the answer to the caller.
"""
