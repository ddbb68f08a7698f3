"""CoTTA (Wang et al., CVPR 2022): a student, a teacher that follows it, and numbers that return to the source."""

import copy

import torch


def confidence(network, x):
    """Mean of the larger of p and 1 - p over answers that say yes, or that are less than 0.95 sure."""
    p = network(x).sigmoid()
    larger = torch.maximum(p, 1 - p)
    return larger[(p > 0.5) | (larger < 0.95)].mean()


def cotta_stream(source, images, restyled, threshold, decay, restored, lr):
    """The teacher's answers to images after each step; ``restored[n]`` says for each parameter which numbers go back."""
    student, teacher = copy.deepcopy(source), copy.deepcopy(source)
    answers = []
    for x, masks in zip(images, restored, strict=True):
        with torch.no_grad():
            logits = teacher(x)
            if confidence(source, x) < threshold:
                logits = teacher(restyled(x)) / 2 + teacher(restyled(x.flip(2))).flip(2) / 2
        q, p = logits.sigmoid(), student(x).sigmoid()
        loss = -(q * p.log() + (1 - q) * (1 - p).log()).mean()
        parameters = list(student.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        each = zip(parameters, gradients, teacher.parameters(), source.parameters(), masks, strict=True)
        for tensor, gradient, slow, start, mask in each:
            tensor.data -= lr * gradient
            slow.data = decay * slow.data + (1 - decay) * tensor.data
            tensor.data[mask] = start.data[mask]
        answers.append(teacher(x).detach())
    return answers
