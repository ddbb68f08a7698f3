"""`monai-tta calibrate`: make a bundle's gain predictor where the labels are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
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
    from monai_tta.quality.gain_predictor import GainPredictor

HELP_END = help_end("monai-tta calibrate BUNDLE --dataset-dir DATA --set split=source_val")

CalibrationBundle = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="a bundle's folder with configs/evaluate.yaml, or a shipped bundle's name",
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


def calibrate(
    bundle: CalibrationBundle,
    dataset_dir: Annotated[Path, typer.Option(help="the source's labelled data, as the bundle's evaluate config reads them")],
    out: Annotated[
        Path | None, typer.Option(help="the gain predictor's file; models/gain_predictor.npz in the bundle if not given")
    ] = None,
    checkpoint: Checkpoint = None,
    set_: Keys = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    size: Annotated[int, typer.Option(help="how many distorted images")] = 160,
    budget: Annotated[int, typer.Option(help="on how many windows of an image the candidates adapt")] = 4,
    harm: Annotated[float, typer.Option(help="the share of held-out cases that may lose over a point of Dice")] = 0.03,
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate the gain predictor of `--method careful` on labelled, distorted source images.

    Use images that the network was not trained on. The file holds numbers
    alone, no image and no name.
    """
    with report_errors():
        root = find_bundle(bundle)
        check_dataset_dir(dataset_dir)
        if not find_spec("sklearn"):  # told now, not after an hour of work
            raise ImportError("calibration needs scikit-learn: pip install 'monai-tta[calibrate]'")

        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.config_changes import ConfigChanges
        from monai_tta.preparation.calibrate import calibrate as calibrate_bundle
        from monai_tta.preparation.calibrate import parse_keys
        from monai_tta.preparation.collect_cases import CalibrationSettings
        from monai_tta.quality.predictor_files import predictor_file

        settings = CalibrationSettings(size=size, budget=budget, harm=harm, seed=seed)
        weights = checkpoint_name(root, checkpoint, ConfigChanges.of(config, parse_keys(set_)), ("evaluate",))
        file = out or predictor_file(root / "models" / weights)
        check_new_file(file)
        with show_progress("calibrating", size, "distorted images") as progress:
            for done in calibrate_bundle(root, dataset_dir, weights, settings, parse_keys(set_), device, config):
                if isinstance(done, int):
                    progress.move_to(done, size, "distorted images")
                else:
                    predictor = done
        file.parent.mkdir(parents=True, exist_ok=True)
        predictor.save(file)
    if as_json:
        print_json({"found": {**predictor.about, "margin": predictor.margin}, "written": str(file)})
    else:
        _print_predictor(predictor, file)


def _print_predictor(predictor: GainPredictor, file: Path) -> None:
    rows = [(name, f"{value:.3f}" if isinstance(value, float) else str(value)) for name, value in predictor.about.items()]
    print_table(["of", "found"], [*rows, ("margin", f"{predictor.margin:g} spreads")])
    print_line(
        f"written: {file}; `monai-tta run` finds it in its bundle; elsewhere give --method careful --choose predictor=FILE"
    )
