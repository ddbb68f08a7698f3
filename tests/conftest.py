"""One thread per test process: small volumes gain nothing from more, and sums come out the same everywhere."""

import torch

torch.set_num_threads(1)
