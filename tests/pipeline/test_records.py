"""records.json and records.csv: what they say of each case, that the schema describes them, and what they never hold."""

import csv
import dataclasses
import json
import re
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.run_facts import DEFAULTS, command_on_record, file_names_alone
from monai_tta.core.record import Case, Step
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.case_file import content_of, write_case_file
from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.image_names import name_of
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.named_warnings import warnings_with_names, working_on
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.private_text import without_paths
from monai_tta.pipeline.records import SCHEMA_FILE, SCHEMA_VERSION, Records, RunFacts
from tests.attack.arena import save, small_bundle, volume

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
CASE_KEYS = SCHEMA["$defs"]["case"]["properties"]
FACTS = RunFacts(
    command="monai-tta run b IMAGES --out OUT", settings={"seed": 0}, names=LabelNames({0: "background", 1: "liver"})
)


def checked(document):
    """The document, which must be as the schema says and hold no NaN."""
    text = json.dumps(document, allow_nan=False)
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    return json.loads(text)


def case_of(**more):
    usual = {"number": 0, "network": "UNet", "method": "Tent()", "head": "softmax", "learn": "volume", "reset": "volume"}
    return Case(**{**usual, "seed": 0, "shape": (1, 1, 4, 4, 4), "seconds": 1.5, **more})


@pytest.fixture
def place(tmp_path):
    """An output folder with a mask of 8 voxels of 6 mm3, and the image that it was made of."""
    (tmp_path / "Jane Doe").mkdir()
    (tmp_path / "out").mkdir()
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:2, :2, :2] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([1.0, 2, 3, 1])), tmp_path / "out" / "ct_seg.nii.gz")
    nib.save(nib.Nifti1Image(mask, np.diag([1.0, 2, 3, 1])), tmp_path / "Jane Doe" / "ct.nii.gz")
    return tmp_path


def outcome(place, number=0, error=None, case=None):
    image = place / "Jane Doe" / "ct.nii.gz"
    if error:
        return Outcome(image, error=error, number=number, seconds=0.25)
    return Outcome(image, (place / "out" / "ct_seg.nii.gz",), case or case_of(number=number), number=number)


