"""The head-and-neck bundle on small phantoms in the challenge's layout: list, training, masks, scores, adaptation, comparison."""

import csv
import json
import runpy
import sys
from dataclasses import replace
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE as HIPPOCAMPUS
from monai_tta.evaluation.compare import work
from monai_tta.evaluation.jobs import jobs_of
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.evaluation.structure_scores import dice_and_nsd
from monai_tta.transforms.headneck import ORGANS, STRUCTURES, TOLERANCES, pack_maps, unpack_structures
from monai_tta.transforms.phantoms import headneck_phantom

BUNDLE = HIPPOCAMPUS.parent / "headneck_ct"
CONFIGS = BUNDLE / "configs"
MAKER = BUNDLE / "scripts" / "make_datalist.py"
MAPS = "SegRap2023_Training_Set_120cases_OneHot_Labels"
SIZE = (24, 22, 12)
SPACING = (1.5, 1.5, 3.0)
SMALL = {
    "filters": [4, 8, 8],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
    "roi_size": [16, 16, 8],
    "pixdim": [2, 2, 3],
    "device": "cpu",
}
WORDS = [word for key, value in SMALL.items() for word in (f"--{key}", json.dumps(value) if isinstance(value, list) else value)]


def write(file, data):
    """Oblique to the axes of the file, with left at high index, as most CT has it."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = 18.0, 15.0, -40.0
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(data[::-1, ::-1]), affine), file)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five cases as the challenge's archives unpack, with both forms of labels."""
    root = tmp_path_factory.mktemp("segrap")
    for number in range(5):
        phantom = headneck_phantom(SIZE, seed=number)
        name = f"segrap_{number:04d}"
        folder = root / "SegRap2023_Training_Set_120cases" / name
        for stem, series in zip(("image", "image_contrast"), phantom.image, strict=True):
            write(folder / f"{stem}.nii.gz", series.numpy())
        for task, map_ in zip(("Task001", "Task002"), phantom.label, strict=True):
            write(root / MAPS / task / f"{name}.nii.gz", map_.numpy().astype(np.uint8))
        if number == 0:
            for structure, mask in zip(STRUCTURES, unpack_structures(pack_maps(*phantom.label)), strict=True):
                write(folder / f"{structure}.nii.gz", mask.numpy().astype(np.uint8) * 255)
    assert make_list(root) == 0
    return root


def make_list(*words):
    """Run the script as a user does; its exit code."""
    with mock.patch.object(sys, "argv", ["make_datalist.py", *map(str, words)]), pytest.raises(SystemExit) as end:
        runpy.run_path(str(MAKER), run_name="__main__")
    return end.value.code


