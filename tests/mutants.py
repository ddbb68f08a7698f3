"""Break the code in named ways and report whether the tests notice: `python -m tests.mutants [WORDS OF A NAME]`.

Each mutant is a replacement in one file of a copy of the package; the working tree is never touched.
"""

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MUTANTS = {
    "moving tensors shared with the source": ("core/shadow.py", ".detach().clone(), requires_grad=True)", ".detach(), requires_grad=True)"),
    "displacement not restored": ("core/gradients.py", "tensor.copy_(old)", "pass"),
    "displacement the wrong way": ("methods/grata.py", "shadow.displaced(auxiliary, -distance)", "shadow.displaced(auxiliary, distance)"),
    "the source where nnU-Net asks": ("pipeline/nnunet_inferer.py", "predictor.network = asked", "predictor.network = network._stand_in.source if hasattr(network, '_stand_in') else asked; asked.n_calls = 1"),
    "mirrored copies counted as windows": ("pipeline/nnunet_inferer.py", " and not only_looks_at_windows(network)", ""),
    "a scan that stops nnU-Net's threads half-way": ("pipeline/nnunet_inferer.py", "except (Exception, StopScan) as error:", "except Exception as error:"),
    "an nnU-Net half adapted": ("pipeline/nnunet_inferer.py", "total, others = self._answer(self.plain, inputs, stop=False)", "_, others = self._answer(self.plain, inputs, stop=False)"),
    "a corrected spacing that nnU-Net does not hear of": ("pipeline/nnunet_transforms.py", "return [float(size) * float(factor)", "return [float(size)"),
    "an nnU-Net's case without its second channel": ("pipeline/nnunet_cases.py", "tuple(cases.files(first))", "(cases.files(first)[0],)"),
    "an unanswered input that looks like home": ("pipeline/check_input.py", "given.failure is not None and not finding.noticed", "False"),
    "an nnU-Net's ignored voxels scored": ("evaluation/nnunet_labelled.py", "sorted(values))) & counts for", "sorted(values))) for"),
    "trust without the square": ("core/trust.py", "(cosine + 1) ** 2 / 4", "(cosine + 1) / 2"),
    "a prompt on the wrong frequencies": ("core/prompt.py", "first = (side - size) // 2 - side // 2 if self.published else -most", "first = 0"),
    "a prompt on one sign of its frequencies": ("core/prompt.py", "0.5 * (factors + _at_opposite_frequencies(factors))", "factors"),
    "gradients through VPTTA's statistics": ("methods/vptta.py", "            layer.detached = True\n", ""),
    "VPTTA's images not counted": ("methods/vptta.py", "        shadow.n_images += 1\n", "        shadow.n_images = 1\n"),
    "VPTTA's bank of one live prompt": ("methods/vptta.py", "shadow.module.get_parameter(PROMPT).detach().clone()", "shadow.module.get_parameter(PROMPT).detach()"),
    "a diary without end": ("core/diary.py", "known[: max(0, len(known) + 1 - self.size)]", "[]"),
    "the night's average that does not follow": ("core/night.py", "_follow(global_student, student, self.global_decay)", "pass"),
    "a night that moves the source's statistics": ("core/night.py", "start = copy_sharing_parameters(source)", "start = source"),
    "a refused night that is written": ("pipeline/night.py", "    if reason is None:\n        save_tensors", "    if True:\n        save_tensors"),
    "features of another network rehearsed": ("methods/rehearsal.py", "stored.network != network_digest(source)", "False"),
    "copies of the moving tensors rehearsed": ("core/replay.py", "._parameters[own_name] = tensor", "._parameters[own_name] = nn.Parameter(tensor.detach().clone())"),
    "source features not mixed": ("core/replay.py", "return share * pieces + (1 - share) * pieces[order]", "return pieces"),
    "the image kept among the features": ("core/replay.py", "value.shape[1] > window.shape[1]", "value.shape[1] >= window.shape[1]"),
    "the windows furthest from the centres kept": ("preparation/rehearsal.py", "key=lambda n: distances[n, cluster]", "key=lambda n: -distances[n, cluster]"),
    "a stream without what belongs to its checkpoint": ("evaluation/streams.py", "contender.method.for_checkpoint(root / \"models\" / checkpoint)", "contender.method"),
    "a saved stream of another network": ("inference/stream_files.py", 'content["network"] != network_digest(source)', "False"),
    "prompts of one window given to another": ("inference/prompted_network.py", "self._loop(own[i : i + 1], logits[i : i + 1], args, kwargs)", "self._loop(own[i : i + 1], logits[:1], args, kwargs)"),
    "a loop that goes on at the same mask": ("inference/prompted_network.py", "if before is not None and torch.equal(mask, before):", "if False:"),
    "statistics pooled over the last window": ("inference/prompted_network.py", "if self.how.rounds == 0 or self._statistics_are_pooled():", "if self.how.rounds == 0:"),
    "the error decoder's errors not corrected": ("inference/prompted_network.py", "p = p * (1 - error) + (1 - p) * error", "p = p"),
    "points at the border": ("core/point_prompts.py", "inside = ndimage.distance_transform_edt(own)\n    return", "inside = -ndimage.distance_transform_edt(own)\n    return"),
    "special classes clicked like others": ("inference/prompt_arguments.py", "labels + 2 * (is_special[:, None] & (labels >= 0))", "labels"),
    "nothing agrees best with nothing": ("methods/choose_prompt.py", "not bool(each_finite(p).all()) or not bool(hard_masks(p, shadow.head).any())", "not bool(each_finite(p).all())"),
    "the last candidate's prompt kept": ("methods/choose_prompt.py", "        prompt.value = self.candidates[best]\n", ""),
    "the error decoder learns where the mask is": ("preparation/train_error_decoder.py", "((p > 0.5) != truth)", "truth"),
    "blanks at zero": ("core/masked_context.py", "filled = exact.mean(axes, keepdim=True)", "filled = 0 * exact.mean(axes, keepdim=True)"),
    "patches blanked evenly": ("core/masked_context.py", "1 + (self.preference - 1) * active", "1 + 0 * active"),
    "the whole window asked twice": ("core/masked_context.py", "shadow(blanked), target", "shadow(windows), target"),
    "weights of soft labels ignored": ("core/objectives.py", "-(weight * target * logits.log_softmax(1))", "-(target * logits.log_softmax(1))"),
    "scribbles in voxels, not in mm": ("transforms/scribbles.py", "sampling=spacing", "sampling=None"),
    "a class without a scribble is near": ("transforms/scribbles.py", "return np.zeros(marked.shape)", "return np.ones(marked.shape)"),
    "a checkpoint replaced": ("preparation/finetune_bundle.py", "if out.exists():", "if False:"),
    "learnt from the case that is left out": ("preparation/finetune_scribbles.py", "enumerate(checked) if k != number]", "enumerate(checked)]"),
    "a step on a gradient of zero": ("core/learned_optimizer.py", "torch.where(gradient == 0, torch.zeros_like(direction), direction)", "direction"),
    "a learned optimiser that recalls by its old memory": ("core/learned_optimizer.py", "F.layer_norm(_mapped(query, after)", "F.layer_norm(_mapped(query, memory)"),
    "a learned optimiser of any network": ("core/learned_optimizer_file.py", "digest_of(moving) != self.tensors", "False"),
    "MGG's windows compared one by one": ("methods/mgg.py", "windows[:, 0].numel() if self.discrepancy else usual", "usual"),
    "credit up the loss": ("preparation/optimizer_trainer.py", "-self.settings.lr * direction * part", "self.settings.lr * direction * part"),
    "InTEnt's present statistics biased": ("methods/blend_average.py", "unbiased: bool = True", "unbiased: bool = False"),
    "InTEnt trusts the least certain": ("methods/intent.py", "certain = 1 - torch.tensor", "certain = torch.tensor"),
    "a momentum that does not fall": ("methods/dua.py", "momentum = shadow.momentum * self.decay", "momentum = shadow.momentum"),
    "DUA's statistics from the source each time": ("methods/dua.py", "running = uses or (", "running = ("),
    "MEMO's views not put back": ("methods/memo.py", "pose.undo(checkpointed(shadow, view))", "checkpointed(shadow, view)"),
    "MEMO's plain view restyled": ("methods/memo.py", "            if number:\n", "            if True:\n"),
    "inference tensors learnt from": ("inference/adapter.py", "windows.clone() if windows.is_inference() else windows", "windows"),
    "SAR's second pass keeps what the first dropped": ("methods/sar.py", "keep &= shadow.found.pop(0)", "shadow.found.pop(0)"),
    "SAR's average not reset": ("methods/sar.py", "        shadow.average = None\n        return True", "        return True"),
    "CoTTA's teacher stands still": ("methods/cotta.py", "teacher.mul_(self.decay).add_(student, alpha=1 - self.decay)", "pass"),
    "CoTTA's views not put back": ("methods/cotta.py", "pose.undo(shadow(view)) + total", "shadow(view) + total"),
    "empty masks on the curve": ("quality/quality_predictor.py", "np.where(found_nothing(table), self.if_empty, curve)", "curve"),
    "an interval of one side": ("quality/conformal.py", "alpha = 1 - rate", "alpha = 2 * (1 - rate)"),
    "the truth looked up before it is predicted": ("preparation/fit_quality.py", "fit_point(rows.where(~inside))(rows.table[inside])", "fit_point(rows.where(inside))(rows.table[inside])"),
    "quality of another network": ("inference/predict_quality.py", "network_digest(source) != self.predictor.network", "False"),
    "masks used by the upper end of their interval": ("reporting/masks_to_use.py", "USE if intervals[worst][0] >= accept", "USE if intervals[worst][1] >= accept"),
    "DLTTA's temperature on both answers": ("methods/dltta.py", "logits[nearest].mean(1).log_softmax(-1)", "(logits[nearest].mean(1) / TEMPERATURE).log_softmax(-1)"),
    "DLTTA at the base rate": ("methods/dltta.py", "shadow.step_along(gradient, discrepancy)", "shadow.step_along(gradient)"),
    "SicTTA's least alike cases": ("methods/sictta.py", "key=lambda n: -cosines[n]", "key=lambda n: cosines[n]"),
    "cases together without the spread of their means": ("core/norm_uses.py", "variances.mean(0) + means.var(0, correction=0)", "variances.mean(0)"),
    "the shallowest features for the deepest": ("core/deep_features.py", "_rank(output) < _rank(best[0])", "_rank(output) > _rank(best[0])"),
    "MuVi's orientations not put back": ("methods/muvi.py", "logits = orientation.undo(shadow(orientation.apply(windows)))", "logits = shadow(orientation.apply(windows))"),
    "MuVi's features not put back": ("methods/muvi.py", ".undo(logits), shadow.head), orientation.undo(features)", ".undo(logits), shadow.head), features"),
    "pseudo-labels of the moved weights": ("methods/muvi.py", "with shadow.holding(shadow.start):", "with shadow.holding(shadow.moving):"),
    "MuVi's gradients of any length": ("methods/muvi.py", "min(1.0, self.max_length / (length(gradient) + 1e-12))", "1.0"),
    "both windows warped alike": ("methods/dgtta.py", "(shadow.draw(), shadow.draw())", "(shadow.draw(),) * 2"),
    "answers not warped back": ("core/affine_warps.py", "return _sampled(x, self.inverses)", "return x"),
    "what has left the frame compared": ("methods/dgtta.py", "(checkpointed(partial(_answer, shadow, one), windows) * kept for", "(checkpointed(partial(_answer, shadow, one), windows) for"),
    "four decoders that see the same": ("core/turned_decoders.py", "turns in (1, 2, 3, 0)]", "turns in (0, 0, 0, 0)]"),
    "an encoder for each decoder": ("core/turned_decoders.py", "_share(copies[0].module, copy.module, encoder)", "pass"),
    "every component labelled": ("core/turned_decoders.py", "_largest_component(mask) for mask", "mask for mask"),
    "Fisher information of the gradient, not of its square": ("preparation/fisher.py", "part.square()", "part.abs()"),
    "a bad image that ends the measuring": ("preparation/fisher.py", "            except Exception as error:  # one bad image must not end the run\n", "            except KeyError as error:\n"),
    "EATA's sure voxels weigh like others": ("methods/eata.py", "(threshold - entropy.detach()).exp() * entropy", "entropy"),
    "Fisher information of another network": ("methods/eata.py", "information.network != network_digest(source)", "False"),
    "half entropy made whole": ("core/tasks.py", "half_entropy if self.half else", "full_entropy if self.half else"),
    "learning rate not scaled by the cosine": ("methods/grata.py", "shadow.step_along(direction, [trust[layer] for layer in layers])", "shadow.step_along(direction)"),
    "method ignores the loss it is handed": ("methods/grata.py", "value, pseudo = shadow.gradient(loss, windows)", "value, pseudo = shadow.gradient(self.loss, windows)"),
    "GraTa's conflict kept": ("methods/grata.py", "without_conflict(pseudo, auxiliary, layers) if self.projected else pseudo", "pseudo"),
    "projected on the pseudo gradient itself": ("core/gradient_agreement.py", "g - shares[layer] * o", "g - shares[layer] * g"),
    "one cosine for all layers": ("methods/grata.py", "shadow.layers(self.per_layer)", "shadow.layers(False)"),
    "one learning rate for all layers": ("core/gradients.py", "[([t], s) for t, s in zip(group[\"params\"], own, strict=True)]", "[(group[\"params\"], own[0])]"),
    "a long auxiliary gradient outvotes a short one": ("core/gradient_agreement.py", "mean_length / (len(some) * length(gradient))", "1 / len(some)"),
    "a look-ahead in multiples of the gradient": ("methods/grata.py", "self.look_ahead / (length(auxiliary) + 1e-12) if self.normalized else self.look_ahead", "self.look_ahead"),
    "wrapper not passing on what it is given": ("core/wrapper.py", "return getattr(wrapper.inner, name)(*args, **kwargs)", 'return getattr(wrapper.inner, name)(*args[:-1], wrapper.inner.loss, **kwargs) if name == "adapt" else getattr(wrapper.inner, name)(*args, **kwargs)'),
    "views not undone": ("core/tasks.py", "pose.undo(probabilities", "(probabilities"),
    "autocast left on while adapting": ("inference/adapter.py", "torch.autocast(windows.device.type, enabled=False)", "torch.autocast(windows.device.type)"),
    "episodic carries its shadow on": ("inference/inferer.py", "elif self.settings.continual:", "elif True:"),
    "new weights not noticed": ("inference/inferer.py", "shadow if before == now else None", "shadow"),
    "unusable windows selected": ("inference/window_selection.py", "            if is_usable:", "            if True:"),
    "unusable windows learnt from in passing": ("inference/adapter.py", "can_adapt_from(own := detached_copy(windows))", "(own := detached_copy(windows)).numel()"),
    "images of a batch mixed": ("inference/batches.py", "yield inputs[i : i + 1], own_args", "yield inputs, own_args"),
    "seed not restarted": ("core/shadow.py", "        self._seed = seed\n        self._drawn = 0", "        self._seed = seed"),
    "windows handed over as views of the image": ("inference/first_pass.py", "self.network(windows.clone(), *args", "self.network(windows, *args"),
    "autocast weight cache left on": ("inference/adapter.py", "torch.no_grad(), without_weight_cache(windows.device):", "torch.no_grad():"),
    "a bare function in the network's place": ("inference/network_proxy.py", "kept = {name: value for name, value in vars(copied).items()", "kept = {name: value for name, value in ()"),
    "gradients by backward": ("core/gradients.py", "torch.autograd.grad(part, moving, allow_unused=True)", "(part.backward(), [m.grad for m in moving])[1]"),
    "unused branches not allowed": ("core/gradients.py", "allow_unused=True", "allow_unused=False"),
    "DataParallel not opened": ("inference/network.py", "nn.DataParallel | nn.parallel.DistributedDataParallel", "nn.Bilinear"),
    "attached scale not at one": ("core/normalization.py", "nn.Parameter(torch.ones(self.num_features", "nn.Parameter(torch.zeros(self.num_features"),
    "inference mode not left": ("inference/adapter.py", "with torch.inference_mode(False):", "with torch.enable_grad():"),
    "statistics pooled over the window batch": ("core/normalization.py", "flat = x.reshape(1, n_windows * n_channels, -1)", "return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)"),
    "statistics pooled over channels": ("core/normalization.py", "F.group_norm(_flat_voxels(x), n_channels,", "F.group_norm(_flat_voxels(x), 1,"),
    "pooled without the spread of the means": ("core/normalization.py", " + mean.var(0, correction=0)) if pool", ") if pool"),
    "weights of a gradient not flipped": ("compute/fast_kernels.py", "weight.flip(2, 3, 4).transpose(0, 1)", "weight.transpose(0, 1)"),
    "padding of a gradient as of the answer": ("compute/fast_kernels.py", "[k - 1 - p for k, p in", "[p for k, p in"),
    "a learning convolution's gradient lost": ("compute/fast_kernels.py", "any(p.requires_grad for p in (weight, bias) if p is not None)", "False"),
    "a learning PReLU's gradient lost": ("compute/fast_kernels.py", "            and not slope.requires_grad\n", ""),
    "strides not looked at": ("compute/fast_kernels.py", "{*self.stride, *self.dilation} == {1} and ", ""),
    "a copy's empty dictionaries are its source's": ("core/network_copy.py", "memo[id(value)] = type(value)()", "memo[id(value)] = value"),
    "guards see what was adapted on alone": ("inference/window_selection.py", "if len(selected) >= least:", "if True:"),
    "a fresh shadow pools over other windows": ("inference/episode.py", "windows if pools else selector.at_least", "selector.at_least"),
    "fast moments where gradients are taken": ("core/normalization.py", "if self._avoids_slow_kernels(x) and not takes_gradient(x):", "if self._avoids_slow_kernels(x):"),
    "moments in half width": ("core/normalization.py", "dtype=x.dtype if x.dtype == torch.float64 else torch.float32)", "dtype=x.dtype)"),
    "what sums up to infinity is not finite": ("compute/precision.py", "return sums if bool(sums.all()) else flat.isfinite().all(1)", "return sums"),
    "a scan that stops at the first of many windows": ("inference/first_pass.py", "if self.see is None or (len(windows) == 1 and tuple(windows.shape[2:]) == self.spatial):", "if True:"),
    "window statistics by F.instance_norm": ("core/normalization.py", "each = [F.batch_norm(w", "each = [F.instance_norm(w"),
    "group norm trusted behind frozen layers": ("compute/layer_mixins.py", "x if x.requires_grad else x.contiguous()", "x"),
    "batches short of memory given up": ("inference/adapter.py", "or len(windows) < 2 or", "or len(windows) < 9 or"),
    "what was half learnt carried on": ("inference/adapter.py", "self.has_learnt = True", "self.has_learnt = False"),
    "training mode left on": ("core/network_copy.py", "if not any(m.training for m in source.modules()):", "if True:"),
    "statistics' blend turned round": ("core/normalization.py", "(1 - b) * self.running_mean + b * mean", "b * self.running_mean + (1 - b) * mean"),
    "a corrected image's mask not turned back": ("pipeline/input_correction.py", "correction.undo(mask, given)", "mask"),
    "an image corrected unasked": ("pipeline/check_input.py", "finding.only_remedy if fix else None", "finding.only_remedy"),
    "equally good corrections hidden": ("quality/input_finding.py", "d - best <= EQUALLY_GOOD and", "d <= best and"),
    "a mask turned back the way it came": ("quality/corrections.py", "key=lambda k: self.order[k]", "key=lambda k: k"),
    "entropy of one side only": ("core/objectives.py", "(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))", "(p * F.logsigmoid(logits))"),
    "heads change the running statistics": ("preparation/train_heads.py", "layer.momentum = 0.0", "pass"),
    "the noisy image reconstructed, not the clean one": ("core/auxiliary_heads.py", "torch.stack(noise).to(windows), windows,", "torch.stack(noise).to(windows), windows + deviation * torch.stack(noise).to(windows),"),
    "source statistics kept": ("core/normalization.py", 'statistics if made.has_running_stats else "window"', '"source" if made.has_running_stats else "window"'),
    "compiled shell not opened": ("inference/network.py", '"_orig_mod" in module._modules', "False"),
    "meta data dropped": ("inference/first_pass.py", "if self.answers_have_meta and isinstance(windows, MetaTensor) else outputs", "if False else outputs"),
    "meta data added": ("inference/first_pass.py", "if self.answers_have_meta and isinstance(windows, MetaTensor) else outputs", "if isinstance(windows, MetaTensor) else outputs"),
    "a failure of adapting ends the run": ("inference/episode.py", "except Exception as failure:", "except CannotAdapt as failure:"),
    "a failed case empties the stream": ("inference/episode.py", "(made.has_learnt or carried is None)", "True"),
    "coordinates of another window": ("inference/adapter.py", "if has_per_window_inputs(*self.extra) and (len", "if False and (len"),
    "arguments not split like the images": ("inference/batches.py", "own_args = tuple(_of_image(value, i, n) for value in args)", "own_args = args"),
    "named tuples rebuilt from a list": ("compute/containers.py", 'if hasattr(first, "_fields")', "if False"),
    "a norm layer's own forward overridden": ("compute/layer_mixins.py", "if stock else (kind, mixin)", "if True else (kind, mixin)"),
    "tied weights come apart": ("core/shadow.py", "fresh.get(id(value), value)", 'value if value is None or vars(value).setdefault("first", id(module)) != id(module) else fresh.get(id(value), value)'),
    "no gradient, no word": ("core/shadow.py", "if all(part is None for part in direction):", "if False:"),
    "writes through .data not noticed": ("inference/network.py", "return tuple((*place, total)", "return tuple((*place, str())"),
    "views averaged in half precision": ("compute/precision.py", "return logits.float() if", "return logits if"),
    "a counter shared with the source": ("core/network_copy.py", "copy.deepcopy(value.detach(), memo)", "value.detach()"),
    "half width kept": ("core/shadow.py", "self.is_widened = widen_half_tensors(self.module)", "self.is_widened = False"),
    "what an inferer does to a network unnoticed": ("inference/network_proxy.py", "if (change := self.before.change_in(proxy, self.source)) is not None:", "if False:"),
    "layers of a proxy answer": ("inference/network_proxy.py", 'vars(module)["forward"] = partial(self._refuse_layer, path)', "pass"),
    "weights of a proxy shared with the source": ("inference/network_proxy.py", "ours.data = ours.data.clone()", "pass"),
    "a closure on record as adapted": ("inference/decision.py", "if watch.in_shadow:", "if False:"),
    "the source asked behind our back": ("inference/decision.py", "doubt = watch.in_inferer or", "doubt = False or"),
    "never called, on record as adapted": ("inference/request.py", "if not tally.n_calls:", "if False:"),
    "the plain answer by a proxy": ("inference/unadapted.py", "if request.only_calls:", "if True:"),
    "a hook left for all modules": ("inference/source_watch.py", "handle.remove()", "pass"),
    "guard not asked": ("inference/decision.py", "if reason is None and settings.guard is not None:", "if False:"),
    "every window answered in the first pass": ("inference/first_pass.py", "if shapes not in self._known:", "if True:"),
    "every window answered before one is selected": ("inference/window_selection.py", "ANSWERED_PER_WINDOW = 4", "ANSWERED_PER_WINDOW = 400"),
    "the source answers twice": ("inference/inferer.py", "reason = reason if self.settings.method.adapts else", "reason = reason if True else"),
    "gradients through float16": ("compute/precision.py", "dtype is None or (dtype == torch.float16 and torch.is_grad_enabled())", "dtype is None"),
    "no way back from fast": ("compute/precision.py", "isinstance(error, RuntimeError) and any", "False and any"),
    "fast answers left in half width": ("inference/first_pass.py", "outputs.to(self.dtype) if", "outputs if"),
    "adaptation windows' graphs add up": ("core/gradients.py", "windows.chunk(-(-len(windows) // windows_at_once(windows, voxels_at_once)))", "[windows]"),
    "a shadow is a second network": ("core/network_copy.py", "nn.Parameter(parameter.detach(), requires_grad=False)", "nn.Parameter(parameter.detach().clone(), requires_grad=False)"),
    "nothing is computed again": ("compute/checkpointing.py", "if not torch.is_grad_enabled():", "if True:"),
    "labels shown to the adapter": ("evaluation/answer_cases.py", 'torch.as_tensor(data["image"].as_tensor() if isinstance(data["image"], MetaTensor) else data["image"])[None]', '(torch.as_tensor(data["image"]) + 1e-3 * torch.as_tensor(data["label"]))[None]'),
    "a stream gone on with in its middle": ("evaluation/plan.py", "yield replace(everything, contenders=(stream,))", "yield replace(everything, contenders=(stream,), numbers=tuple(n for n in numbers if everything.key(stream, n) not in done))"),
    "p values not corrected": ("reporting/significance.py", "(len(known) - rank) * p", "p"),
    "seeds counted as cases": ("reporting/summary.py", "changes = [after - before for before, after in pairs.values()]", "changes = [after - before for _, before, after in both]"),
    "missed masks left out": ("evaluation/scoring.py", 'Score(0.0, 0.0 if "nsd" in metrics else nan,', "Score(nan, nan,"),
    "distances without spacing": ("evaluation/scoring.py", 'voxel_spacing(data["label"], dims) or voxel_spacing(data.get("image"), dims) or ', ""),
    "half a job's rows kept": ("reporting/rows.py", "key = astuple(row.key)", "key = astuple(row.key); self._file.commit()"),
    "rows of other settings mixed": ("reporting/rows.py", "self._same(name, old, value)", "pass"),
    "processes step alone": ("core/gradients.py", "if over_processes else (value, total)", "if False else (value, total)"),
    "guards asked past the first reason": ("guards/base.py", "return next((reason for guard in self.guards if (reason := as_guard(guard).check(evidence)) is not None), None)", "return [as_guard(g).check(evidence) for g in self.guards][-1] if self.guards else None"),
    "an unadapted answer for every guard": ("guards/change.py", "if bool(each_finite(evidence.adapted).all()):", "if evidence.unadapted is None:"),
    "views compared with themselves": ("guards/evidence.py", "agreement(unchanged, other, shadow.head)", "agreement(other, other, shadow.head)"),
    "unadapted views by the shadow": ("guards/evidence.py", "_view_agreement(self.source, self.windows, views)", "_view_agreement(self.shadow, self.windows, views)"),
    "volumes compared one way": ("guards/change.py", "abs(old - new) > self.most * larger", "new - old > self.most * larger"),
    "reference ranges not widened": ("guards/reference_ranges.py", "more = slack * max", "more = 0 * max"),
    "specks counted as components": ("guards/shape_features.py", "[1:] >= small", "[1:] >= 1"),
    "a collapsed stream goes on": ("inference/episode.py", "elif made.restart is not None and not settings.together:", "elif False:"),
    "suspicious cases never forgotten": ("guards/collapse.py", "suspicious_cases = 0 if reason is None else", "suspicious_cases = evidence.shadow.suspicious_cases if reason is None else"),
    "collapse measured against the source": ("guards/collapse.py", "(evidence.shadow, evidence.fresh)", "(evidence.shadow, evidence.source)"),
    "fresh shadows collapse, too": ("inference/decision.py", "if settings.collapse is None or not carried or", "if settings.collapse is None or"),
    "spread of the trees ignored": ("quality/gain_predictor.py", "gain - margin * spread > 0", "gain > 0"),
    "what is not worth the risk is adapted": ("quality/gain_predictor.py", " and exceeds_min_gain(weights, gain, min_gain)", ""),
    "the margin counts on what is not worth it": ("preparation/margin.py", "exceeds_margin(gain, spread, margin) for gain, spread in way", "exceeds_margin(gain, spread, margin) and exceeds_min_gain(candidate_weights(gain, spread, TEMPERATURE), gain) for gain, spread in way"),
    "answers mixed evenly": ("quality/gain_predictor.py", "np.exp((cautious - cautious[sure].max()) / temperature)", "np.ones_like(gain)"),
    "doubtful gains count": ("quality/gain_predictor.py", "sure = gain > spread", "sure = gain > 0 * spread"),
    "spread ignored among the sure": ("quality/gain_predictor.py", "cautious = gain - RISK_AVERSION * spread", "cautious = gain"),
    "a prefilter that misses a lot": ("preparation/fit.py", "threshold = min(NEGLIGIBLE_GAIN, float(", "threshold = max(NEGLIGIBLE_GAIN, float("),
    "a prefilter that stops nothing": ("preparation/fit.py", "threshold = min(NEGLIGIBLE_GAIN, float(expected[order][may_stop].max()) if may_stop.any() else -1.0)", "threshold = -1.0"),
    "the prefilter's no is ignored": ("methods/careful.py", "predictor.prefilter_gain(source_features.numpy()) <= predictor.prefilter_threshold", "False"),
    "the source tried in the place of a candidate": ("methods/careful.py", "trials += try_candidate(candidate,", "trials += try_candidate(source,"),
    "edited windows lose their mean": ("core/image_edits.py", "change = KeepMoments([EDITS[edit]])", "change = EDITS[edit]"),
    "all the way to the source": ("core/source_look.py", "(stds + share * (to_stds - stds))", "to_stds"),
    "the background moves with the body": ("core/source_look.py", "return torch.where(body, moved, exact).to(windows.dtype)", "return moved.to(windows.dtype)"),
    "amplitudes doubled at every frequency": ("core/source_look.py", "torch.where(frequency > 0, factor, torch.ones_like(factor))", "torch.full_like(factor, 2.0)"),
    "each window moved by its own look": ("methods/toward_source.py", "body_of(windows, self.backgrounds), self.own,", "body_of(windows, self.backgrounds), look_of(windows, self.backgrounds),"),
    "older predictors look at other features": ("quality/gain_predictor.py", "columns[np.maximum(forest.feature, 0)]", "np.maximum(forest.feature, 0)"),
    "no figures of the source kept": ("preparation/fit.py", "return replace(predictor, look=calibration.look)", "return predictor"),
    "one edit whatever was asked": ("methods/image_edit.py", "edit_image(windows, self.edit)", 'edit_image(windows, "softer")'),
    "grey scales out of order": ("preparation/distortions.py", "lengths = torch.tensor([draw(0.05, 1.0)", "lengths = torch.tensor([draw(-1.0, 1.0)"),
    "pickles opened in a file of numbers": ("compute/number_files.py", "np.load(path, allow_pickle=False)", "np.load(path, allow_pickle=True)"),
    "an image on both sides of a fold": ("preparation/fit.py", "int(order[numbers[group]]) % FOLDS for group in groups", "i % FOLDS for i, _ in enumerate(groups)"),
    "few cases believed": ("preparation/margin.py", "(harmed + 1) / (n + 1)", "harmed / n"),
    "grave losses counted like others": ("preparation/margin.py", "and grave <= harm / 4", ""),
    "an error stays with its case": ("preparation/margin.py", "np.searchsorted(errors, limits) / len(errors)", "(true_gains[is_mixture] < -GRAVE_LOSS)"),
    "gambles are taken": ("quality/gain_predictor.py", "is_adapted = is_adapted and not is_gamble(weights, gain, spread, self.loss_limit)", "pass"),
    "margins chosen with gambles": ("preparation/margin.py", "is_adapted = is_sure & is_allowed", "is_adapted = is_sure"),
    "images held out in one way": ("preparation/fit.py", "np.random.default_rng(k).permutation(len(numbers))", "np.arange(len(numbers))"),
    "a task calibrates its own networks": ("preparation/fit.py", "tasks.index(_task(network))", "networks.index(network)"),
    "labels stay where images move": ("preparation/distortions.py", 'move(label, mode="nearest")', "label"),
    "windows cut with other windows' labels": ("preparation/collect_cases.py", "torch.equal(w[:, :channels], chosen)", "True"),
    "the gain predictor's no is ignored": ("methods/careful.py", "if not weights.any():", "if not (weights := weights if weights.any() else weights + 1).any():"),
    "candidates answer by the source's statistics": ("quality/candidates.py", "    shadow.pool_statistics(windows)\n", ""),
    "averaged and un-augmented answers mixed up": ("methods/careful.py", "if contribution.averaged else unaugmented_answer", "if not contribution.averaged else unaugmented_answer"),
    "volumes of grids that lie along the axes": ("pipeline/mask_labels.py", "float(abs(np.linalg.det(axes))) / 1000", "float(abs(np.prod(np.diag(axes)))) / 1000"),
    "a wrong name rather than none": ("pipeline/mask_labels.py", "all(value in structures for value in there)", "True"),
    "names in anonymous records": ("pipeline/records.py", "({} if self.facts.anonymous else names)", "names"),
    "paths of others on record": ("pipeline/private_text.py", "_ABSOLUTE.sub(A_PATH, _QUOTED.sub(A_PATH, text))", "text"),
    "trials taken again": ("preparation/collect_cases.py", "is_there, kept = trials.read(number)", "is_there, kept = False, None"),
    "own answers as probabilities taken for logits": ("preparation/labelled_images.py", "answer if reader.form is None else reader.form.logits(answer, head)", "answer"),
    "own answers in the place of labels": ("preparation/labelled_images.py", "own_answer(network, inferer, image, resolved) if label is None else label", "own_answer(network, inferer, image, resolved)"),
    "an image counts twice, with and without its label": ("preparation/source_images.py", "new = _without_labelled(images, domain)", "pass"),
    "trials of other images taken": ("preparation/trials.py", '"cases": [{key: _content(value) for key, value in item.items()} for item in items],', '"cases": [],'),
    "a useless predictor is used": ("pipeline/bundle_predictor.py", "if useless := read_predictor(predictor).useless_because():", "if useless := None:"),
    "what is done is not noted": ("pipeline/run_log.py", 'self._append({"done"', '({"done"'),
    "resumed with other settings": ("pipeline/run_log.py", "if other := sorted(", "if False and sorted("),
    "an image that ends the process comes first": ("pipeline/run_log.py", "return [n for n in unfinished if n not in self.begun] + ", "return unfinished if unfinished else "),
    "lost masks taken for done": ("pipeline/run_log.py", 'all(name in existing for name in [*line["masks"], *line["maps"]])', 'all(existing.setdefault(name, self.journal.path) for name in [*line["masks"], *line["maps"]])'),
    "two runs in one folder": ("pipeline/folder_locks.py", "fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)", "fcntl.LOCK_SH"),
    "remains of killed runs kept": ("pipeline/output_folder.py", "if is_locked else ():", "if False else ():"),
    "masks over images": ("pipeline/output_folder.py", "image.samefile(target) for image in images", "image is target for image in images"),
    "a full disk is one image's fault": ("pipeline/outcome.py", "if segmented.disk_full:", "if False:"),
    "masks of NaN": ("pipeline/image_segmenter.py", 'check_no_nan(data["pred"])', "pass"),
    "an image in no share": ("pipeline/shards.py", "% self.count == self.index - 1", "% self.count == self.index"),
    "a run that is over while a shard is at work": ("pipeline/shard_records.py", "if not _ended(lines):", "if not lines:"),
    "what another number of shards did is done again": ("pipeline/run_log.py", "there = [] if self.restart else journals(self.out)", "there = [] if self.restart else [j for j in journals(self.out) if j == self.journal]"),
    "a finished run's records replaced by a shard's": ("pipeline/journal.py", "    if is_finished:\n", "    if False:\n"),
    "shards of two counts at once": ("pipeline/folder_locks.py", "if other.count != shard.count and is_held(path):", "if False:"),
    "an image whose worker died is forgotten": ("compute/worker_pool.py", "for job, _ in list(lost):", "for job, _ in []:"),
    "headers believed": ("pipeline/input_checks.py", "if memory and needed > memory:", "if False:"),
    "an image that changed within is taken for done": ("pipeline/run_log.py", 'if line.get("content") != content_id(self.images[number]):', "if False:"),
    "folders cut at their last dot": ("pipeline/image_names.py", "    if image.is_dir():\n        return name\n", ""),
    "names that are the same stay so": ("pipeline/image_names.py", "while number in shared and key(unique) in taken:", "while False:"),
    "images of another folder are missed": ("pipeline/find_images.py", "            self.visit(path, way)\n", "            pass\n"),
    "a link back passes for another": ("pipeline/find_images.py", "if real in above or", "if"),
    "a folder searched by each of its links": ("pipeline/find_images.py", "searched anyway\" if real in self.visited else", "searched anyway\" if False else"),
    "photographs as they lie": ("transforms/pictures.py", "return shown if is_turned_by_reading or orientation not in _TURNS else", "return shown if True else"),
    "what is under the alpha": ("transforms/pictures.py", "    if is_clear:\n", "    if False:\n"),
    "any 16 bits": ("transforms/pictures.py", "if highest < 64:", "if highest < 0:"),
    "values of another depth": ("pipeline/value_range.py", "if 0 < high - low < _NARROW * span:", "if False:"),
    "zip bombs unpacked": ("pipeline/checkpoint.py", "if declared > path.stat().st_size:", "if False:"),
    "names that move the cursor": ("cli/console.py", "c if c.isprintable() else", "c if True else"),
    "a wrapper that keeps the contract's defaults": ("core/wrapper.py", 'if not name.startswith("_") and name not in vars(cls):', "if False:"),
    "a candidate that says nothing passes for another": ("methods/careful.py", "            candidate_row(candidate.candidate_features)\n", "            pass\n"),
    "a shadow in a precision of its own": ("core/shadow.py", "self.precision = other.precision", "pass"),
    "a candidate runs by its own settings": ("quality/candidates.py", "    shadow.run_like(pool)\n", ""),
    "windows by twos in the papers' order": ("core/shadow.py", "voxels_at_once=self.voxels_at_once,", ""),
    "a gain concluded from an interval around zero": ("reporting/conclusion.py", "and self.line.interval[0] > 0", ""),
    "a structure read from its neighbour's bit": ("transforms/headneck.py", ">> place % _BITS", ">> (place + 1) % _BITS"),
    "a missing series not zero": ("transforms/headneck.py", "    scores[missing] = 0\n", ""),
    "a mask with a bad structure is looked at": ("reporting/masks_to_use.py", "if any(high < accept for _, high in intervals):", "if all(high < accept for _, high in intervals):"),
    "an unusual input is used as it is": ("reporting/report_page.py", "if what != REFUSE and str", "if False and str"),
    "slices upside down": ("core/geometry.py", ".flip(1, 2).transpose(1, 2)", ".transpose(1, 2)"),
    "an old package passes": ("pipeline/installation.py", "if not requirement.specifier.contains(installed, prereleases=True):", "if False:"),
    "a handler that counts the cases of the epoch before": ("apps/handlers.py", "        self._figures = []\n        self._next = self.inferer", "        self._next = self.inferer"),
    "MONAI Label's mask in another form than asked": ("apps/monai_label.py", "if mask.name.endswith(form):", "if True:"),
    "MONAI Label adapts whatever the client says": ("apps/monai_label.py", 'if _is_true(request.get("adapt", True)) else Source()', ""),
    "series beside each other": ("transforms/headneck_files.py", "if not apart < 0.1:", "if False:"),
    "nothing found where nothing is scores nothing": ("evaluation/structure_scores.py", "agree = float(bool(pred.any()) == bool(label.any()))", "agree = 0.0"),
    "added parameters that change the answer at once": ("core/added_parameters.py", "torch.zeros(layer.out_channels, self.rank, *ones)", "torch.ones(layer.out_channels, self.rank, *ones)"),
    "a low-rank increment through a kernel for frozen weights": ("core/added_parameters.py", "stock._conv_forward(layer, features, layer.added_down, None)", "layer._conv_forward(features, layer.added_down.detach(), None)"),
    "added parameters of another network": ("core/added_files.py", "if self.network != network or shapes", "if shapes"),
    "records with the folder of added parameters": ("core/added_parameters.py", "repr(replace(self, file=Path(self.file).name))", "repr(self)"),
    "added parameters learn from themselves": ("preparation/pretrain_added.py", "target = probabilities(teacher(windows), teacher.head)\n    return", "target = probabilities(student(windows), teacher.head)\n    return"),
    "added parameters that see no distortion": ("preparation/pretrain_added.py", "torch.cat([distorted, windows])", "torch.cat([windows, windows])"),
    "passes without gradient looked at": ("methods/stag.py", "if torch.is_grad_enabled() == is_recording:", "if True:"),
    "anchors of another classifier": ("methods/stag.py", "class_anchors(weight.detach(), bias.detach(), head, reading)", "class_anchors(weight.detach() + 1, bias.detach(), head, reading)"),
    "background outweighs": ("core/entropy_gradients.py", "    if equal_classes:\n", "    if False:\n"),
    "certain voxels lose their direction": ("core/entropy_gradients.py", "logits.scatter(1, classes, -torch.inf).softmax(1)", "logits.softmax(1)"),
    "features pushed away from their prototypes": ("core/entropy_gradients.py", "return -(anchors @ features)", "return (anchors @ features)"),
    "slices may drift aside": ("pipeline/series_geometry.py", "(drift := float(np.linalg.norm(aside[-1]))) >= TOLERANCE * pixel", "(drift := 0.0) > 1"),
    "the reader's place believed": ("pipeline/declared_place.py", "if not apart.max() < TOLERANCE:", "if False:"),
    "slices that the reader leaves out": ("pipeline/series_checks.py", "if header.name not in taken_names]", "if False]"),
    "one form believed": ("pipeline/nifti_forms.py", "if not voxels_apart(sform, qform, shape) <= TOLERANCE:", "if False:"),
    "the last use's statistics for all uses": ("core/norm_uses.py", "return self.use - 1", "return 0"),
    "one value normalised by itself": ("core/norm_uses.py", "return self.has_running_stats and x[0, 0].numel() == 1", "return False"),
    "probabilities taken for logits": ("core/answer_form.py", "elif in_unit and (sums_to_one", "elif False and (sums_to_one"),
    "all numbers in the unit interval taken for probabilities": ("core/answer_form.py", 'or ending == "probability"', "or True"),
    "logits in place of the network's probabilities": ("core/answer_form.py", 'if head == "softmax" and self.sums_to_one else logits.sigmoid()', 'if head == "softmax" and self.sums_to_one else logits'),
    "a small output taken for the main one": ("compute/containers.py", "order = fitting or list(_keys(outputs))", "order = list(_keys(outputs))"),
    "a gate taken for an end": ("compute/watch_endings.py", "if len(given) != 1 or None in given:\n        return None\n    (known,) = given", "known = next(iter(given - {None}), None)\n    if known is None:\n        return None"),
    "clicks of the whole image in mirrored windows": ("core/tasks.py", "        refuse_views_of_window_inputs(*shadow.extra)\n", "        pass\n"),
    "a picture of another answer": ("evaluation/example_pictures.py", "> SAME_DICE", "> 9"),
    "an override that nothing notices": ("pipeline/config_changes.py", "        if problem:\n            raise", "        if problem:\n            continue\n            raise"),
    "overrides that a resumed run forgets": ("pipeline/config_changes.py", '"--set": _hash([json.dumps(self.entries).encode()] if self.entries else [])', '"--set": ""'),
    "a gain predictor of any config": ("pipeline/bundle_predictor.py", 'about.get(CHANGED_CONFIG, "") != inference_digest(root, changes)', 'about.get(CHANGED_CONFIG, "") is None'),
    "weights loaded in part": ("pipeline/checkpoint.py", "    parts = ((", "    missing = []\n    parts = (("),
    "the usual weights in place of the named ones": ("pipeline/checkpoint.py", "return found[0] if found else", "return"),
    "GroupNorm with the source's statistics": ("pipeline/overlay.py", 'getattr(layer, "running_mean", None) is not None', "True"),
    "sequences in the order of their names": ("pipeline/case_lists.py", "files[sequence][0] for sequence in sequences if", "files[sequence][0] for sequence in sorted(sequences) if"),
    "sequences that lie elsewhere": ("pipeline/case_file.py", "if not far <= TOLERANCE:", "if False:"),
    "points left where the file has them": ("pipeline/prompts.py", "coordinates @ move[:dims, :dims].T + move[:dims, -1]", "coordinates"),
    "prompts of another case": ("pipeline/prompts.py", "(*names, ALL)", "(ALL, *names)"),
    "cases that tie accepted one by one": ("quality/failure_detection.py", "np.append(own[1:] != own[:-1], True)", "np.append(own[1:] == own[1:], True)"),
    "excess as a share of the worst": ("quality/failure_detection.py", "room = float(risks.mean()) - ideal", "room = 1 - ideal"),
    "copies of an image counted as images": ("quality/ranking_bootstrap.py", "names = list(range(len(own))) if groups is None else list(groups)", "names = list(range(len(own)))"),
    "a signal the wrong way round": ("quality/signals.py", "return figure if self.higher_is_better else -figure", "return figure"),
    "a refused answer without its signals": ("evaluation/trust_figures.py", "if row.reason is not None or n in of_image", "if n in of_image"),
    "a failed measurement passes for a refusal": ("evaluation/case_signals.py", "            self._failure = error\n", "            raise\n"),
    "signals of another network's views": ("evaluation/case_signals.py", "for part, weight in shadow.answering", "for part, weight in ((shadow, 1.0),)"),
    "uncertainty of the mean alone": ("core/uncertainty.py", "entropy_of(mean.clamp(0, 1), head) - mean_entropy", "entropy_of(mean.clamp(0, 1), head)"),
    "the source's uncertainty beside an adapted mask": ("inference/uncertainty.py", "adapted if adapted is not None else self._source_shadow()", "self._source_shadow()"),
    "a map left in the network's grid": ("pipeline/uncertainty_map.py", "orig_keys=original, nearest_interp=False)(case))", "orig_keys=original, nearest_interp=False)(case)) if False else case"),
    "a map on another grid than its mask": ("pipeline/uncertainty_map.py", "    if not same:\n", "    if False:\n"),
    "a lost map passed over": ("pipeline/run_log.py", 'all(name in existing for name in [*line["masks"], *line["maps"]])', 'all(name in existing or not existing.setdefault(name, self.path) or name in line["maps"] for name in [*line["masks"], *line["maps"]])'),
}  # fmt: skip

