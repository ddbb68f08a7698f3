"""STAG (Shin et al., arXiv 2402.09004 v2) around TENT, for a softmax head: entropy gradients by autograd, and one Adam step."""

import torch


def entropies(logits):
    """The entropy of each voxel, and of its classes' terms."""
    p = logits.softmax(1)
    return -(p * p.log()).sum(1), -p * p.log()


def entropy_gradients(features, classes, weight, bias, reading):
    """Gradients (N, F, V) of the entropy, for features (N, F, V) and the classes (N, V) that are meant."""
    rows = weight.detach()[classes].transpose(1, 2).requires_grad_()
    logits = torch.einsum("kf,nfv->nkv", weight, features) + bias[:, None]
    own_logit = (rows * features).sum(1) + bias[classes]  # the same number, but by a row of this voxel's own
    whole, terms = entropies(logits.scatter(1, classes[:, None], own_logit[:, None]) if reading == "row" else logits)
    value = terms.gather(1, classes[:, None]).sum() if reading == "term" else whole.sum()
    return torch.autograd.grad(value, rows if reading == "row" else features, create_graph=True)[0]


def stag_term(features, classifier, reading, equal_classes):
    """Mean of 1 - cosine over voxels, or over the means of the classes that are predicted in the window."""
    weight, bias = classifier.weight.flatten(1), classifier.bias
    features.register_hook(torch.Tensor.contiguous)  # torch 2.13's BatchNorm takes wrong gradients from a transposed one
    features = features.flatten(2)
    classes = (torch.einsum("kf,nfv->nkv", weight, features) + bias[:, None]).argmax(1)
    prototypes = weight.detach().T[None].requires_grad_()  # (1, F, K): the feature that is the class's own row
    anchors = entropy_gradients(prototypes, torch.arange(len(weight))[None], weight, bias, reading)[0].detach().T
    gradients = entropy_gradients(features, classes, weight, bias, reading)
    distances = 1 - torch.cosine_similarity(gradients, anchors[classes].transpose(1, 2), dim=1, eps=1e-30)
    by_class = torch.stack([distances[classes == c].mean() for c in classes.unique()])
    return by_class.mean() if equal_classes else distances.mean()


def stag_step(net, affine, x, lr, weight, reading, equal_classes=True):
    """One step down TENT's entropy plus the weighted term; returns the loss."""
    features = net[:-1](x)
    loss = entropies(net[-1](features))[0].mean() + weight * stag_term(features, net[-1], reading, equal_classes)
    for tensor, gradient in zip(affine, torch.autograd.grad(loss, affine), strict=True):
        tensor.grad = gradient
    torch.optim.Adam(affine, lr).step()
    return loss.item()
