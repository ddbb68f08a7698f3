"""What the last bits of an answer depend on besides its inputs: the processor, its threads and the version of torch."""

from __future__ import annotations

import platform

import torch


def computed_on(device: torch.device) -> str:
    """The processor with the kernels that torch takes on it, and the version of torch, in words.

    Args:
        device: where the network is.

    >>> computed_on(torch.device("cpu")).startswith("cpu ")
    True
    """
    name = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device.type} {name}, torch {torch.__version__}"