class TestDocument:
    def test_the_three_kinds_of_cases(self, place):
        records = Records(place / "out", FACTS, 4)
        records.add(outcome(place, 2, error="ValueError: it is damaged"))
        records.add(outcome(place, 0, case=case_of(n_windows=3, steps=(Step(losses={"entropy": float("nan")}, cosine=0.5),))))
        records.add(outcome(place, 1, case=case_of(number=1, reason="the adapted answer is not finite")))
        found = checked(records.document(finished=False))
        assert found["schema_version"] == SCHEMA_VERSION == 1
        run = found["run"]
        assert (run["images"], run["adapted"], run["unadapted"], run["failed"], run["finished"]) == (4, 1, 1, 1, False)
        assert run["versions"]["monai"] and run["versions"]["torch"] and run["command"] == FACTS.command
        adapted, unadapted, failed = found["cases"]
        assert [case["number"] for case in found["cases"]] == [0, 1, 2]
        assert adapted["labels"] == [{"name": "liver", "voxels": 8, "ml": pytest.approx(0.048)}]
        assert (adapted["name"], adapted["masks"], adapted["reason"], adapted["seconds"]) == ("ct", ["ct_seg.nii.gz"], None, 1.5)
        assert adapted["in_words"] == "adapted on 3 windows"
        assert adapted["steps"][0]["losses"] == {"entropy": None}, "JSON has no word for NaN"
        assert unadapted["status"] == "unadapted" and unadapted["in_words"].endswith("the adapted answer is not finite")
        assert (failed["status"], failed["error"], failed["labels"], failed["masks"]) == (
            "failed",
            "ValueError: it is damaged",
            [],
            [],
        )
        assert failed["seconds"] == 0.25 and failed["in_words"] == "failed: it is damaged"

    def test_the_range_that_the_bundle_scales(self, place):
        for found in ((-160.0, 240.0), None):
            records = Records(place / "out", dataclasses.replace(FACTS, intensity_range=found), 1)
            records.add(outcome(place))
            assert checked(records.document(finished=True))["run"]["intensity_range"] == (found and list(found))

    def test_what_a_replay_needs(self, place):
        records = Records(place / "out", FACTS, 2)
        records.add(outcome(place, 0, case=case_of(image_hash="0a1b", computed_on="cpu x86_64 AVX2, torch 2.9.0", threads=4)))
        records.add(outcome(place, 1, error="damaged"))
        answered, failed = checked(records.document(finished=True))["cases"]
        assert (answered["image_hash"], answered["threads"]) == ("0a1b", 4) and answered["computed_on"].startswith("cpu ")
        assert failed["image_hash"] is None and "threads" not in failed

    def test_the_table_has_a_row_for_each_case_and_a_column_for_each_label(self, place):
        records = Records(place / "out", FACTS, 2)
        records.add(outcome(place, 0))
        records.add(outcome(place, 1, error="OSError: a, \"b\" or 'c'"))
        records.write(finished=True)
        with (place / "out" / "records.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0]["liver (ml)"] == "0.048" and rows[0]["masks"] == "ct_seg.nii.gz" and rows[0]["status"] == "adapted"
        assert rows[1]["liver (ml)"] == "" and rows[1]["in_words"] == "failed: a, \"b\" or 'c'" and len(rows) == 2

    @pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-x", "@SUM(A1)"])
    def test_no_cell_is_a_formula(self, name, place):
        image = place / "Jane Doe" / f"{name.replace('/', '')}.nii.gz"
        records = Records(place / "out", FACTS, 1)
        records.add(Outcome(image, error="x"))
        records.write(finished=True)
        with (place / "out" / "records.csv").open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["name"] == f"'{name_of(image)}"
        assert json.loads((place / "out" / "records.json").read_text(encoding="utf-8"))["cases"][0]["name"] == name_of(image)

    def test_anonymous_records_name_nothing(self, place):
        records = Records(place / "out", dataclasses.replace(FACTS, anonymous=True), 2)
        records.add(outcome(place, 0, case=case_of(image_hash="0a1b")))
        image = place / "Jane Doe" / "ct.nii.gz"
        records.add(
            outcome(place, 1, error=f"ValueError: {image} and ct_seg.nii.gz: ct.nii.gz is damaged, says '{image.parent}'")
        )
        found = checked(records.document(finished=True))
        assert all("name" not in case and "masks" not in case for case in found["cases"])
        assert "starts" not in found["run"], "the day of the run may be that of the images"
        assert found["cases"][1]["error"] == "ValueError: the image and the image: the image is damaged, says 'PATH'"
        records.write(finished=True)
        for name in ("records.json", "records.csv"):
            text = (place / "out" / name).read_text(encoding="utf-8")
            assert "ct_seg" not in text and "ct.nii" not in text and "Jane" not in text and str(place) not in text
            assert "image_hash" not in text and "0a1b" not in text, "whoever has the image would know whose record it is"

    def test_labels_that_cannot_be_counted_say_why(self, place):
        (place / "out" / "ct_seg.nii.gz").write_bytes(b"nothing")
        records = Records(place / "out", FACTS, 1)
        records.add(outcome(place))
        (case,) = checked(records.document(finished=True))["cases"]
        assert case["labels"] == [] and "cannot be read" in case["labels_note"] and case["status"] == "adapted"

    def test_labels_of_one_name_have_columns_of_their_own(self, place):
        facts = dataclasses.replace(FACTS, names=LabelNames({0: "background", 1: "kidney", 2: "kidney"}))
        records = Records(place / "out", facts, 1)
        records.add(outcome(place))
        records.write(finished=True)
        head, row = (place / "out" / "records.csv").read_text(encoding="utf-8").splitlines()
        assert head.endswith("value 1 kidney (ml),value 2 kidney (ml)") and row.endswith("0.048,0")


class TestSchema:
    def test_it_knows_every_entry_of_an_inferers_record(self):
        assert {field.name for field in dataclasses.fields(Case)} <= set(CASE_KEYS)
        assert {field.name for field in dataclasses.fields(Step)} == set(SCHEMA["$defs"]["step"]["properties"])

    def test_it_is_itself_valid_and_refuses_what_it_should(self, place):
        Draft202012Validator.check_schema(SCHEMA)
        records = Records(place / "out", FACTS, 1)
        records.add(outcome(place))
        good = records.document(finished=True)
        checked(good)
        for wrong in ({"status": "fine"}, {"status": "failed"}, {"reason": "x"}, {"patient": "x"}, {"labels": [{"name": "x"}]}):
            bad = {**good, "cases": [{**good["cases"][0], **wrong}]}
            assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(json.dumps(bad)))), wrong
        assert list(Draft202012Validator(SCHEMA).iter_errors({**good, "schema_version": 2}))