TESTS = [
    "test_golden", "test_reference", "test_laws", "core", "compute", "inference", "guards",
]  # fmt: skip
PROCESSES = "inference/test_processes"  # asked last: it starts many processes
# What compares and reports has tests of its own, which know nothing of how adapting is done, and the other way round.
OWN = {
    "apps/": ["apps/test_handlers", "apps/test_monai_label"],
    "compute/number_files.py": ["quality/test_gain_predictor", "core/test_learned_optimizer"],
    "compute/fast_kernels.py": ["compute/test_fast_kernels"],
    "core/image_edits.py": ["core/test_image_edits"],
    "pipeline/night.py": ["cli/test_night"],
    "core/geometry.py": ["pipeline/test_mask_pictures", "evaluation/test_example_pictures"],
    "pipeline/installation.py": ["cli/test_doctor"],
    "pipeline/nnunet_": ["pipeline/test_nnunet_files"],
    "pipeline/series_": ["pipeline/test_series_geometry"],
    "pipeline/slice_headers.py": ["pipeline/test_series_geometry"],
    "pipeline/declared_place.py": ["pipeline/test_series_geometry", "pipeline/test_nifti_forms"],
    "pipeline/nifti_forms.py": ["pipeline/test_nifti_forms"],
    "pipeline/image_names.py": ["pipeline/test_image_names"],
    "pipeline/find_images.py": ["pipeline/test_find_images"],
    "pipeline/uncertainty_map.py": ["pipeline/test_uncertainty_map"],
    "pipeline/run_log.py": [
        "pipeline/test_run_log",
        "cli/test_uncertainty",
        "pipeline/test_many_studies",
        "pipeline/test_reliability",
    ],
    "pipeline/journal.py": ["pipeline/test_many_studies"],
    "pipeline/shard": ["pipeline/test_many_studies"],
    "pipeline/folder_locks.py": ["pipeline/test_many_studies", "pipeline/test_reliability"],
    "compute/worker_pool.py": ["pipeline/test_many_studies"],
    "pipeline/value_range.py": ["pipeline/test_picture_checks"],
    "pipeline/bundle_predictor.py": ["preparation/test_trials", "pipeline/test_config_changes"],
    "pipeline/mask_labels.py": ["pipeline/test_mask_labels"],
    "pipeline/records.py": ["pipeline/test_records"],
    "pipeline/private_text.py": ["pipeline/test_records"],
    "pipeline/config_changes.py": ["pipeline/test_config_changes"],
    "pipeline/bundle_config.py": ["pipeline/test_config_changes"],
    "pipeline/checkpoint.py": ["pipeline/test_checkpoint", "pipeline/test_reliability"],
    "pipeline/overlay.py": ["pipeline/test_overlay"],
    "pipeline/case_": ["pipeline/test_case_lists"],
    "pipeline/prompts.py": ["pipeline/test_prompts"],
    "pipeline/input_correction.py": ["pipeline/test_check_input"],
    "pipeline/input_view.py": ["pipeline/test_check_input"],
    "pipeline/check_input.py": ["pipeline/test_check_input"],
    "pipeline/triage.py": ["pipeline/test_triage"],
    "pipeline/quality_words.py": ["pipeline/test_triage"],
    "pipeline/": ["pipeline/test_reliability"],
    "cli/console.py": ["pipeline/test_reliability"],
    "quality/gain_predictor.py": ["quality/test_gain_predictor", "methods/test_toward_source"],
    "preparation/fit.py": ["preparation/test_fit", "methods/test_toward_source"],
    "preparation/margin.py": ["preparation/test_fit"],
    "quality/candidates.py": ["methods/test_careful"],
    "quality/quality_predictor.py": ["quality/test_quality_predictor"],
    "quality/conformal.py": ["quality/test_quality_predictor"],
    "quality/structure_features.py": ["quality/test_quality_predictor"],
    "preparation/fit_quality.py": ["preparation/test_fit_quality"],
    "inference/predict_quality.py": ["inference/test_quality"],
    "core/uncertainty.py": ["core/test_uncertainty"],
    "inference/uncertainty.py": ["inference/test_uncertainty"],
    "preparation/distortions.py": ["preparation/test_distortions"],
    "preparation/collect_cases.py": ["preparation/test_calibrate_network", "preparation/test_trials"],
    "preparation/trials.py": ["preparation/test_trials"],
    "preparation/labelled_images.py": ["preparation/test_unlabelled"],
    "preparation/source_images.py": ["preparation/test_unlabelled"],
    "methods/careful.py": ["methods/test_careful"],
    "methods/image_edit.py": ["core/test_image_edits"],
    "core/source_look.py": ["core/test_source_look"],
    "methods/toward_source.py": ["methods/test_toward_source"],
    "core/learned_optimizer": ["core/test_learned_optimizer", "test_reference"],
    "core/gradient_agreement.py": ["methods/test_grata"],
    "methods/grata.py": ["methods/test_grata", "test_reference", "test_laws"],
    "methods/blend_average.py": ["test_reference"],
    "methods/dua.py": ["test_reference"],
    "methods/memo.py": ["test_reference"],
    "methods/sar.py": ["test_reference"],
    "methods/cotta.py": ["test_reference"],
    "methods/dltta.py": ["test_reference"],
    "methods/sictta.py": ["test_reference"],
    "core/deep_features.py": ["methods/test_banks"],
    "methods/muvi.py": ["test_reference", "methods/test_muvi"],
    "methods/dgtta.py": ["test_reference"],
    "core/affine_warps.py": ["core/test_affine_warps", "test_reference"],
    "preparation/fisher.py": ["preparation/test_fisher", "test_reference"],
    "methods/eata.py": ["methods/test_eata", "test_reference"],
    "methods/intent.py": ["test_reference"],
    "methods/mgg.py": ["methods/test_mgg"],
    "preparation/optimizer_trainer.py": ["preparation/test_train_optimizer"],
    "methods/vptta.py": ["test_reference", "test_golden"],
    "core/diary.py": ["methods/test_dyna"],
    "core/turned_decoders.py": ["core/test_turned_decoders"],
    "core/night.py": ["methods/test_dyna"],
    "methods/stag.py": ["methods/test_stag", "test_reference"],
    "core/entropy_gradients.py": ["core/test_entropy_gradients"],
    "core/prompt.py": ["core/test_prompt"],
    "core/replay.py": ["methods/test_rehearsal"],
    "core/stored_features.py": ["methods/test_rehearsal"],
    "methods/rehearsal.py": ["methods/test_rehearsal"],
    "preparation/rehearsal.py": ["methods/test_rehearsal"],
    "evaluation/streams.py": ["methods/test_rehearsal"],
    "core/point_prompts.py": ["inference/test_self_prompting"],
    "inference/prompted_network.py": ["inference/test_self_prompting"],
    "inference/prompt_arguments.py": ["inference/test_self_prompting"],
    "methods/choose_prompt.py": ["methods/test_choose_prompt", "test_reference"],
    "preparation/train_error_decoder.py": ["preparation/test_train_error_decoder"],
    "core/masked_context.py": ["core/test_masked_context", "test_reference"],
    "transforms/scribbles.py": ["transforms/test_scribbles", "test_reference"],
    "preparation/finetune_": ["preparation/test_finetune_scribbles"],
    "core/added_": ["core/test_added_parameters", "test_reference"],
    "preparation/pretrain_added.py": ["preparation/test_pretrain_added"],
    "inference/network_proxy.py": ["inference/test_network_proxy"],
    "inference/network_state.py": ["inference/test_network_proxy"],
    "inference/source_watch.py": ["inference/test_network_proxy"],
    "inference/request.py": ["inference/test_network_proxy"],
    "inference/unadapted.py": ["inference/test_network_proxy", "inference/test_odd_calls"],
    "inference/stream_files.py": ["inference/test_stream_files"],
    "evaluation/answer_cases.py": ["evaluation/test_compare"],
    "evaluation/compare.py": ["evaluation/test_compare"],
    "evaluation/nnunet_labelled.py": ["evaluation/test_nnunet_labelled"],
    "quality/failure_detection.py": ["quality/test_failure_detection"],
    "quality/ranking_": ["quality/test_failure_detection"],
    "quality/interval_coverage.py": ["quality/test_failure_detection"],
    "quality/signals.py": ["quality/test_signals"],
    "evaluation/case_signals.py": ["evaluation/test_case_signals"],
    "evaluation/trust": ["evaluation/test_trust"],
    "reporting/masks_to_use.py": ["reporting/test_report_page"],
    "reporting/report_page.py": ["reporting/test_report_page"],
    "reporting/trust_": ["evaluation/test_trust"],
    "evaluation/plan.py": ["evaluation/test_compare"],
    "transforms/headneck": ["transforms/test_headneck"],
    "transforms/pictures.py": ["transforms/test_pictures"],
    "evaluation/structure_scores.py": ["evaluation/test_structure_scores"],
    "evaluation/scoring.py": ["evaluation/test_scoring"],
    "reporting/rows.py": ["reporting/test_tables"],
    "reporting/summary.py": ["reporting/test_tables"],
    "reporting/conclusion.py": ["reporting/test_conclusion"],
    "evaluation/example_pictures.py": ["evaluation/test_example_pictures"],
    "reporting/significance.py": ["reporting/test_significance"],
    "quality/corrections.py": ["quality/test_corrections"],
    "quality/possible_corrections.py": ["quality/test_corrections"],
    "quality/input_": ["quality/test_input_finding"],
    "preparation/train_heads.py": ["core/test_auxiliary_heads"],
    "core/norm_uses.py": ["core/test_norm_uses", "test_reference"],
    "core/answer_form.py": ["inference/test_probabilities", "inference/test_outputs"],
    "compute/containers.py": ["inference/test_outputs"],
    "compute/watch_endings.py": ["inference/test_probabilities"],
}
CAUGHT = 10  # exit codes of a mutant's process
SURVIVED = 11
# What is not of this project and takes seconds to import, once for all mutants.
PRELOADED = (
    "torch", "monai.bundle", "monai.engines", "monai.handlers", "monai.inferers", "monai.losses", "monai.metrics",
    "monai.networks.nets", "monai.transforms", "nibabel", "SimpleITK", "scipy.ndimage", "sklearn.ensemble", "matplotlib.pyplot",
    "typer.testing", "hypothesis", "jsonschema",
)  # fmt: skip
SLOW = "not profile and not cohort and not bundle_over"  # and about no mutant


