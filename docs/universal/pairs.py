"""How gain predictors do on images from elsewhere: `python -m docs.universal.pairs OUT ...`, with the options of docs.universal.

Each small network segments its own centre's held-out images, and images of other scanners, real and drawn. Compared are several
ways to choose an answer (docs/universal/choices.py), and, with --others, a gain predictor pooled over all *other* tasks, which
has seen neither this network nor its task. OUT gets pairs.json: what each case gained. `python -m docs.universal.tables OUT`
prints tables of it.
"""

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import torch

from docs.universal.__main__ import console, parse_command_line, sources
from docs.universal.choices import gains_at_targets, of_predictor, own_choices
from docs.universal.networks import (
    KINDS,
    NORMS,
    USUAL,
    Sets,
    add_image,
    cases_of_small_network,
    empty_sets,
    look_of_centre,
    train,
    write_cases,
)
from docs.universal.sources import Centre, centres, targets
from monai_tta.preparation.examples import GIVEN
from monai_tta.preparation.fit import fit_universal_predictor
from monai_tta.quality.gain_predictor import GainPredictor

Targets = dict[str, tuple[bool, Sets]]
Row = dict[str, object]


def cases_at_targets(name: str, kind: str, folders: dict[str, Path | None], file: Path) -> Targets:
    """A network's cases at each target, and whether that is another scanner; kept in a file."""
    torch.set_num_threads(1)
    if not file.exists():
        all_centres = centres(**folders)
        centre = all_centres[name]
        network = train(name, centre, kind)
        look = look_of_centre(centre)
        found = {}
        for label, is_shifted, pairs in targets(name, all_centres, folders["hippocampus"]):
            sets = empty_sets(label, kind, look)
            for number, (image, structures) in enumerate(pairs):
                add_image(sets, number, network, image, {GIVEN: structures}, centre.head, number)
            found[label] = (is_shifted, sets)
        file.write_bytes(pickle.dumps(found))
    return dict(pickle.loads(file.read_bytes()))


def rows_of_network(name: str, kind: str, own: Path, at_targets: Path, harm: float) -> list[Row]:
    """What each choice gains with one network at each target; from the files of its cases."""
    sets: Sets = pickle.loads(own.read_bytes())
    rows = gains_at_targets(own_choices(kind, sets, harm), pickle.loads(at_targets.read_bytes()))
    return [{"network": f"{name} {kind}", **row} for row in rows]


def rows_of_other_tasks(todo: list[tuple[str, str, str]], files: list[Path], every: list[Path], harm: float) -> list[Row]:
    """What a gain predictor of all other tasks gains at each target of each network (task, name, kind).

    ``every``: the files that docs.universal made, of all networks.
    """
    networks: list[Sets] = [pickle.loads(file.read_bytes()) for file in every]

    @cache
    def of_other_tasks(task: str) -> GainPredictor:
        others = [sets[USUAL] for sets in networks if not sets[USUAL].name.startswith(f"{task}/")]
        return fit_universal_predictor(others, harm)

    rows: list[Row] = []
    for (task, name, kind), file in zip(todo, files, strict=True):
        choice = {"gain predictor of other tasks": (USUAL, of_predictor(of_other_tasks(task)))}
        found = gains_at_targets(choice, pickle.loads(file.read_bytes()))
        rows += [{"network": f"{name} {kind}", **row} for row in found]
        console.print(f"{name} {kind}: other tasks done")
    return rows


def chosen_networks(only: list[str] | None, all_centres: dict[str, Centre]) -> list[tuple[str, str]]:
    """Names and kinds: those of KINDS, or those that are named, which may be of any kind.

    Raises:
        SystemExit: for a name that no network has.
    """
    if not only:
        return [(name, kind) for name in all_centres for kind in KINDS[name]]
    known = {f"{name} {kind}": (name, kind) for name in all_centres for kind in NORMS}
    if unknown := set(only) - set(known):
        raise SystemExit(f"no network is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [pair for word, pair in known.items() if word in only]


def main() -> None:
    """See the top of this file."""
    options, folders = parse_command_line("docs.universal.pairs")
    chosen = chosen_networks(options.only, centres(**folders))
    names, kinds = zip(*chosen, strict=True)
    owns = [options.out / f"{name}-{kind}.pickle" for name, kind in chosen]  # as docs.universal calls them
    files = [options.out / f"pairs-{name}-{kind}.pickle" for name, kind in chosen]
    make = [partial(cases_of_small_network, name, kind, options.size, folders) for name, kind in chosen]
    rows: list[Row] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(write_cases, make, owns))
        list(pool.map(cases_at_targets, names, kinds, [folders] * len(chosen), files))
        for found in pool.map(rows_of_network, names, kinds, owns, files, [options.harm] * len(chosen)):
            rows += found
            console.print(f"{found[0]['network']}: done")
    if options.others:
        tasks = [(centres(**folders)[name].task, name, kind) for name, kind in chosen]
        every = [options.out / f"{name}.pickle" for name in sources(folders, options.size, not options.no_bundles)]
        rows += rows_of_other_tasks(tasks, files, every, options.harm)
    (options.out / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    console.print(f"written: {options.out / 'pairs.json'}; python -m docs.universal.tables {options.out} prints its tables")


if __name__ == "__main__":
    main()