def bundle_run(root, files, *words):
    """Run `python -m monai.bundle` in this process, which saves the seconds of a start."""
    command = ["monai.bundle", "run", "--config_file", str([str(CONFIGS / f) for f in files]), "--bundle_root", str(root)]
    with mock.patch.object(sys, "argv", [*command, *WORDS, *map(str, words)]):
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A copy of the bundle, with sizes for phantoms in its configs, after a few steps of its own training."""
    root = tmp_path_factory.mktemp("headneck") / "headneck_ct"
    (root / "models").mkdir(parents=True)
    listed = ["--dataset_dir", data, "--datalist_file", data / "datalist.json"]
    short = ["--max_epochs", 2, "--val_interval", 2]
    bundle_run(root, ["train.yaml"], *listed, *short)
    (root / "configs").mkdir()
    for file in CONFIGS.glob("*"):
        text = file.read_text(encoding="utf-8")
        if file.name == "inference.yaml":
            sections = yaml.safe_load(text)
            sections |= {key: f"$torch.device('{value}')" if key == "device" else value for key, value in SMALL.items()}
            text = yaml.safe_dump(sections)
        (root / "configs" / file.name).write_text(text, encoding="utf-8")
    return root


def case_folders(data):
    return sorted((data / "SegRap2023_Training_Set_120cases").iterdir())


def test_the_list_is_split_by_its_seed_and_every_case_is_in_it_once(data, tmp_path, capsys):
    found = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
    assert {name: len(cases) for name, cases in found.items()} == {"training": 4, "validation": 1}
    cases = found["training"] + found["validation"]
    assert {case["image"] for case in cases} == {f.relative_to(data).as_posix() for f in case_folders(data)}
    for case in cases:
        name = case["image"].split("/")[-1]
        assert case["label"] == [f"{MAPS}/{task}/{name}.nii.gz" for task in ("Task001", "Task002")]
    splits = set()
    for seed in (0, 0, 1, 2, 3, 4):
        assert make_list(data, "--seed", seed, "--out", tmp_path / "l.json", "--validation", 0.4) == 0
        splits.add((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert 1 < len(splits) <= 5 and "3 training, 2 validation in" in capsys.readouterr().out


def test_what_is_wrong_with_the_folders_is_said_and_nothing_is_written(data, tmp_path, capsys):
    assert make_list(data, "--masks", "--out", tmp_path / "l.json") == 2
    said = capsys.readouterr().err
    assert "segrap_0001: no mask of Brain, BrainStem" in said and "4 of 5 cases are not usable; no list was written" in said
    assert "segrap_0000:" not in said and not (tmp_path / "l.json").exists()
    assert make_list(tmp_path) == 2 and "has no case" in capsys.readouterr().err
    assert make_list(data, "--images", "nowhere") == 2 and "is no folder" in capsys.readouterr().err
    assert make_list(data, "--validation", 1) == 2 and "is a share" in capsys.readouterr().err
    assert make_list(data, "--maps", "nowhere") == 2 and "it holds Task001 and Task002" in capsys.readouterr().err
    assert make_list(data, "--organ-maps", "nowhere") == 2 and "no label nowhere/segrap_0000.nii.gz" in capsys.readouterr().err
    broken = tmp_path / "cases"
    for name in ("a", "b"):
        for stem in ("image", "image_contrast"):
            write(broken / name / f"{stem}.nii.gz", np.zeros(SIZE if (name, stem) != ("b", "image_contrast") else (5, 5, 5)))
    (broken / "a" / "image_contrast.nii.gz").unlink()
    assert make_list(broken) == 2
    said = capsys.readouterr().err
    assert "a: no image_contrast.nii.gz: a case is two registered series" in said
    assert "b: no mask of Brain" in said
    write(broken / "b" / "GTVp.nii.gz", np.zeros(SIZE, np.uint8))
    assert make_list(broken, "--missing-is-empty") == 2
    assert "b: image_contrast.nii.gz is (5, 5, 5) and image.nii.gz is" in capsys.readouterr().err


def test_masks_beside_the_series_are_listed_by_their_folder(data, tmp_path):
    one = tmp_path / "one" / "segrap_0000"
    one.parent.mkdir()
    one.symlink_to(case_folders(data)[0])
    assert make_list(tmp_path / "one", "--validation", 0) == 0
    found = json.loads((tmp_path / "one" / "datalist.json").read_text(encoding="utf-8"))
    assert found == {"training": [{"image": "segrap_0000", "label": "segrap_0000"}], "validation": []}


def test_training_saves_what_inference_loads(trained):
    state = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert state["output_block.conv.conv.weight"].shape[0] == 47 and any("running_mean" in name for name in state)


def test_configs_agree_with_each_other_and_with_the_table():
    train, inference = (ConfigParser.load_config_file(str(CONFIGS / f"{n}.yaml")) for n in ("train", "inference"))
    for name in ("network_def", "filters", "strides", "pixdim", "roi_size"):
        assert train[name] == inference[name]
    protocol = protocol_of(BUNDLE)
    assert protocol.labels == STRUCTURES and protocol.tolerance == TOLERANCES and protocol.mirrors == ()
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert tuple(channels[str(n)] for n in range(47)) == STRUCTURES


def masks_of(folder):
    return {f.name.removesuffix(".nii.gz"): nib.load(f) for f in folder.glob("*.nii.gz")}


def test_masks_come_back_on_the_cases_grid_one_file_for_each_structure(data, trained, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    for folder in case_folders(data)[:2]:
        (cases / folder.name).symlink_to(folder)
    images = [str(folder / "image.nii.gz") for folder in sorted(cases.iterdir())]
    done = CliRunner().invoke(app, ["run", str(trained), *images, "--out", str(tmp_path / "cli")])
    assert done.exit_code == 0, done.output
    for name, files in (("plain", ["inference.yaml"]), ("adapted", ["inference.yaml", "adapt.yaml"])):
        bundle_run(trained, files, "--dataset_dir", cases, "--output_dir", tmp_path / name)
        assert {f.name for f in (tmp_path / name).iterdir()} == {"segrap_0000", "segrap_0001"}
    given = nib.load(case_folders(data)[0] / "image.nii.gz")
    for folder in ("cli", "plain", "adapted"):
        masks = masks_of(tmp_path / folder / "segrap_0000")
        assert set(masks) == set(STRUCTURES)
        for mask in masks.values():
            assert mask.shape == given.shape and np.allclose(mask.affine, given.affine) and mask.get_data_dtype() == np.uint8
            assert set(np.unique(mask.get_fdata())) <= {0, 1} and not bytes(mask.header["descrip"].item())
    records = json.loads((tmp_path / "cli" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert len(records) == 2 and all(record["reason"] is None and "Statistics" in record["method"] for record in records)


def test_a_right_answer_is_saved_where_the_structure_is(data, trained, tmp_path):
    """The label as the network's grid has it, in the place of the network's answer."""
    names = ("inference", "evaluate")
    reader, writer = ConfigParser(), ConfigParser()
    reader.read_config([str(trained / "configs" / f"{name}.yaml") for name in names])
    reader.update(
        {"dataset_dir": str(data), "datalist_file": str(data / "datalist.json"), "space": "network", "pixdim": [1, 1, 1]}
    )
    writer.read_config(str(trained / "configs" / "inference.yaml"))
    writer.update({"output_dir": str(tmp_path), "pixdim": [1, 1, 1]})
    item = reader.get_parsed_content("datalist")[0]
    channels = unpack_structures(reader.get_parsed_content("preprocessing")(dict(item))["label"])
    case = writer.get_parsed_content("preprocessing")({"image": item["image"]})
    writer.get_parsed_content("postprocessing")(case | {"pred": channels * 20 - 10})
    phantom = headneck_phantom(SIZE, seed=int(item["image"][-4:]))
    masks = masks_of(next(tmp_path.iterdir()))
    for name, truth in zip(STRUCTURES, unpack_structures(pack_maps(*phantom.label)).numpy()[:, ::-1, ::-1] > 0, strict=True):
        mask = masks[name].get_fdata() > 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8, name
        assert not mask[0].any(), "what was cut away as air is outside"


def test_without_weights_one_line_says_so(data, tmp_path):
    done = CliRunner().invoke(app, ["run", "headneck_ct", str(case_folders(data)[0] / "image.nii.gz"), "--out", str(tmp_path)])
    assert done.exit_code == 2 and not isinstance(done.exception, FileNotFoundError)
    assert "model.pt does not exist: train the bundle or put its weights there" in " ".join(done.output.split())


def test_the_challenges_scores_are_those_of_the_saved_masks(data, trained, tmp_path):
    listed = ["--dataset_dir", data, "--datalist_file", data / "datalist.json"]
    bundle_run(trained, ["inference.yaml", "evaluate.yaml"], *listed, "--output_dir", tmp_path / "scores")
    (case,) = json.loads((data / "datalist.json").read_text(encoding="utf-8"))["validation"]
    one = tmp_path / "one"
    one.mkdir()
    (one / case["image"].split("/")[-1]).symlink_to(data / case["image"])
    bundle_run(trained, ["inference.yaml"], "--dataset_dir", one, "--output_dir", tmp_path / "masks")
    masks = masks_of(next((tmp_path / "masks").iterdir()))
    parts, tumours = (np.asarray(nib.load(data / file).dataobj) for file in case["label"])
    truth = [np.isin(parts, numbers) for numbers in ORGANS.values()] + [tumours == 1, tumours == 2]
    by_hand = [
        dice_and_nsd(torch.from_numpy(masks[name].get_fdata() > 0), torch.from_numpy(t), SPACING, tolerance)
        for name, t, tolerance in zip(STRUCTURES, truth, TOLERANCES, strict=True)
    ]
    for place, name in enumerate(("dice", "nsd")):
        head, row = csv.reader((tmp_path / "scores" / f"{name}_raw.csv").open(encoding="utf-8"))
        assert head[1] == "class0" and "segrap" in row[0]
        np.testing.assert_allclose([float(v) for v in row[1:48]], [scores[place] for scores in by_hand], atol=1e-4)
    table = list(csv.reader((tmp_path / "scores" / "structures.csv").open(encoding="utf-8")))
    assert (
        table[0] == ["structure", "dice", "nsd"] and table[1][0] == "Brain" and float(table[1][1]) == pytest.approx(by_hand[0][0])
    )


def test_adapted_scores_come_from_adapted_answers(data, trained, tmp_path):
    parser = ConfigParser()
    parser.read_config([str(trained / "configs" / f"{name}.yaml") for name in ("inference", "evaluate", "adapt")])
    parser.update({"bundle_root": str(trained), "dataset_dir": str(data), "output_dir": str(tmp_path)})
    parser["datalist_file"] = str(data / "datalist.json")
    parser.get_parsed_content("load")
    evaluator = parser.get_parsed_content("evaluator")
    assert isinstance(evaluator.inferer, AdaptiveInferer) and evaluator.inferer.settings.method.pseudo.views.axes == ()
    evaluator.run()
    (case,) = evaluator.inferer.cases
    assert case.adapted and case.reason is None and case.weight_distance > 0
    assert set(evaluator.state.metric_details) == {"dice", "nsd"}


def test_one_series_is_refused_in_plain_words_and_answered_only_where_its_mean_was_asked_for(data, trained, tmp_path):
    lone = tmp_path / "cases" / "segrap_0003"
    lone.mkdir(parents=True)
    (lone / "image.nii.gz").symlink_to(case_folders(data)[3] / "image.nii.gz")
    done = CliRunner().invoke(app, ["run", str(trained), str(lone / "image.nii.gz"), "--out", str(tmp_path / "cli")])
    assert done.exit_code == 3 and "has no contrast series" in " ".join(done.output.split())
    files = ["inference.yaml", "adapt.yaml"]
    bundle_run(trained, files, "--dataset_dir", lone.parent, "--output_dir", tmp_path / "out", "--fill_missing", "True")
    masks = masks_of(tmp_path / "out" / "segrap_0003")
    assert {bytes(mask.header["descrip"].item()) for mask in masks.values()} == {b"contrast series missing"}
    parser = ConfigParser()
    parser.read_config([str(trained / "configs" / name) for name in files])
    parser.update(
        {"bundle_root": str(trained), "dataset_dir": str(lone.parent), "output_dir": str(tmp_path), "fill_missing": True}
    )
    parser.get_parsed_content("load")
    image = parser.get_parsed_content("dataset")[0]["image"]
    assert not image[1].any() and float(image[0].std()) == pytest.approx(1, abs=1e-2)
    inferer = parser.get_parsed_content("evaluator").inferer
    with torch.no_grad():
        answer = inferer(image[None], parser.get_parsed_content("network").eval())
    assert answer.shape == (1, 47, *image.shape[1:]) and answer.isfinite().all()
    assert inferer.cases[-1].adapted and inferer.cases[-1].reason is None and inferer.cases[-1].weight_distance > 0


def test_a_comparison_scores_47_structures_with_their_tolerances(data, trained, tmp_path):
    domains = ("validation", "without contrast", "LowDoseShift 3")
    plan = ComparisonPlan(root=trained, dataset_dir=data, only=("GraTa, trained mirrors",), domains=domains, metrics=("dice",))
    jobs = list(jobs_of(plan, set(), dict.fromkeys(domains, 1)))
    done = [work(replace(job, plan=replace(plan, metrics=("dice", "nsd"))) if job is jobs[0] else job) for job in jobs]
    rows = [row for some, _ in done for row in some]
    assert [failures for _, failures in done] == [[], [], []]
    assert len(rows) == 6 and all(len(row.scores) == 47 for row in rows)
    assert {row.reason for row in rows if row.key.contender != "Source"} <= {None}
    assert len({row.answer for row in rows}) == 6
    assert np.isfinite([score.nsd for score in rows[0].scores]).any()
    cases = {d.label: LabelledDomain(trained, data, d).case(0) for d in plan.places()}
    assert not cases["without contrast"]["image"][1].any() and cases["validation"]["image"][1].any()
    assert torch.equal(cases["LowDoseShift 3"]["label"], cases["validation"]["label"])
