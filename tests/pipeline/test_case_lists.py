"""Cases of several files: each sequence in its own channel, or the case is refused by name."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.case_file import CaseContent, check_same_geometry, content_of, write_case_file
from monai_tta.pipeline.case_lists import ListedCase, channel_order, group_files, parse_sequences, read_datalist
from tests.zoo import KINDS, make

SEQUENCES = ("t1", "t1ce", "t2", "flair")
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def four(tmp_path):
    """A bundle whose mask is where the second channel, t1ce, is above a half; nothing else counts."""
    root = make(tmp_path / "bundle", KINDS["unet without affine"])
    file = root / "configs" / "inference.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["network_def"] = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 2, "kernel_size": 1}
    config["preprocessing"]["transforms"].pop()
    file.write_text(json.dumps(config), encoding="utf-8")
    weight = torch.zeros(2, 4, 1, 1, 1)
    weight[1, 1] = 1
    torch.save({"weight": weight, "bias": torch.tensor([0.5, 0.0])}, root / "models" / "model.pt")
    return root


def write(folder, case, sequence, place, affine=AFFINE, shape=(16, 17, 18)):
    folder.mkdir(parents=True, exist_ok=True)
    data = np.zeros(shape, np.float32)
    data[place, 2:9, 3:12] = 1
    path = folder / f"{case}_{sequence}.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def cases(folder, names=("a", "b")):
    """Cases in folders of their own, whose sequences are bright at different places: t1 at 0, t1ce at 1, and so on."""
    for name in names:
        for place, sequence in enumerate(SEQUENCES):
            write(folder / name, name, sequence, place)
        write(folder / name, name, "seg", 9)
    return folder


def run(root, *words, code=0):
    out = root.parent / "out"
    done = CliRunner().invoke(app, ["run", *map(str, (root, *words, "--out", out, "--method", "source"))], env={"COLUMNS": "300"})
    assert done.exit_code == code, done.output
    masks = {p.name: np.asarray(nib.load(p).dataobj) for p in sorted(out.rglob("*.nii.gz"))} if out.exists() else {}
    return masks, " ".join(done.output.split())


def is_of(mask, place):
    """Whether a mask is exactly what one sequence is bright in."""
    expected = np.zeros((16, 17, 18))
    expected[place, 2:9, 3:12] = 1
    return np.array_equal(np.squeeze(mask) > 0, expected > 0)


class TestGroups:
    def test_each_sequence_is_the_channel_that_was_named(self, four, tmp_path):
        folder = cases(tmp_path / "in")
        words = ["--group", "{case}_{sequence}.nii.gz", "--sequences", ",".join(SEQUENCES)]
        masks, said = run(four, folder, *words)
        assert len(masks) == 2 and all(is_of(mask, 1) for mask in masks.values())
        assert [name.startswith(case) and "t1" not in name for name, case in zip(masks, "ab", strict=True)] == [True, True]
        assert "channels: 1 t1, 2 t1ce, 3 t2, 4 flair" in said and "2 other files fit no case" in said

    def test_another_order_is_another_mask(self, four, tmp_path):
        folder = cases(tmp_path / "in", "a")
        masks, said = run(four, folder, "--group", "{case}/{case}_{sequence}.nii.gz", "--sequences", "t1,t2,t1ce,flair")
        assert is_of(next(iter(masks.values())), 2) and "2 t2, 3 t1ce" in said

    def test_a_case_that_lacks_a_sequence_is_refused_by_name_and_the_others_are_done(self, four, tmp_path):
        folder = cases(tmp_path / "in")
        (folder / "a" / "a_t2.nii.gz").unlink()
        words = ["--group", "{case}_{sequence}.nii.gz", "--sequences", ",".join(SEQUENCES)]
        masks, said = run(four, folder, *words, code=3)
        assert len(masks) == 1 and "case a: it lacks t2" in said

    def test_a_sequence_that_lies_elsewhere_is_refused(self, four, tmp_path):
        folder = cases(tmp_path / "in")
        moved = AFFINE.copy()
        moved[0, 3] = 0.2
        write(folder / "a", "a", "flair", 3, affine=moved)
        write(folder / "b", "b", "flair", 3, shape=(16, 17, 19))
        words = ["--group", "{case}_{sequence}.nii.gz", "--sequences", ",".join(SEQUENCES)]
        masks, said = run(four, folder, *words, code=3)
        assert not masks and "a_flair.nii.gz lies up to 0.2 voxels beside a_t1.nii.gz" in said
        assert "b_flair.nii.gz is 16x17x19 and b_t1.nii.gz 16x17x18" in said

    def test_one_name_in_two_folders_is_two_cases(self, tmp_path):
        for folder in ("p1", "p2"):
            for sequence in SEQUENCES:
                write(tmp_path / folder, "ct", sequence, 0)
        found, others = group_files([tmp_path], "{case}_{sequence}.nii.gz", SEQUENCES)
        assert [case.name for case in found] == ["p1_ct", "p2_ct"] and others == 0
        assert all(len({file.parent for file in case.files}) == 1 for case in found)

    def test_sequences_may_be_folders_and_longer_names_win(self, tmp_path):
        for sequence in SEQUENCES:
            (tmp_path / sequence).mkdir()
            (tmp_path / sequence / "x.y.nii").touch()
        (found,), _ = group_files([tmp_path], "{sequence}/{case}.nii", SEQUENCES)
        assert found.name == "x.y" and [file.parent.name for file in found.files] == list(SEQUENCES)

    @pytest.mark.parametrize(
        "pattern, sequences, said",
        [
            ("{case}.nii", SEQUENCES, "needs {case} and {sequence}"),
            ("{case}_{sequence}.nii", (), "--sequences"),
            ("{case}-{sequence}.nii", SEQUENCES, "no file fits"),
        ],
    )
    def test_what_groups_nothing_is_refused(self, pattern, sequences, said, tmp_path):
        write(tmp_path, "a", "t1", 0)
        with pytest.raises(ValueError, match=said):
            group_files([tmp_path], pattern, sequences)


class TestLists:
    def listed(self, folder, content, name="list.json"):
        file = folder / name
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    def test_monais_datalist_is_read(self, four, tmp_path):
        cases(tmp_path / "in")
        items = [{"image": [f"in/{c}/{c}_{s}.nii.gz" for s in SEQUENCES], "label": "x"} for c in "ab"]
        masks, said = run(four, self.listed(tmp_path, {"training": [1], "testing": items}))
        assert len(masks) == 2 and all(is_of(mask, 1) for mask in masks.values())
        assert "channels (of a): 1 a_t1.nii.gz, 2 a_t1ce.nii.gz" in said

    def test_a_table_has_a_column_for_each_sequence(self, four, tmp_path):
        cases(tmp_path / "in", "a")
        rows = "case;flair;t1;t1ce;t2\nfirst;" + ";".join(f"in/a/a_{s}.nii.gz" for s in ("flair", "t1", "t1ce", "t2"))
        masks, said = run(four, self.listed(tmp_path, rows, "list.csv"), "--sequences", ",".join(SEQUENCES))
        (name,) = masks
        assert name.startswith("first") and is_of(masks[name], 1) and "1 t1, 2 t1ce" in said

    def test_paths_by_sequence_and_plain_paths(self, tmp_path):
        file = self.listed(tmp_path, [{"image": {"b": "2.nii", "a": "1.nii"}, "name": "x"}])
        (case,) = read_datalist(file, ("a", "b"))
        assert [path.name for path in case.files] == ["1.nii", "2.nii"] and case.name == "x"
        plain = read_datalist(self.listed(tmp_path, {"testing": ["i/1.nii.gz", "i/2.nii.gz"]}))
        assert [case.name for case in plain] == ["1", "2"] and all(len(case.files) == 1 for case in plain)

    @pytest.mark.parametrize(
        "image, said",
        [
            ({"a": "1.nii"}, "it lacks b"),
            ({"a": "1.nii", "b": ""}, "it lacks b"),
            (["1.nii"], "it has 1 files, and --sequences names 2"),
            (["1.nii", "./1.nii"], "one file is in it twice"),
            (["1.nii", 3], "not all paths"),
        ],
    )
    def test_a_case_that_is_not_whole_has_a_problem(self, image, said, tmp_path):
        (case, _) = read_datalist(self.listed(tmp_path, [{"image": image}, {"image": ["8.nii", "9.nii"]}]), ("a", "b"))
        assert said in case.problem

    def test_another_number_of_files_than_most_is_a_problem(self, tmp_path):
        found = read_datalist(self.listed(tmp_path, [["1", "2"], ["3", "4"], ["5", "6", "7"]]))
        assert [case.problem for case in found] == ["", "", "it has 3 files, the others have 2"]

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"other": 3}', "3", '[{"label": "x"}]', '{"a": [1], "b": [2]}'])
    def test_what_is_no_list_is_refused(self, content, tmp_path):
        with pytest.raises(ValueError, match="list"):
            read_datalist(self.listed(tmp_path, content))

    @pytest.mark.parametrize("content", ["", "case\nx\n", "case,a\nx,1,2\n"])
    def test_what_is_no_table_is_refused(self, content, tmp_path):
        with pytest.raises(ValueError, match="list.csv"):
            read_datalist(self.listed(tmp_path, content, "list.csv"))


def test_other_commands_take_lists_and_groups_as_run_does(four, tmp_path):
    names = [f"c{k}" for k in range(6)]
    folder = cases(tmp_path / "in", names)
    rows = [{"case": name, "image": [f"in/{name}/{name}_{s}.nii.gz" for s in SEQUENCES]} for name in names]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"training": rows}), encoding="utf-8")
    grouped = [folder, "--group", "{case}_{sequence}.nii.gz", "--sequences", ",".join(SEQUENCES)]
    made = []
    for number, words in enumerate(([listed], grouped)):
        file = tmp_path / f"{number}.json"
        done = CliRunner().invoke(app, ["reference", *map(str, (four, *words, "--out", file))])
        assert done.exit_code == 0 and "ranges of 6 cases" in done.output, done.output
        made.append(json.loads(file.read_text(encoding="utf-8")))
    assert made[0] == made[1]
    checked = CliRunner().invoke(app, ["check", str(four), str(listed), "--reference", str(tmp_path / "0.json"), "--json"])
    assert checked.exit_code == 0, checked.output
    found = json.loads(checked.stdout[checked.stdout.index("[") :])
    assert [one["image"] for one in found] == names
    run(four, listed)
    page = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "--pictures", str(listed)])
    assert page.exit_code == 0 and (tmp_path / "out" / "report.html").read_text("utf-8").count("data:image/png") >= 6, page.output


def test_a_changed_sequence_makes_another_case(tmp_path):
    files = tuple(write(tmp_path, "a", s, k) for k, s in enumerate(SEQUENCES))
    case = ListedCase("a", files)
    (tmp_path / "x").mkdir()
    first = write_case_file(case, tmp_path / "x").read_bytes()
    write(tmp_path, "a", "flair", 7)
    assert write_case_file(case, tmp_path / "x").read_bytes() != first


def test_voxels_beside_a_header_make_another_case(tmp_path):
    header, raw = tmp_path / "a.mhd", tmp_path / "a.raw"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16)), str(header))
    first = write_case_file(ListedCase("a", (header,)), tmp_path).read_bytes()
    raw.write_bytes(b"\1" + raw.read_bytes()[1:])
    assert write_case_file(ListedCase("a", (header,)), tmp_path).read_bytes() != first


@pytest.mark.parametrize("first", ["a_2", "{folder}_a_2"])
def test_a_number_makes_no_name_that_another_case_has(first, tmp_path):
    names = [first.format(folder=tmp_path.name), "a", "a"]
    listed = [{"name": name, "image": [f"{k}.nii"]} for k, name in enumerate(names)]
    (tmp_path / "list.json").write_text(json.dumps(listed), encoding="utf-8")
    assert len({case.name for case in read_datalist(tmp_path / "list.json")}) == 3


def test_a_file_of_several_channels_is_no_sequence(tmp_path):
    one, two = (tmp_path / f"{k}.nii.gz" for k in "ab")
    for path in (one, two):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), path)
    with pytest.raises(ValueError, match="a.nii.gz holds 2 channels itself"):
        check_same_geometry([one, two])


def test_names_and_orders_in_words():
    assert parse_sequences("") == () and parse_sequences("a, b") == ("a", "b")
    for text in ("a,,b", "a,a"):
        with pytest.raises(ValueError, match="--sequences takes"):
            parse_sequences(text)
    assert channel_order([ListedCase("x", ())], ()) == ""


def test_an_image_of_one_file_is_read_as_ever(tmp_path):
    path = write(tmp_path, "a", "t1", 0)
    assert content_of(path) == CaseContent((path,))
