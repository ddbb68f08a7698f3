"""Break the code in named ways and report whether the tests notice: `python -m tests.mutants [WORDS OF A NAME]`.

Each mutant is a replacement in one file of a copy of the package; the working tree is never touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTANTS = {
    "moving tensors shared with the source": ("core/shadow.py", ".detach().clone(), requires_grad=True)", ".detach(), requires_grad=True)"),
    "displacement not restored": ("core/gradients.py", "tensor.copy_(old)", "pass"),
    "displacement the wrong way": ("methods/grata.py", "auxiliary, -look_ahead", "auxiliary, look_ahead"),
    "trust without the square": ("core/trust.py", "(cosine + 1) ** 2 / 4", "(cosine + 1) / 2"),
    "half entropy made whole": ("core/tasks.py", "half_entropy if self.half else", "full_entropy if self.half else"),
    "rate not scaled": ("methods/grata.py", "step_along(shadow.optimizer, pseudo, factor)", "step_along(shadow.optimizer, pseudo)"),
    "method ignores the loss it is handed": ("methods/grata.py", "loss(shadow, w), windows", "self.loss(shadow, w), windows"),
    "wrapper not passing the loss": ("core/method.py", "self.inner.adapt(shadow, windows, loss)", "self.inner.adapt(shadow, windows, self.inner.loss)"),
    "views not undone": ("core/tasks.py", "pose.undo(probabilities", "(probabilities"),
    "autocast left on while learning": ("inference/episode.py", "torch.autocast(windows.device.type, enabled=False)", "torch.autocast(windows.device.type)"),
    "episodic carries its shadow on": ("inference/inferer.py", 'if self.reset != "never":', "if False:"),
    "new weights not noticed": ("inference/inferer.py", "shadow if before == now else None", "shadow"),
    "poisoned windows taught from": ("inference/window_selection.py", "            if able:", "            if True:"),
    "poisoned windows learnt from in passing": ("inference/episode.py", "can_adapt_from(own := clean(windows))", "(own := clean(windows)).numel()"),
    "images of a batch mixed": ("inference/inferer.py", "if len(inputs) < 2:", "if True:"),
    "seed not restarted": ("core/shadow.py", "self._seeds, self._drawn = seed, 0", "self._seeds = seed"),
    "windows handed over as views of the image": ("inference/first_pass.py", "self.network(windows.clone(), *more", "self.network(windows, *more"),
    "autocast weight cache left on": ("inference/episode.py", "torch.no_grad(), without_weight_cache(windows.device):", "torch.no_grad():"),
    "a bare function in the network's place": ("inference/network.py", "return getattr(self._network, name)", "raise AttributeError(name)"),
    "gradients by backward": ("core/gradients.py", "torch.autograd.grad(one, moving, allow_unused=True)", "(one.backward(), [m.grad for m in moving])[1]"),
    "unused branches not allowed": ("core/gradients.py", "allow_unused=True", "allow_unused=False"),
    "DataParallel not opened": ("inference/network.py", "nn.DataParallel | nn.parallel.DistributedDataParallel", "nn.Bilinear"),
    "attached scale not at one": ("core/normalization.py", "nn.Parameter(torch.ones(self.num_features", "nn.Parameter(torch.zeros(self.num_features"),
    "inference mode not left": ("inference/episode.py", "with torch.inference_mode(False):", "with torch.enable_grad():"),
    "statistics pooled over the window batch": ("core/normalization.py", "flat = x.reshape(1, n * c, -1)", "return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)"),
    "statistics pooled over channels": ("core/normalization.py", "F.group_norm(_lined_up(x), c,", "F.group_norm(_lined_up(x), 1,"),
    "pooled without the spread of the means": ("core/normalization.py", " + mean.var(0, correction=0)) if pool", ") if pool"),
    "weights of a gradient not turned round": ("compute/fast_kernels.py", "weight.flip(2, 3, 4).transpose(0, 1)", "weight.transpose(0, 1)"),
    "padding of a gradient as of the answer": ("compute/fast_kernels.py", "[k - 1 - p for k, p in", "[p for k, p in"),
    "a learning convolution's gradient lost": ("compute/fast_kernels.py", "any(p.requires_grad for p in (weight, bias) if p is not None)", "False"),
    "a learning slope's gradient lost": ("compute/fast_kernels.py", "slope.numel() == 1 and not slope.requires_grad and", "slope.numel() == 1 and"),
    "strides not looked at": ("compute/fast_kernels.py", "{*self.stride, *self.dilation} == {1} and ", ""),
    "a copy's empty dictionaries are its source's": ("core/shadow.py", "memo[id(value)] = type(value)()", "memo[id(value)] = value"),
    "whoever judges sees what taught alone": ("inference/window_selection.py", "if len(chosen) >= least:", "if True:"),
    "a newborn pools over other windows": ("inference/episode.py", "chosen if self.method.pools_statistics else teachers.beside", "teachers.beside"),
    "quick moments where gradients are taken": ("core/normalization.py", "if self._slow(x) and not takes_gradient(x):", "if self._slow(x):"),
    "moments in half width": ("core/normalization.py", "dtype=x.dtype if x.dtype == torch.float64 else torch.float32)", "dtype=x.dtype)"),
    "what sums up to infinity is not finite": ("compute/precision.py", "return sums if bool(sums.all()) else flat.isfinite().all(1)", "return sums"),
    "a glance that stops at the first of many windows": ("inference/first_pass.py", "if self.see is None or (len(windows) == 1 and tuple(windows.shape[2:]) == self.spatial):", "if True:"),
    "window statistics by F.instance_norm": ("core/normalization.py", "own = [F.batch_norm(one", "own = [F.instance_norm(one"),
    "group norm trusted behind frozen layers": ("core/normalization.py", "x if x.requires_grad else x.contiguous()", "x"),
    "batches short of memory given up": ("inference/episode.py", "or len(windows) < 2 or", "or len(windows) < 9 or"),
    "what was half learnt carried on": ("inference/episode.py", "shadow.extra, self.touched = self.extra, True", "shadow.extra, self.touched = self.extra, False"),
    "training mode left on": ("core/shadow.py", "if not any(m.training for m in source.modules()):", "if True:"),
    "statistics' blend turned round": ("core/normalization.py", "(1 - b) * self.running_mean + b * mean", "b * self.running_mean + (1 - b) * mean"),
    "entropy of one side only": ("core/objectives.py", "(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))", "(p * F.logsigmoid(logits))"),
    "heads change the running statistics": ("preparation/train_heads.py", "layer.momentum = 0.0", "pass"),
    "noisy image painted, not the clean one": ("core/auxiliary_heads.py", "torch.stack(noise).to(windows), windows,", "torch.stack(noise).to(windows), windows + deviation * torch.stack(noise).to(windows),"),
    "source statistics kept": ("core/normalization.py", 'statistics if made.has_running_stats else "window"', '"source" if made.has_running_stats else "window"'),
    "compiled shell not opened": ("inference/network.py", '"_orig_mod" in network._modules', "False"),
    "meta data dropped": ("inference/first_pass.py", "if self.meta and isinstance(windows, MetaTensor) else outputs", "if False else outputs"),
    "meta data added": ("inference/first_pass.py", "if self.meta and isinstance(windows, MetaTensor) else outputs", "if isinstance(windows, MetaTensor) else outputs"),
    "a failure of adapting ends the run": ("inference/episode.py", "except Exception as failure:", "except CannotAdapt as failure:"),
    "a failed case empties the stream": ("inference/episode.py", "if self.touched or not self.carried:", "if True:"),
    "coordinates of another window": ("inference/episode.py", "if has_per_window_inputs(*self.extra) and", "if False and"),
    "arguments not split like the images": ("inference/inferer.py", "own = tuple(_of_one(value, i, n) for value in args)", "own = args"),
    "named tuples rebuilt from a list": ("compute/containers.py", 'if hasattr(first, "_fields")', "if False"),
    "a norm layer's own forward overridden": ("compute/layer_mixins.py", "if stock else (kind, mine)", "if True else (kind, mine)"),
    "tied weights come apart": ("core/shadow.py", "fresh.get(id(value), value)", 'value if value is None or vars(value).setdefault("first", id(module)) != id(module) else fresh.get(id(value), value)'),
    "no gradient, no word": ("core/method.py", "if all(part is None for part in slope):", "if False:"),
    "writes through .data not noticed": ("inference/network.py", "return tuple((*place, total)", "return tuple((*place, str())"),
    "views averaged in half precision": ("compute/precision.py", "return logits.float() if", "return logits if"),
    "guard not asked": ("inference/decision.py", "if reason is None and inferer.guard is not None:", "if False:"),
    "every window asked before one is learnt from": ("inference/first_pass.py", "if shapes not in self._known:", "if True:"),
    "looks without end": ("inference/window_selection.py", "LOOKS = 4", "LOOKS = 400"),
    "the source answers twice": ("inference/inferer.py", "if not self.method.adapts:", "if False:"),
    "gradients through float16": ("compute/precision.py", "kind is None or (kind == torch.float16 and torch.is_grad_enabled())", "kind is None"),
    "no way back from fast": ("compute/precision.py", "isinstance(error, RuntimeError) and any", "False and any"),
    "fast answers left narrow": ("inference/first_pass.py", "outputs.to(self.dtype) if", "outputs if"),
    "teaching windows' graphs add up": ("core/gradients.py", "windows.chunk(-(-len(windows) // windows_at_once(windows)))", "[windows]"),
    "a shadow is a second network": ("core/shadow.py", "nn.Parameter(p.detach(), requires_grad=False)", "nn.Parameter(p.detach().clone(), requires_grad=False)"),
    "nothing is computed again": ("compute/checkpointing.py", "if not torch.is_grad_enabled():", "if True:"),
    "labels shown to the adapter": ("evaluation/compare.py", 'data["image"][None].as_tensor()', '(data["image"] + 1e-3 * data["label"])[None].as_tensor()'),
    "a stream gone on with in its middle": ("evaluation/plan.py", "yield replace(all_agree, contenders=(stream,))", "yield replace(all_agree, contenders=(stream,), numbers=tuple(n for n in numbers if all_agree.key(stream, n) not in done))"),
    "p values not corrected": ("reporting/significance.py", "(len(known) - rank) * p", "p"),
    "seeds counted as cases": ("reporting/summary.py", "changes = [after - before for before, after in pairs.values()]", "changes = [after - before for _, before, after in both]"),
    "missed masks left out": ("evaluation/scoring.py", 'Score(0.0, 0.0 if "nsd" in metrics else nan,', "Score(nan, nan,"),
    "distances without spacing": ("evaluation/scoring.py", "return [float(s) for s in affine_to_spacing(value.affine, r=dims)]", "return [1.0] * dims"),
    "half a job's rows kept": ("reporting/rows.py", "key = astuple(row.key)", "key = astuple(row.key); self._file.commit()"),
    "rows of other settings mixed": ("reporting/rows.py", "self._same(name, old, value)", "pass"),
    "processes step alone": ("core/gradients.py", "_shared(value, total) if _TOGETHER.get() else", "(value, total) if True else"),
    "guards asked past the first reason": ("guards/base.py", "return next((reason for guard in self.guards if (reason := as_guard(guard).judge(evidence)) is not None), None)", "return [as_guard(g).judge(evidence) for g in self.guards][-1] if self.guards else None"),
    "a plain answer for whoever judges": ("guards/change.py", "if bool(each_finite(evidence.adapted).all()):", "if evidence.plain is None:"),
    "views compared with themselves": ("guards/evidence.py", "agreement(straight, other, shadow.head)", "agreement(other, other, shadow.head)"),
    "plain views by the shadow": ("guards/evidence.py", "_between_views(self.source, self.windows, views)", "_between_views(self.shadow, self.windows, views)"),
    "volumes compared one way": ("guards/change.py", "abs(a - b) > self.most * max(a, b)", "b - a > self.most * max(a, b)"),
    "norms' range not widened": ("guards/reference_ranges.py", "more = slack * max", "more = 0 * max"),
    "specks counted as pieces": ("guards/shape_features.py", "[1:] >= small", "[1:] >= 1"),
    "a collapsed stream goes on": ("inference/episode.py", "return self._again(inputs, args, kwargs, None)\n        if self", "return self._again(inputs, args, kwargs, shadow)\n        if self"),
    "suspicions never forgotten": ("guards/collapse.py", "suspicious_cases = 0 if why is None else", "suspicious_cases = evidence.shadow.suspicious_cases if why is None else"),
    "collapse measured against the source": ("guards/collapse.py", "(evidence.shadow, evidence.fresh)", "(evidence.shadow, evidence.source)"),
    "newborns judged, too": ("inference/decision.py", "and episode.carried and episode.method.learns", "and episode.method.learns"),
    "spread of the trees ignored": ("quality/gain_predictor.py", "gain - margin * spread > 0", "gain > 0"),
    "what is not worth the risk is answered": ("quality/gain_predictor.py", " and exceeds_min_gain(shares, gain, min_gain)", ""),
    "the margin counts on what is not worth it": ("preparation/fit.py", "left = [v if exceeds_margin(g, s, margin) else 0.0 for v, (g, s)", "left = [v if exceeds_margin(g, s, margin) and exceeds_min_gain(candidate_weights(g, s, TEMPERATURE), g) else 0.0 for v, (g, s)"),
    "answers mixed evenly": ("quality/gain_predictor.py", "np.exp((least - least[sure].max()) / temperature)", "np.ones_like(gain)"),
    "doubtful gains have a say": ("quality/gain_predictor.py", "sure = gain > spread", "sure = gain > 0 * spread"),
    "doubt does not count among the sure": ("quality/gain_predictor.py", "least = gain - RISK_AVERSION * spread", "least = gain"),
    "a scout that misses a lot": ("preparation/fit.py", "prefilter_threshold = min(NEGLIGIBLE_GAIN, float(", "prefilter_threshold = max(NEGLIGIBLE_GAIN, float("),
    "a scout that sends nobody home": ("preparation/fit.py", "prefilter_threshold = min(NEGLIGIBLE_GAIN, float(expected[order][missed].max()) if missed.any() else -1.0)", "prefilter_threshold = -1.0"),
    "the scout's no is not heard": ("methods/careful.py", "judge.expected_gain(first.numpy()) <= judge.prefilter_threshold", "False"),
    "a scout who hears the others": ("methods/careful.py", "answers += self._asked(candidate", "answers += self._asked(source"),
    "windows retouched brighter": ("core/image_edits.py", "change = KeepMoments([EDITS[way]])", "change = EDITS[way]"),
    "retouched whatever the way": ("methods/image_edit.py", "edit_image(windows, self.way)", 'edit_image(windows, "softer")'),
    "grey scales out of order": ("preparation/distortions.py", "lengths = torch.tensor([draw(0.05, 1.0)", "lengths = torch.tensor([draw(-1.0, 1.0)"),
    "pickles opened in a judge's file": ("quality/gain_predictor.py", "np.load(path, allow_pickle=False)", "np.load(path, allow_pickle=True)"),
    "an image on both sides of a fold": ("preparation/fit.py", "[k.group % FOLDS for k in cases.known]", "[i % FOLDS for i, _ in enumerate(cases.known)]"),
    "few cases believed": ("preparation/fit.py", "(harmed + 1) / (n + 1)", "harmed / n"),
    "grave losses counted like others": ("preparation/fit.py", "and gravely / n <= harm / 4", ""),
    "a task judges its own networks": ("preparation/fit.py", 'tasks.index(c.name.split("/")[0])', "many.index(c)"),
    "labels stay where images move": ("preparation/distortions.py", 'move(label, mode="nearest")', "label"),
    "windows cut with other windows' labels": ("preparation/calibrate.py", "torch.equal(p[:, :channels], c)", "True"),
    "the judge's no is not heard": ("methods/careful.py", "if not shares.any():", "if not (shares := shares if shares.any() else shares + 1).any():"),
    "candidates answer by the source's statistics": ("methods/careful.py", "        own.pool_statistics(windows)\n", ""),
    "averaged and front answers mixed up": ("methods/careful.py", "if averaged else plain_answer", "if not averaged else plain_answer"),
    "what is done is not noted": ("pipeline/run_log.py", 'self._add({"done"', '({"done"'),
    "gone on with other settings": ("pipeline/run_log.py", "if other := sorted(", "if False and sorted("),
    "an image that ends the process comes first": ("pipeline/run_log.py", "return [i for i in left if i not in self.begun] + ", "return left if left else "),
    "lost masks taken for done": ("pipeline/run_log.py", 'all(name in there for name in line["masks"])', 'all(there.setdefault(name, self.path) for name in line["masks"])'),
    "two runs in one folder": ("pipeline/output_folder.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
    "remains of killed runs kept": ("pipeline/output_folder.py", "if alone else ():", "if False else ():"),
    "masks over images": ("pipeline/output_folder.py", "image.samefile(target) for image in images", "image is target for image in images"),
    "a full disk is one image's fault": ("pipeline/segment.py", "if is_disk_full(error):", "if False:"),
    "masks of NaN": ("pipeline/segment.py", '_meaningful(data["pred"])', "pass"),
    "headers believed": ("pipeline/input_checks.py", "if memory and voxels * _COPIES > memory:", "if False:"),
    "zip bombs unpacked": ("pipeline/bundle.py", "if declared > path.stat().st_size:", "if False:"),
    "names that move the cursor": ("cli/console.py", "c if c.isprintable() else", "c if True else"),
}  # fmt: skip

TESTS = [
    "test_golden", "test_reference", "test_laws", "core", "compute", "inference", "guards",
]  # fmt: skip
# What compares and reports has tests of its own, which know nothing of how adapting is done, and the other way round.
OWN = {
    "compute/fast_kernels.py": ["compute/test_fast_kernels"],
    "core/image_edits.py": ["core/test_image_edits"],
    "pipeline/": ["pipeline/test_reliability"],
    "cli/console.py": ["pipeline/test_reliability"],
    "quality/gain_predictor.py": ["quality/test_gain_predictor"],
    "preparation/fit.py": ["quality/test_gain_predictor"],
    "preparation/distortions.py": ["preparation/test_calibrate"],
    "preparation/calibrate.py": ["preparation/test_calibrate"],
    "methods/careful.py": ["methods/test_careful"],
    "methods/image_edit.py": ["core/test_image_edits"],
    "evaluation/compare.py": ["evaluation/test_compare"],
    "evaluation/plan.py": ["evaluation/test_compare"],
    "evaluation/scoring.py": ["evaluation/test_scoring"],
    "reporting/rows.py": ["reporting/test_tables"],
    "reporting/summary.py": ["reporting/test_tables"],
    "reporting/significance.py": ["reporting/test_significance"],
    "preparation/train_heads.py": ["core/test_auxiliary_heads"],
}
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
        text = target.read_text()
        if old not in text:
            raise SystemExit(f"mutant {name!r} no longer fits {file}: {old!r} is not there")
        target.write_text(text.replace(old, new) if old else text)
        own = next((tests for place, tests in OWN.items() if file.startswith(place)), TESTS)
        chosen = own if name else [*TESTS, *sorted({test for tests in OWN.values() for test in tests})]
        files = [str(copy / "tests" / (f"{test}.py" if "test_" in test else test)) for test in chosen]
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", SLOW, "--rootdir", folder, *files]
        where = os.environ | {"PYTHONPATH": folder}
        done = subprocess.run(words, cwd=folder, env=where, capture_output=True, text=True)
        return done.returncode == 0


def main() -> None:
    """Report every mutant; end with 1 when one survives."""
    if not survives(None):
        raise SystemExit("the tests fail without any mutant: nothing could be learnt from them")
    chosen = [name for name in MUTANTS if " ".join(sys.argv[1:]) in name]
    alive = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, lives in zip(chosen, pool.map(survives, chosen), strict=True):
            alive += [name] if lives else []
            sys.stdout.write(f"{'SURVIVED' if lives else 'caught  '}  {name}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught\n")
    raise SystemExit(1 if alive else 0)


if __name__ == "__main__":
    main()
