"""Every command with every kind of wrong argument: a code other than 0, and a sentence that names what was found."""

import re
import shutil

import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.shipped_bundles import BUNDLES

OF_BUNDLES = {
    "run": ["scans", "--out", "out"],
    "calibrate": ["--dataset-dir", "unread", "--set", "split=source_val", "--out", "new.npz"],
    "train-optimizer": ["--dataset-dir", "unread", "--set", "split=source_val", "--out", "new.npz"],
    "rehearsal": ["--dataset-dir", "unread", "--set", "split=source_val", "--out", "new.npz"],
    "fisher": ["scans", "--out", "new.npz"],
    "pretrain-added": ["--dataset-dir", "scans", "--out", "new.npz", "--steps", "1"],
    "reference": ["--dataset-dir", "unread", "--out", "new.json"],
    "compare": ["--dataset-dir", "unread", "--out", "out", "--only", "Tent", "--domain", "target"],
    "stream": ["--dataset-dir", "unread", "--out", "out", "--only", "Tent"],
    "profile": ["--size", "32,32,32", "--repeats", "1", "--out", "new.json"],
    "overlay": ["--out", "new.yaml"],
    "night": ["--diary", "empty", "--out", "new.pt"],
    "finetune": ["--datalist", "list.json", "--out", "new.pt"],
}
OF_DATA = ("calibrate", "train-optimizer", "rehearsal", "reference", "compare", "stream")
BROKEN = {
    "nowhere": "nowhere is not a MONAI bundle",
    "file": "file is not a MONAI bundle: it is a file",
    "empty": "empty (is not a MONAI bundle|has no configs/compare.yaml)",
    "no_config": "no_config is not a MONAI bundle",
    "bad_yaml": "bad_yaml/configs/inference.yaml",
    "a_list": "a_list/configs/inference.yaml",
    "no_network_of_that_name": "NoSuchNetwork",
    "no_weights": "no_weights/models/model.pt does not exist",
    "other_network": "model.pt does not fit UNet",
    "ends_the_process": "ends_the_process/configs/inference.yaml",
}
DATA = {
    "nowhere": "nowhere is no folder",
    "file": "file is no folder",
    "empty": "evaluate.yaml.*empty/split.csv does not exist",
    "columns": "evaluate.yaml.*there is no 'split'",
    "noise": "evaluate.yaml.*no text in ",
    "no_case": "no_case has no case for .*split=",
    "folder_for_a_file": "folder_for_a_file/split.csv is a folder, and should be a file",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that is wrong."""
    root = tmp_path_factory.mktemp("wrong")
    for name in ("empty", "scans", *DATA):
        if name not in ("nowhere", "file"):
            (root / name).mkdir(exist_ok=True)
    (root / "file").write_text("no folder", encoding="utf-8")
    (root / "scans" / "a.nii.gz").write_bytes(b"no image")
    (root / "list.json").write_text('[{"image": "scans/a.nii.gz", "scribble": "scans/a.nii.gz"}]', encoding="utf-8")
    (root / "columns" / "split.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (root / "noise" / "split.csv").write_bytes(bytes(range(256)))
    (root / "no_case" / "split.csv").write_text("id,group,split\n", encoding="utf-8")
    (root / "folder_for_a_file" / "split.csv").mkdir()
    (root / "unread").mkdir()
    rows = [f"{split}{k},A,{split}\n" for split in ("source_train", "source_val", "target") for k in range(6)]
    (root / "unread" / "split.csv").write_text("id,group,split\n" + "".join(rows), encoding="utf-8")
    changes = {
        "bad_yaml": lambda text: "a: [1,\n b: {",
        "a_list": lambda text: "- 1\n",
        "no_network_of_that_name": lambda text: text.replace("_target_: UNet", "_target_: NoSuchNetwork"),
        "other_network": lambda text: text.replace("channels: [16, 32, 64, 128]", "channels: [4, 8, 16, 32]"),
        "ends_the_process": lambda text: text.replace("_target_: UNet", '_target_: "$exit(0)"'),
    }
    for name in BROKEN:
        if name in ("nowhere", "file", "empty"):
            continue
        shutil.copytree(BUNDLES / "hippocampus_mri", root / name)
        config = root / name / "configs" / "inference.yaml"
        if name in changes:
            config.write_text(changes[name](config.read_text(encoding="utf-8")), encoding="utf-8")
        if name == "no_config":
            config.unlink()
        if name == "no_weights":
            for file in (root / name / "models").iterdir():
                file.unlink()
    return root


@pytest.fixture(autouse=True)
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)
    yield
    for name in ("out", "new.npz", "new.json", "new.yaml", "new.pt"):
        made = place / name
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)


def said_by(*words, codes=(2, 3)):
    """What a refused command says; nothing of it is a traceback or a number of the system's."""
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in codes, result.output
    assert "Traceback" not in result.output and "[Errno" not in result.output and "object at 0x" not in result.output
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert lines and not re.search(r"\w+Error: *$", lines[-1]), result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", OF_BUNDLES)
@pytest.mark.parametrize("bundle", BROKEN)
def test_a_bundle_that_is_none_or_broken(bundle, command, place):
    if command == "overlay" and bundle in ("no_weights", "other_network", "no_network_of_that_name", "ends_the_process"):
        return  # it says what is wrong, and writes what it can
    if command in ("compare", "stream") and bundle in (
        "no_weights",
        "no_network_of_that_name",
        "other_network",
        "ends_the_process",
    ):
        return  # told by the processes that do the work
    assert re.search(BROKEN[bundle], said_by(command, bundle, *OF_BUNDLES[command]))
    assert not (place / "empty" / "models").exists(), "a command must not make folders in what is no bundle"


@pytest.mark.parametrize("command", OF_DATA)
@pytest.mark.parametrize("folder", DATA)
def test_data_that_are_not_there(folder, command):
    words = OF_BUNDLES[command]
    swapped = [folder if word == "unread" else word for word in words]
    assert re.search(DATA[folder], said_by(command, "hippocampus_mri", *swapped))


@pytest.mark.parametrize("command", [name for name in OF_DATA if name not in ("compare", "stream")])
def test_a_listed_image_that_is_not_there_is_named(command):
    assert "source_val0.nii.gz" in said_by(command, "hippocampus_mri", *OF_BUNDLES[command])


@pytest.mark.parametrize("command", OF_BUNDLES)
@pytest.mark.parametrize("out", ["empty", "file/new"])
def test_a_place_where_nothing_can_be_written(out, command):
    words = OF_BUNDLES[command]
    folder_wanted = command in ("run", "compare", "stream")
    out = "file" if folder_wanted and out == "empty" else out
    swapped = [*words[: words.index("--out") + 1], out, *words[words.index("--out") + 2 :]]
    if command == "night":
        swapped[swapped.index("empty")] = "scans"
    said = said_by(command, "hippocampus_mri", *swapped)
    assert re.search(
        "is a folder|is a file|is there already|in a folder that does not exist|exists, and no checkpoint|holds 0 images", said
    ), said


@pytest.mark.parametrize(
    "words, said",
    [
        (["tables", "empty"], "empty has no rows.sqlite"),
        (["tables", "file"], "file"),
        (["demo", "--out", "file/x"], "is a file"),
        (["overlay", "hippocampus_mri", "--head", "tanh", "--out", "new.yaml"], "head is 'softmax' or 'sigmoid'"),
        (["profile", "hippocampus_mri", "--size", "8,8"], "8,8"),
        (["profile", "hippocampus_mri", "--size", "8,8,8,8"], "8,8,8,8"),
        (["reference", "hippocampus_mri", "--dataset-dir", "unread", "--domain", "Mars", "--out", "o"], "no domain 'Mars'"),
        (["night", "hippocampus_mri", "--diary", "empty", "--out", "new.pt"], "holds 0 images"),
        (["night", "hippocampus_mri", "--diary", "empty", "--out", "n.pt", "--choose", "luck=1"], "no choice 'luck'"),
        (["finetune", "hippocampus_mri", "--datalist", "empty", "--out", "new.pt"], "empty"),
        (["stream", "hippocampus_mri", "--dataset-dir", "unread", "--out", "out", "--domain", "target"], "another domain"),
        (["run", "hippocampus_mri", "scans", "--out", "out", "--checkpoint", "."], "models"),
        (
            ["run", "hippocampus_mri", "scans", "--out", "out", "--reference", "empty", "--guard", "shape"],
            "no reference ranges in empty",
        ),
    ],
)
def test_other_wrong_arguments(words, said):
    assert said in said_by(*words)


@pytest.mark.parametrize("extra", ["sklearn", "matplotlib", "nilearn"])
@pytest.mark.parametrize("command", ["calibrate", "rehearsal", "demo"])
def test_an_extra_that_is_missing_is_told_before_any_work(command, extra, monkeypatch):
    wanted = {"calibrate": ("sklearn",), "rehearsal": ("sklearn",), "demo": ("nilearn", "matplotlib")}[command]
    if extra not in wanted:
        return
    import importlib.util

    real = importlib.util.find_spec
    module = "monai_tta.cli.demo" if command == "demo" else f"monai_tta.cli.{command}"
    monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == extra else real(name))
    words = ["--out", "out"] if command == "demo" else ["hippocampus_mri", *OF_BUNDLES[command]]
    assert "pip install 'monai-tta[" in said_by(command, *words)
