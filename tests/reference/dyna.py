"""A night of DyNA, as reconstructed: a student learns from the mean of teacher and global student, which follow it slowly."""

import copy

import torch
from torch import nn


def night(net, day, restyle, order, lr, global_decay, teacher_decay, share):
    """The global student after one pass over the day's images (N, C, H, W), for a sigmoid head; no views but the identity."""
    teacher = copy.deepcopy(net)
    layers = [layer for layer in teacher if isinstance(layer, nn.BatchNorm2d)]
    inputs = {id(layer): [] for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda layer, x: inputs[id(layer)].append(x[0])) for layer in layers]
    for x in day:  # each layer sees what the layers before it make of the image's own statistics
        for layer in layers:
            layer.train()
            layer.momentum = 0.0
        with torch.no_grad():
            teacher(x)
    for hook, layer in zip(hooks, layers, strict=True):
        hook.remove()
        layer.eval()
        seen = torch.stack([x.mean((0, 2, 3)) for x in inputs[id(layer)]])
        spread = torch.stack([x.var((0, 2, 3), correction=0) for x in inputs[id(layer)]])
        layer.running_mean = (1 - share) * layer.running_mean + share * seen.mean(0)
        layer.running_var = (1 - share) * layer.running_var + share * (spread.mean(0) + seen.var(0, correction=0))
    global_student, student = copy.deepcopy(teacher), copy.deepcopy(teacher)
    optimizer = torch.optim.Adam(student.parameters(), lr)
    for k in order:
        with torch.no_grad():
            target = 0.5 * (teacher(day[k]).sigmoid() + global_student(day[k]).sigmoid())
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(student(restyle(day[k])), target).backward()
        optimizer.step()
        with torch.no_grad():
            for g, s, t in zip(global_student.parameters(), student.parameters(), teacher.parameters(), strict=True):
                g.mul_(global_decay).add_((1 - global_decay) * s)
                t.mul_(teacher_decay).add_((1 - teacher_decay) * g)
    return global_student