def survives(name: str | None) -> bool:
    """Whether the tests pass with this mutant in place (None: with the code as it is)."""
    file, old, new = MUTANTS[name] if name else ("__init__.py", "", "")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("monai_tta", "transforms", "bundles", "tests"):
            shutil.copytree(ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "setup.cfg", copy)
        target = copy / "monai_tta" / file
        text = target.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"mutant {name!r} no longer fits {file}: {old!r} is not there")
        target.write_text(text.replace(old, new) if old else text, encoding="utf-8")
        return all(_pass(copy, tests) for tests in (_stages(file) if name else [_all_tests()]))


def _stages(file: str) -> list[list[str]]:
    """The tests that are asked about a mutant of this file, one stage after the other until one fails.

    The nearest come first, because most mutants are caught there, and the laws take minutes.
    """
    own = next((tests for place, tests in OWN.items() if file.startswith(place)), None)
    if own:
        return [own]
    package, module = Path(file).parts[0], Path(file).stem
    namesake = [f"{package}/test_{module}"] if (ROOT / "tests" / package / f"test_{module}.py").exists() else []
    nearest = [[test] for test in (*namesake, package) if test in (*namesake, *TESTS)]
    return [*nearest, [test for test in TESTS if test != package], [PROCESSES]]


def _all_tests() -> list[str]:
    return [*TESTS, PROCESSES, *sorted({test for tests in OWN.values() for test in tests})]


