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
    "moving tensors shared with the source": ("shadow.py", ".detach().clone(), requires_grad=True)", ".detach(), requires_grad=True)"),
    "displacement not restored": ("updates.py", "tensor.copy_(old)", "pass"),
    "displacement the wrong way": ("methods/grata.py", "auxiliary, -reach", "auxiliary, reach"),
    "trust without the square": ("updates.py", "(cosine + 1) ** 2 / 4", "(cosine + 1) / 2"),
    "half entropy made whole": ("tasks.py", "half_entropy if self.half else", "full_entropy if self.half else"),
    "rate not scaled": ("methods/grata.py", "follow(shadow.optimizer, pseudo, factor)", "follow(shadow.optimizer, pseudo)"),
    "method ignores the loss it is handed": ("methods/grata.py", "loss(shadow, w), windows", "self.loss(shadow, w), windows"),
    "wrapper not passing the loss": ("method.py", "self.inner.adapt(shadow, windows, loss)", "self.inner.adapt(shadow, windows, self.inner.loss)"),
    "views not undone": ("tasks.py", "pose.undo(probabilities", "(probabilities"),
    "autocast left on while learning": ("episode.py", "torch.autocast(windows.device.type, enabled=False)", "torch.autocast(windows.device.type)"),
    "episodic carries its shadow on": ("inferer.py", 'if self.reset != "never":', "if False:"),
    "new weights not noticed": ("inferer.py", "shadow if before == now else None", "shadow"),
    "poisoned windows taught from": ("teaching.py", "            if able:", "            if True:"),
    "poisoned windows learnt from in passing": ("episode.py", "usable(own := clean(windows))", "(own := clean(windows)).numel()"),
    "images of a batch mixed": ("inferer.py", "if len(inputs) < 2:", "if True:"),
    "seed not restarted": ("shadow.py", "self._seeds, self._drawn = seed, 0", "self._seeds = seed"),
    "windows handed over as views of the image": ("survey.py", "self.network(windows.clone(), *more", "self.network(windows, *more"),
    "autocast weight cache left on": ("episode.py", "torch.no_grad(), uncached(windows.device):", "torch.no_grad():"),
    "a bare function in the network's place": ("network.py", "return getattr(self._network, name)", "raise AttributeError(name)"),
    "gradients by backward": ("updates.py", "torch.autograd.grad(one, moving, allow_unused=True)", "(one.backward(), [m.grad for m in moving])[1]"),
    "unused branches not allowed": ("updates.py", "allow_unused=True", "allow_unused=False"),
    "DataParallel not opened": ("network.py", "nn.DataParallel | nn.parallel.DistributedDataParallel", "nn.Bilinear"),
    "attached scale not at one": ("normalization.py", "nn.Parameter(torch.ones(self.num_features", "nn.Parameter(torch.zeros(self.num_features"),
    "inference mode not left": ("episode.py", "with torch.inference_mode(False):", "with torch.enable_grad():"),
    "statistics pooled over the window batch": ("normalization.py", "flat = x.reshape(1, n * c, -1)", "return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)"),
    "statistics pooled over channels": ("normalization.py", "F.group_norm(_lined_up(x), c,", "F.group_norm(_lined_up(x), 1,"),
    "pooled without the spread of the means": ("normalization.py", " + mean.var(0, correction=0)) if pool", ") if pool"),
    "weights of a gradient not turned round": ("quick.py", "weight.flip(2, 3, 4).transpose(0, 1)", "weight.transpose(0, 1)"),
    "padding of a gradient as of the answer": ("quick.py", "[k - 1 - p for k, p in", "[p for k, p in"),
    "a learning convolution's gradient lost": ("quick.py", "any(p.requires_grad for p in (weight, bias) if p is not None)", "False"),
    "a learning slope's gradient lost": ("quick.py", "slope.numel() == 1 and not slope.requires_grad and", "slope.numel() == 1 and"),
    "strides not looked at": ("quick.py", "{*self.stride, *self.dilation} == {1} and ", ""),
    "a copy's empty dictionaries are its source's": ("shadow.py", "memo[id(value)] = type(value)()", "memo[id(value)] = value"),
    "whoever judges sees what taught alone": ("teaching.py", "if len(chosen) >= least:", "if True:"),
    "a newborn pools over other windows": ("episode.py", "chosen if self.method.pools else teachers.beside", "teachers.beside"),
    "quick moments where gradients are taken": ("normalization.py", "if self._slow(x) and not followed(x):", "if self._slow(x):"),
    "moments in half width": ("normalization.py", "dtype=x.dtype if x.dtype == torch.float64 else torch.float32)", "dtype=x.dtype)"),
    "what sums up to infinity is not finite": ("precision.py", "return sums if bool(sums.all()) else flat.isfinite().all(1)", "return sums"),
    "a glance that stops at the first of many windows": ("survey.py", "if self.see is None or (len(windows) == 1 and tuple(windows.shape[2:]) == self.spatial):", "if True:"),
    "window statistics by F.instance_norm": ("normalization.py", "own = [F.batch_norm(one", "own = [F.instance_norm(one"),
    "group norm trusted behind frozen layers": ("normalization.py", "x if x.requires_grad else x.contiguous()", "x"),
    "batches short of memory given up": ("episode.py", "or len(windows) < 2 or", "or len(windows) < 9 or"),
    "what was half learnt carried on": ("episode.py", "shadow.extra, self.touched = self.extra, True", "shadow.extra, self.touched = self.extra, False"),
    "training mode left on": ("shadow.py", "if not any(m.training for m in source.modules()):", "if True:"),
    "statistics' blend turned round": ("normalization.py", "(1 - b) * self.running_mean + b * mean", "b * self.running_mean + (1 - b) * mean"),
    "entropy of one side only": ("objectives.py", "(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))", "(p * F.logsigmoid(logits))"),
    "heads change the running statistics": ("handlers.py", "layer.momentum = 0.0", "pass"),
    "noisy image painted, not the clean one": ("heads.py", "torch.stack(noise).to(windows), windows,", "torch.stack(noise).to(windows), windows + deviation * torch.stack(noise).to(windows),"),
    "source statistics kept": ("normalization.py", 'statistics if made.remembers else "window"', '"source" if made.remembers else "window"'),
    "compiled shell not opened": ("network.py", '"_orig_mod" in network._modules', "False"),
    "meta data dropped": ("survey.py", "if self.meta and isinstance(windows, MetaTensor) else outputs", "if False else outputs"),
    "meta data added": ("survey.py", "if self.meta and isinstance(windows, MetaTensor) else outputs", "if isinstance(windows, MetaTensor) else outputs"),
    "a failure of adapting ends the run": ("episode.py", "except Exception as failure:", "except CannotAdapt as failure:"),
    "a failed case empties the stream": ("episode.py", "if self.touched or not self.carried:", "if True:"),
    "coordinates of another window": ("episode.py", "if particular(*self.extra) and", "if False and"),
    "arguments not split like the images": ("inferer.py", "own = tuple(_of_one(value, i, n) for value in args)", "own = args"),
    "named tuples rebuilt from a list": ("containers.py", 'if hasattr(first, "_fields")', "if False"),
    "a norm layer's own forward overridden": ("normalization.py", "if stock else (kind, mine)", "if True else (kind, mine)"),
    "tied weights come apart": ("shadow.py", "fresh.get(id(value), value)", 'value if value is None or vars(value).setdefault("first", id(module)) != id(module) else fresh.get(id(value), value)'),
    "no gradient, no word": ("method.py", "if all(part is None for part in slope):", "if False:"),
    "writes through .data not noticed": ("network.py", "return tuple((*place, total)", "return tuple((*place, str())"),
    "views averaged in half precision": ("precision.py", "return logits.float() if", "return logits if"),
    "guard not asked": ("verdict.py", "if reason is None and inferer.guard is not None:", "if False:"),
    "every window asked before one is learnt from": ("survey.py", "if shapes not in self._known:", "if True:"),
    "looks without end": ("teaching.py", "LOOKS = 4", "LOOKS = 400"),
    "the source answers twice": ("inferer.py", "if not self.method.adapts:", "if False:"),
    "gradients through float16": ("precision.py", "kind is None or (kind == torch.float16 and torch.is_grad_enabled())", "kind is None"),
    "no way back from fast": ("precision.py", "isinstance(error, RuntimeError) and any", "False and any"),
    "fast answers left narrow": ("survey.py", "outputs.to(self.dtype) if", "outputs if"),
    "teaching windows' graphs add up": ("updates.py", "windows.chunk(-(-len(windows) // at_once(windows)))", "[windows]"),
    "a shadow is a second network": ("shadow.py", "nn.Parameter(p.detach(), requires_grad=False)", "nn.Parameter(p.detach().clone(), requires_grad=False)"),
    "nothing is computed again": ("recompute.py", "if not torch.is_grad_enabled():", "if True:"),
    "labels shown to the adapter": ("compare.py", 'data["image"][None].as_tensor()', '(data["image"] + 1e-3 * data["label"])[None].as_tensor()'),
    "a stream gone on with in its middle": ("plan.py", "yield replace(everyone, contenders=(stream,))", "yield replace(everyone, contenders=(stream,), numbers=tuple(n for n in numbers if everyone.key(stream, n) not in done))"),
    "p values not corrected": ("significance.py", "(len(known) - rank) * p", "p"),
    "seeds counted as cases": ("summary.py", "changes = [after - before for before, after in pairs.values()]", "changes = [after - before for _, before, after in both]"),
    "missed masks left out": ("scoring.py", 'Score(0.0, 0.0 if "nsd" in metrics else nan,', "Score(nan, nan,"),
    "distances without spacing": ("scoring.py", "return [float(s) for s in affine_to_spacing(value.affine, r=dims)]", "return [1.0] * dims"),
    "half a job's rows kept": ("rows.py", "key = astuple(row.key)", "key = astuple(row.key); self._file.commit()"),
    "rows of other settings mixed": ("rows.py", "self._same(name, old, value)", "pass"),
    "processes step alone": ("updates.py", "_shared(value, total) if _TOGETHER.get() else", "(value, total) if True else"),
    "guards asked past the first reason": ("guard.py", "return next((reason for guard in self.guards if (reason := as_guard(guard).judge(evidence)) is not None), None)", "return [as_guard(g).judge(evidence) for g in self.guards][-1] if self.guards else None"),
    "a plain answer for whoever judges": ("guards.py", "if bool(each_finite(evidence.adapted).all()):", "if evidence.plain is None:"),
    "views compared with themselves": ("evidence.py", "agreement(straight, other, shadow.head)", "agreement(other, other, shadow.head)"),
    "plain views by the shadow": ("evidence.py", "_between_views(self.source, self.windows, views)", "_between_views(self.shadow, self.windows, views)"),
    "volumes compared one way": ("guards.py", "abs(a - b) > self.most * max(a, b)", "b - a > self.most * max(a, b)"),
    "norms' range not widened": ("norms.py", "more = slack * max", "more = 0 * max"),
    "specks counted as pieces": ("shapes.py", "[1:] >= small", "[1:] >= 1"),
    "a collapsed stream goes on": ("episode.py", "return self._again(inputs, args, kwargs, None)\n        if self", "return self._again(inputs, args, kwargs, shadow)\n        if self"),
    "suspicions never forgotten": ("collapse.py", "suspicions = 0 if why is None else", "suspicions = evidence.shadow.suspicions if why is None else"),
    "collapse measured against the source": ("collapse.py", "(evidence.shadow, evidence.newborn)", "(evidence.shadow, evidence.source)"),
    "newborns judged, too": ("verdict.py", "and episode.carried and episode.method.learns", "and episode.method.learns"),
    "spread of the trees ignored": ("judge.py", "gain - margin * spread > 0", "gain > 0"),
    "what is not worth the risk is answered": ("judge.py", " and worth_it(shares, gain, worth)", ""),
    "the margin counts on what is not worth it": ("fitting.py", "left = [v if worthwhile(g, s, margin) else 0.0 for v, (g, s)", "left = [v if worthwhile(g, s, margin) and worth_it(preferred(g, s, TEMPERATURE), g) else 0.0 for v, (g, s)"),
    "answers mixed evenly": ("judge.py", "np.exp((least - least[sure].max()) / temperature)", "np.ones_like(gain)"),
    "doubtful gains have a say": ("judge.py", "sure = gain > spread", "sure = gain > 0 * spread"),
    "doubt does not count among the sure": ("judge.py", "least = gain - WARY * spread", "least = gain"),
    "a scout that misses a lot": ("fitting.py", "bother = min(LITTLE, float(", "bother = max(LITTLE, float("),
    "a scout that sends nobody home": ("fitting.py", "bother = min(LITTLE, float(expected[order][missed].max()) if missed.any() else -1.0)", "bother = -1.0"),
    "the scout's no is not heard": ("methods/careful.py", "judge.expects(first.numpy()) <= judge.bother", "False"),
    "a scout who hears the others": ("methods/careful.py", "answers += self._asked(candidate", "answers += self._asked(source"),
    "windows retouched brighter": ("retouch.py", "change = KeepMoments([WAYS[way]])", "change = WAYS[way]"),
    "retouched whatever the way": ("methods/retouched.py", "retouched(windows, self.way)", 'retouched(windows, "softer")'),
    "grey scales out of order": ("distortion.py", "lengths = torch.tensor([draw(0.05, 1.0)", "lengths = torch.tensor([draw(-1.0, 1.0)"),
    "pickles opened in a judge's file": ("judge.py", "np.load(path, allow_pickle=False)", "np.load(path, allow_pickle=True)"),
    "an image on both sides of a fold": ("fitting.py", "[k.group % FOLDS for k in cases.known]", "[i % FOLDS for i, _ in enumerate(cases.known)]"),
    "few cases believed": ("fitting.py", "(harmed + 1) / (n + 1)", "harmed / n"),
    "grave losses counted like others": ("fitting.py", "and gravely / n <= harm / 4", ""),
    "a task judges its own networks": ("fitting.py", 'tasks.index(c.name.split("/")[0])', "many.index(c)"),
    "labels stay where images move": ("distortion.py", 'move(label, mode="nearest")', "label"),
    "windows cut with other windows' labels": ("calibrate.py", "torch.equal(p[:, :channels], c)", "True"),
    "the judge's no is not heard": ("methods/careful.py", "if not shares.any():", "if not (shares := shares if shares.any() else shares + 1).any():"),
    "candidates answer by the source's statistics": ("methods/careful.py", "        own.gather(windows)\n", ""),
    "averaged and front answers mixed up": ("methods/careful.py", "if averaged else plain_answer", "if not averaged else plain_answer"),
    "what is done is not noted": ("journal.py", 'self._add({"done"', '({"done"'),
    "gone on with other settings": ("journal.py", "if other := sorted(", "if False and sorted("),
    "an image that ends the process comes first": ("journal.py", "return [i for i in left if i not in self.begun] + ", "return left if left else "),
    "lost masks taken for done": ("journal.py", 'all(name in there for name in line["masks"])', 'all(there.setdefault(name, self.path) for name in line["masks"])'),
    "two runs in one folder": ("outputs.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
    "remains of killed runs kept": ("outputs.py", "if alone else ():", "if False else ():"),
    "masks over images": ("outputs.py", "image.samefile(target) for image in images", "image is target for image in images"),
    "a full disk is one image's fault": ("cohort.py", "if no_room(error):", "if False:"),
    "masks of NaN": ("cohort.py", '_meaningful(data["pred"])', "pass"),
    "headers believed": ("admission.py", "if memory and voxels * _COPIES > memory:", "if False:"),
    "zip bombs unpacked": ("bundle.py", "if declared > path.stat().st_size:", "if False:"),
    "names that move the cursor": ("commands/saying.py", "c if c.isprintable() else", "c if True else"),
}  # fmt: skip

