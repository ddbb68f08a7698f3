"""How many bytes autograd saves for the backward pass, counted instead of asked of an allocator; and a network to count on."""

import weakref

import torch
from monai.networks.nets import SegResNet


class SavedBytes:
    """A ``with`` block that counts the bytes autograd saves: ``now``, and ``most`` at any time."""

    def __init__(self):
        self.now = self.most = 0
        self.alive = weakref.WeakValueDictionary()

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.save, lambda saved: saved)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    def save(self, tensor):
        storage = tensor.untyped_storage()
        saved = tensor.detach()
        if storage.data_ptr() not in self.alive:
            self.alive[storage.data_ptr()] = saved
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(saved, self.release, storage.nbytes())
        return saved

    def release(self, size):
        self.now -= size


def residual_network():
    """A SegResNet of three residual blocks, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegResNet(spatial_dims=3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1), blocks_up=(1,)).eval()


def saved_while_adapting(method, windows, recompute=False, voxels_at_once=None):
    """The most bytes that autograd saves at any time while a method adapts a fresh shadow of that network to windows."""
    shadow = method.begin(residual_network(), "softmax")
    shadow.voxels_at_once = voxels_at_once
    if recompute:
        shadow.recompute()
    with SavedBytes() as saved, torch.enable_grad():
        method.adapt(shadow, windows, method.loss)
    return saved.most