def _pass(copy: Path, tests: list[str]) -> bool:
    """Whether these tests pass in this copy. They run in a fork of this process, which has torch and MONAI loaded."""
    files = [str(copy / "tests" / (f"{test}.py" if "test_" in test else test)) for test in tests]
    child = os.fork()
    if not child:
        os._exit(_run_pytest(copy, files))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise SystemExit(f"no test was run of {', '.join(tests)}: a mutant would seem to be caught")
    return code == pytest.ExitCode.OK


def _run_pytest(copy: Path, files: list[str]) -> int:
    """Run these test files in this process, on the copy of the package; what they print is dropped."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("monai_tta", "tests")]:
        del sys.modules[name]
    file = str(copy / "tests" / f"{PROCESSES}.py")
    last = [] if file in files else ["--ignore", file]
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", SLOW, "--rootdir", str(copy), *last, *files]))


def _survivors(names: list[str], workers: int) -> Iterator[tuple[str, bool]]:
    """Each mutant, as it is done, and whether it survives. One process for each mutant, so many at once."""
    waiting = list(reversed(names))
    running: dict[int, str] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            name = waiting.pop()
            child = os.fork()
            if not child:
                os._exit(_answer(name))
            running[child] = name
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        if code not in (CAUGHT, SURVIVED):
            raise SystemExit(f"mutant {running[child]!r}: it could not be told whether it survives")
        yield running.pop(child), code == SURVIVED


def _answer(name: str) -> int:
    try:
        return SURVIVED if survives(name) else CAUGHT
    except BaseException:  # nothing may leave this process but an exit code: above is the code of the one that forked it
        traceback.print_exc()
        return 1


def main() -> None:
    """Report every mutant; end with 1 when one survives."""
    chosen = [name for name in MUTANTS if " ".join(sys.argv[1:]) in name]
    for module in PRELOADED:
        import_module(module)
    if not survives(None):
        raise SystemExit("the tests fail without any mutant: nothing could be learnt from them")
    alive = []
    for name, lives in _survivors(chosen, os.cpu_count() or 1):
        alive += [name] if lives else []
        sys.stdout.write(f"{'SURVIVED' if lives else 'caught  '}  {name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught\n")
    raise SystemExit(1 if alive else 0)


if __name__ == "__main__":
    main()
