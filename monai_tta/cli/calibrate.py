"""`monai-tta calibrate`: make a bundle's gain and quality predictors where the source's images are, labelled or not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.calibration_report import Calibrated, report_calibration
from monai_tta.cli.case_options import CaseOptions, Group, Sequences, searched_images
from monai_tta.cli.console import report_errors, say
from monai_tta.cli.interrupt import stop_in_order
from monai_tta.cli.options import (
    AsJson,
    Checkpoint,
    ConfigFiles,
    Device,
    Seed,
    check_dataset_dir,
    check_new_file,
    complete_bundle,
    help_end,
)
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.preparation.calibration_settings import CalibrationSettings

HELP = """Calibrate the gain predictor of `--method careful` on distorted images of the source.

IMAGES need no labels. The network's own answer to each image, before it
is distorted, is taken as its label. With --dataset-dir, labelled images
are used; with both, an image that is in both counts once, with its label.

Use images that the network was not trained on, at least five with
something in their labels, or in the network's answers. The file holds
numbers alone, no image and no name. The figure `labels` in it says what
gains and harm were measured against.

The results of all trials are kept. After Ctrl-C or a kill the same
command goes on, and another --harm or a larger --size takes no trial
again. They hold no image, name or shape; remove their folder when the
predictor is done.

With a label for each image the quality predictor comes with it:
`monai-tta run` then says of every mask, by any method, which Dice is to
be expected, how much of its surface is right, and how surely.

--quality-only tries nothing but the unadapted network, and makes the
quality predictor alone. Of adapted masks it then says nothing.

Of an nnU-Net each fold answers the images that its training held out,
where --dataset-dir is the dataset of that training; else the folds take
images by turns.

A predictor that gained nothing on held-out cases, or harmed too many, is
of no use. The command says so and ends with 3. The file is written, and
`monai-tta run` then does not adapt unless a --method is named.
"""
HELP_END = help_end(
    "monai-tta calibrate BUNDLE SOURCE_SCANS",
    "monai-tta calibrate BUNDLE --dataset-dir DATA --set split=source_val",
    codes=(0, 2, 3, 130),
)

CalibrationBundle = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="a bundle's folder, a shipped bundle's name, or a model folder of nnU-Net; --dataset-dir needs a bundle's "
        "configs/evaluate.yaml",
        autocompletion=complete_bundle,
    ),
]
Keys = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="ID=VALUE",
        help="an entry of the bundle's inference or evaluate config, e.g. split=source_val; may be given several times",
    ),
]
Unlabelled = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IMAGES", help="images of the source without labels, found as `monai-tta run` finds images"),
]
DataOrNone = Annotated[
    Path | None,
    typer.Option(
        help="the source's labelled data, if there are any: as the bundle's evaluate config reads them, or a folder of nnUNet_raw"
    ),
]


def calibrate(
    bundle: CalibrationBundle,
    images: Unlabelled = None,
    dataset_dir: DataOrNone = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="the gain predictor's file, with the quality predictor beside it; models/gain_predictor.npz if not given"
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    set_: Keys = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    size: Annotated[int, typer.Option(help="how many distorted images")] = 160,
    budget: Annotated[int, typer.Option(help="on how many windows of an image the candidates adapt")] = 4,
    harm: Annotated[float, typer.Option(help="the share of held-out cases that may lose over a point of Dice")] = 0.03,
    seed: Seed = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="try two blends in two views, then and in each run: a fifth of the time; for BatchNorm"),
    ] = False,
    quality_only: Annotated[
        bool,
        typer.Option(
            "--quality-only", help="make the quality predictor alone, of unadapted masks: about a third of the time, or less"
        ),
    ] = False,
    trials: Annotated[
        Path | None, typer.Option(help="the folder in which results of trials are kept; beside the gain predictor if not given")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget the kept trials of these images and this network")] = False,
    group: Group = "",
    sequences: Sequences = "",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate the gain predictor of `--method careful` on distorted images of the source, labelled or not."""
    settings = {"size": size, "budget": budget, "harm": harm, "seed": seed, "quick": quick, "quality_only": quality_only}
    try:
        with stop_in_order(), report_errors():
            root = find_bundle(bundle, nnunet=True)
            _check_can_calibrate(images or [], dataset_dir)
            how: dict[str, Any] = {"device": device, "config_files": config, "restart": restart}
            given = (images or [], CaseOptions(group, sequences))
            made = _calibrate(root, dataset_dir, given, checkpoint, set_, settings, out, trials, **how)
    except KeyboardInterrupt:
        say("interrupted; what was tried is kept, and the same command goes on")
        raise typer.Exit(130) from None
    report_calibration(made, as_json)
    if made.useless or made.left_out:
        raise typer.Exit(3)


