"""`monai-tta reference`: what a source's own cases and inputs are like, for guards and input checks to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.case_options import CaseOptions, Group, Sequences, searched_images
from monai_tta.cli.console import print_line, report_errors, say
from monai_tta.cli.options import Bundle, Checkpoint, Device, check_dataset_dir, check_new_file, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.nnunet_files import is_nnunet_folder
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.guards.reference_ranges import CaseFigures
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.preparation.measure_inputs import FiguresOrReason
    from monai_tta.quality.input_reference import InputReference

    Measured = tuple[CaseFigures | None, str | None]

HELP = """Measure the source's own cases, for guards and input checks that compare with them.

Measured are each structure's volume, components and shape, the entropy
of the answers, and how far normalisation statistics are from the
source's, layer by layer.

Structures are measured in the network's answers to IMAGES, or with
--dataset-dir in the labels of a domain. Use cases that the network was
not trained on.
"""
HELP_END = help_end(
    "monai-tta reference BUNDLE IMAGES --out reference.json",
    "monai-tta reference BUNDLE --dataset-dir DATA --out reference.json",
    codes=(0, 2, 3),
)

LabelledData = Annotated[
    Path | None, typer.Option(help="labelled data instead, called DATA in the bundle's configs/compare.yaml")
]


def reference(
    bundle: Bundle,
    out: Annotated[Path, typer.Option(help="the JSON file to write")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES", help="unlabelled source images, found as `monai-tta run` finds images"),
    ] = None,
    dataset_dir: LabelledData = None,
    domain: Annotated[str, typer.Option(help="a domain of configs/compare.yaml; the first if not given")] = "",
    checkpoint: Checkpoint = None,
    group: Group = "",
    sequences: Sequences = "",
    device: Device = None,
) -> None:
    """Measure the source's own cases, for guards that compare with them."""
    with report_errors():
        root = _root_to_measure(bundle, images, dataset_dir, domain)
        check_new_file(out)

        from monai_tta.evaluation.protocol import protocol_of
        from monai_tta.guards import ranges_of_cases
        from monai_tta.pipeline.bundle import load_bundle
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.preparation.measure_source import measure_images, measure_labelled

        source = load_bundle(root, checkpoint_name(root, checkpoint), device)
        given = CaseOptions(group, sequences)
        with searched_images(images, given, root, out.parent) if images else nullcontext() as searched:
            if searched is not None:
                todo = measure_images(source, searched.images)
            elif dataset_dir is not None:
                todo = measure_labelled(source, root, dataset_dir, domain or protocol_of(root).domains[0].label)
            found = _measure(todo, None if searched is None else searched.names)
            ranges = ranges_of_cases([figures for figures, _ in found if figures is not None], labelled=dataset_dir is not None)
            files = None if searched is None else searched.images
            inputs, what_of_inputs = _measure_inputs(source, root, files, dataset_dir, domain)
        content = json.loads(ranges.to_json()) | ({} if inputs is None else {"inputs": inputs.to_dict()})
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print_line(f"reference ranges of {ranges.cases} cases in {out}; {what_of_inputs}")
    if ranges.cases < len(found):
        raise typer.Exit(3)


def _root_to_measure(bundle: Path, images: list[Path] | None, dataset_dir: Path | None, domain: str) -> Path:
    """The bundle's folder, where what is given fits it and each other."""
    root = find_bundle(bundle, nnunet=True)
    if bool(images) == (dataset_dir is not None):
        raise ValueError("give either images of the source, or --dataset-dir with labelled ones")
    if dataset_dir is not None:
        check_dataset_dir(dataset_dir)
    if is_nnunet_folder(root) and (dataset_dir is not None or domain):
        raise ValueError("--dataset-dir and --domain need a MONAI bundle's configs; give an nnU-Net images of its source")
    return root


def _measure(todo: Iterator[Measured], names: list[str] | None) -> list[Measured]:
    """Measure all cases, show how far it is, and say which failed; ``names`` is None where cases have none."""
    found: list[Measured] = []
    with show_progress("measuring", None if names is None else len(names)) as progress:
        for figures, error in todo:
            name = "cases" if names is None else names[len(found)]
            progress.advance(f"{name} {'failed' if figures is None else 'measured'}")
            found.append((figures, error))
    for _, error in found:
        if error:
            say(f"not measured: {error}", "red")
    return found


def _measure_inputs(
    source: SourceBundle, root: Path, files: list[Path] | None, dataset_dir: Path | None, domain: str
) -> tuple[InputReference | None, str]:
    """Measure the images themselves for input checks, and what became of it in words."""
    from monai_tta.evaluation.protocol import protocol_of
    from monai_tta.pipeline.bundle import BundleError
    from monai_tta.pipeline.case_file import label_of
    from monai_tta.preparation.measure_inputs import images_of_domain, input_reference, measure_inputs

    if files is None:
        assert dataset_dir is not None
        files = images_of_domain(root, dataset_dir, domain or protocol_of(root).domains[0].label)
    found: list[FiguresOrReason] = []
    try:
        with show_progress("measuring inputs", len(files)) as progress:
            for entry in measure_inputs(source, files):
                progress.advance(f"{label_of(files[len(found)], '')} {'failed' if entry[0] is None else 'measured'}")
                found.append(entry)
    except BundleError as error:
        return None, f"no figures for input checks: {error}"
    return input_reference(found)