class TestPrivateText:
    IMAGE = Path("/data/Doe^Jane 1970/series 4/ct scan.nii.gz")

    @pytest.mark.parametrize(
        "text, expected",
        [
            ("{} is empty", "ct scan.nii.gz is empty"),
            ("[Errno 2] No such file: '{}'", "[Errno 2] No such file: 'ct scan.nii.gz'"),
            ("cannot read {}/IM0001", "cannot read ct scan.nii.gz"),
            ("series 4/ct scan.nii.gz is odd", "ct scan.nii.gz is odd"),
            ("in '/data/Doe^Jane 1970/other.nii' and /home/x/y.py, line 3", "in PATH and PATH, line 3"),
            ("open('/data/Doe^Jane 1970/x", "open(PATH"),
            (r"C:\Users\jane\ct.nii is gone", "PATH is gone"),
            ("~/jane/x.nii: no", "PATH: no"),
            ("../jane/x.nii: no", "PATH: no"),
            ("5 of 6 slices, 3 mm/voxel, 1/2, and/or isn't a path", "5 of 6 slices, 3 mm/voxel, 1/2, and/or isn't a path"),
        ],
    )
    def test_no_path_stays_in_a_message(self, text, expected):
        found = without_paths(text.replace("{}", str(self.IMAGE)), self.IMAGE)
        assert found == expected

    def test_a_message_that_was_cut_within_the_path(self):
        text = ("ValueError: " + "x" * 400 + f" {self.IMAGE}")[:-12][-400:]
        assert "Jane" not in without_paths(text, self.IMAGE) and "series" not in without_paths(text, self.IMAGE)

    def test_names_of_a_series_files_are_left_out(self, tmp_path):
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "DOE_JANE_001.dcm").write_bytes(b"")
        assert without_paths("s holds DOE_JANE_001.dcm, which is a pipe", tmp_path / "s") == "s holds a file, which is a pipe"

    def test_an_anonymous_record_does_not_name_a_case_or_the_masks_of_one(self, tmp_path):
        case = write_case_file(ListedCase("Doe_Jane", (), "it lacks t2"), tmp_path)
        with pytest.raises(ValueError, match="Doe_Jane") as error:
            content_of(case)
        assert without_paths(str(error.value), case, anonymous=True) == "case the image: it lacks t2"
        text = "damaged; the mask of an earlier run is still there: Doe_ct_seg.nii.gz"
        said = without_paths(text, Path("/in/Doe/ct.nii.gz"), anonymous=True, name="Doe_ct")
        assert said == "damaged; the mask of an earlier run is still there: the image"

    def test_case_names(self):
        assert [name_of(Path(n)) for n in ("a.nii.gz", "b.NII", "1.2.840.10", "x.y.png", ".nii.gz")] == [
            "a",
            "b",
            "1.2.840.10",
            "x.y",
            ".nii.gz",
        ]


def test_the_command_on_record_has_what_was_chosen_and_no_path():
    words = {"method": "tent", "choices": ["steps=4", "select.file=/data/jane/added.npz"], "guards": ["shape"], "device": None}
    options = {**DEFAULTS, "seed": 3, "budget": None}
    found = command_on_record(
        Path("/b/liver_ct"), reference=Path("/data/r.json"), checkpoint="m.pt", options=options, anonymous=True, **words
    )
    assert found == (
        "monai-tta run liver_ct IMAGES --out OUT --method tent --choose steps=4 --choose select.file=added.npz "
        "--budget 0 --seed 3 --guard shape --reference r.json --checkpoint m.pt --anonymous"
    )
    assert file_names_alone("a=b=/c/d/") == "a=b=d"