def _check_can_calibrate(images: list[Path], dataset_dir: Path | None) -> None:
    """Refuse what holds no images, before torch is imported, and say now, not after an hour of work, what is not installed."""
    if dataset_dir is not None:
        check_dataset_dir(dataset_dir)
    elif not images:
        raise ValueError("give images of the source, or --dataset-dir with labelled ones, or both")
    if not find_spec("sklearn"):
        raise ImportError("calibration needs scikit-learn: pip install 'monai-tta[calibrate]'")


def _calibrate(
    root: Path,
    dataset_dir: Path | None,
    given: tuple[list[Path], CaseOptions],
    checkpoint: str | None,
    entries: list[str],
    settings: dict[str, Any],
    out: Path | None,
    trials: Path | None,
    **how: Any,
) -> Calibrated:
    """Calibrate and write."""
    from monai_tta.pipeline.checkpoint import checkpoint_name
    from monai_tta.pipeline.config_changes import ConfigChanges
    from monai_tta.pipeline.source_files import weights_file
    from monai_tta.preparation.calibrate import parse_keys
    from monai_tta.preparation.calibration_settings import CalibrationSettings
    from monai_tta.preparation.trials import trials_folder
    from monai_tta.quality.predictor_files import predictor_file, quality_beside

    chosen = CalibrationSettings(**settings)
    keys = parse_keys(entries)
    elsewhere = () if dataset_dir is None else ("evaluate",)
    weights = checkpoint_name(root, checkpoint, ConfigChanges.of(how["config_files"], keys), elsewhere)
    file = out or predictor_file(weights_file(root, weights))
    check_new_file(file)
    check_new_file(quality_beside(file))
    with searched_images(*given, root, file.parent) as found:
        how |= {"keys": keys, "trials": trials or trials_folder(file), "images": found.images, "names": found.names}
        made = _show_progress(root, dataset_dir, weights, chosen, file, **how)
    file.parent.mkdir(parents=True, exist_ok=True)
    if made.gain:
        made.gain.save(file)
    if made.quality:
        made.quality.save(quality_beside(file))
    return made


def _show_progress(
    root: Path, dataset_dir: Path | None, checkpoint: str, settings: CalibrationSettings, file: Path, **how: Any
) -> Calibrated:
    """Calibrate and show how far it is."""
    from monai_tta.preparation.calibrate import calibrate as calibrate_bundle
    from monai_tta.preparation.collect_cases import Kept, Note

    made = Calibrated(file)
    with show_progress("calibrating", settings.size, "distorted images") as progress:
        for done in calibrate_bundle(root, dataset_dir, checkpoint, settings, **how):
            if isinstance(done, Kept):
                progress.move_to(done, settings.size, "distorted images, as an earlier calibration left them", counts=False)
            elif isinstance(done, int):
                progress.move_to(done, settings.size, "distorted images")
            elif isinstance(done, Note):
                say(done)
            elif isinstance(done, str):
                made.left_out.append(done)
                say(done, "red")
            else:
                made.add(done)
    return made