TESTS = "golden reference objectives normalization laws selection inferer behind heads odd_networks odd_calls costs processes guards shapes collapse".split()
# What compares and reports has tests of its own, which know nothing of how adapting is done, and the other way round.
OWN = {
    "quick.py": ["quick"],
    "shadow.py": [*TESTS, "quick"],
    "journal.py": ["reliability"],
    "outputs.py": ["reliability"],
    "cohort.py": ["reliability"],
    "admission.py": ["reliability"],
    "bundle.py": ["reliability"],
    "commands/saying.py": ["reliability"],
    "judge.py": ["judge"],
    "fitting.py": ["judge"],
    "distortion.py": ["calibrate"],
    "calibrate.py": ["calibrate"],
    "methods/careful.py": ["careful"],
    "methods/retouched.py": ["retouch"],
    "retouch.py": ["retouch"],
    "compare.py": ["compare"],
    "plan.py": ["compare"],
    "rows.py": ["tables"],
    "scoring.py": ["scoring"],
    "significance.py": ["significance"],
    "summary.py": ["tables"],
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
        chosen = OWN.get(file, TESTS) if name else [*TESTS, *sorted({test for tests in OWN.values() for test in tests})]
        files = [str(copy / "tests" / f"test_{test}.py") for test in chosen]
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