def test_a_warning_carries_the_images_name_once():
    told = []
    with warnings_with_names(told.append):
        warnings.simplefilter("always")
        warnings.warn("of no image", stacklevel=1)
        for name in ("a", "b", "a"):
            working_on(Path(f"/in/{name}.nii"))
            warnings.warn("odd\nheader", stacklevel=1)
    assert told == ["UserWarning: of no image", "a.nii: UserWarning: odd header", "b.nii: UserWarning: odd header"]


class Run:
    """Three images, one of them damaged, and the command that segments them."""

    def __init__(self, root):
        self.root, self.out = root, root / "out"
        (root / "in").mkdir()
        rng = np.random.default_rng(0)
        for name in "abd":
            save(root / "in" / f"{name}.nii.gz", volume(rng))
        (root / "in" / "c.nii.gz").write_bytes(b"damaged")
        small_bundle(root / "bundle")

    def __call__(self, *more, out=None):
        words = ["run", self.root / "bundle", self.root / "in", "--out", out or self.out, "--method", "tent", *more]
        return CliRunner().invoke(app, list(map(str, words)))

    def document(self, out):
        return checked(json.loads((out / "records.json").read_text(encoding="utf-8")))

    def starts(self, out):
        return [datetime.fromisoformat(start) for start in self.document(out)["run"]["starts"]]

    def figures(self, out):
        """The records without what differs from run to run."""
        document = self.document(out)
        del document["run"]["starts"]
        for case in document["cases"]:
            for name in ("seconds", "seconds_unadapted", "peak_memory"):
                case.pop(name, None)
        return document


def test_a_resumed_run_has_the_records_of_an_undisturbed_one(tmp_path, monkeypatch):
    run = Run(tmp_path)
    times = iter(f"2026-11-30T14:00:0{number}+01:00" for number in range(10))
    monkeypatch.setattr("monai_tta.pipeline.run_log.local_time", lambda: next(times))
    assert run(out=tmp_path / "whole").exit_code == 3
    answered, real = [], AdaptiveInferer.__call__

    def stop_at_the_third(self, *args, **kwargs):
        answered.append(1)
        if len(answered) == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(AdaptiveInferer, "__call__", stop_at_the_third)
        done = run()
    assert done.exit_code == 130
    stopped = run.figures(run.out)
    assert [c["status"] for c in stopped["cases"]] == ["adapted", "adapted", "failed"] and not stopped["run"]["finished"]
    assert " ".join(done.output.split()).count("failed: c.nii.gz:") == 1, "why it failed is said although the run was stopped"
    assert run("--restart", out=tmp_path / "again").exit_code == 3
    assert run().exit_code == 3
    assert [[start.second for start in run.starts(out)] for out in (tmp_path / "whole", run.out)] == [[0], [1, 3]]
    whole = run.figures(tmp_path / "whole")
    assert run.figures(run.out) == whole == run.figures(tmp_path / "again") and whole["run"]["finished"]
    tables = [(folder / "records.csv").read_text(encoding="utf-8") for folder in (run.out, tmp_path / "whole")]
    assert [re.sub(r",[\d.e-]+,", ",", table.replace(",,", ", ,")) for table in tables][0].count("\n") == 5
    assert str(tmp_path) not in json.dumps(whole) and str(tmp_path) not in "".join(tables)


def test_a_run_says_when_it_was_started_in_local_time(tmp_path):
    run = Run(tmp_path)
    before = datetime.now().astimezone()
    assert run().exit_code == 3
    (start,) = run.starts(run.out)
    assert before - timedelta(seconds=1) < start < datetime.now().astimezone()
    assert start.utcoffset() == before.utcoffset() is not None
    assert run("--anonymous", out=tmp_path / "other").exit_code == 3
    assert "starts" not in run.document(tmp_path / "other")["run"]
