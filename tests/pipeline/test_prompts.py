"""Prompts from a file: they reach the network as it takes them, for the case that they are meant for, or the case is refused."""

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.prompts import PROMPTS, note_prompts, prompt_arguments, prompts_of, read_prompts
from tests.zoo import KINDS, make, read


class Asked(nn.Module):
    def forward(self, image, class_vector=None, task_id=0, point_coords=None, point_labels=None):
        return image


class PointInferer:
    def __call__(self, inputs, network, point_coords, point_labels, class_vector, labels=None):
        return inputs


def file_of(tmp_path, content):
    file = tmp_path / "prompts.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_prompts_of_all_cases_and_of_each(tmp_path):
    of_all = read_prompts(file_of(tmp_path, {"label_prompt": [1, 3]}))
    assert prompts_of(of_all, "a") == {"label_prompt": [1, 3]}
    by_case = read_prompts(file_of(tmp_path, {"a": {"label_prompt": [1]}, "*": {"task_id": 2}}))
    assert prompts_of(by_case, "a") == {"label_prompt": [1]} and prompts_of(by_case, "b", "b.nii.gz") == {"task_id": 2}
    del by_case["*"]
    assert prompts_of(by_case, "b") is None


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "is not JSON"),
        ("[]", "must hold prompts"),
        ("{}", "must hold prompts"),
        ({"label_prompt": [1], "a": {"label_prompt": [2]}}, "mixes prompts"),
        ({"label_prompt": 1}, "list of class numbers"),
        ({"label_prompt": []}, "list of class numbers"),
        ({"label_prompt": [1.5]}, "list of class numbers"),
        ({"label_prompt": [1, 1]}, "names a class twice"),
        ({"points": [[1, 2, 3]]}, "belong together"),
        ({"points": [1, 2, 3], "point_labels": [1]}, "list of voxel coordinates"),
        ({"points": [[1, 2, 3]], "point_labels": [1, 0]}, "a number for each of 1 points"),
        ({"points": [[1, 2, 3]], "point_labels": [1], "label_prompt": [1, 2]}, "one class in label_prompt"),
        ({"a": {"label_prompt": [1]}, "b": {"label_prompt": "x"}}, "case b"),
    ],
)
def test_prompts_that_mean_nothing_are_refused(content, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_prompts(file_of(tmp_path, content))


def data(**prompts):
    image = MetaTensor(torch.zeros(1, 10, 10, 10), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])).double())
    image.meta["original_affine"] = np.diag([-1.0, 1, 1, 1])
    image.meta["original_affine"][0, 3] = 19
    return {"image": image, **prompts, PROMPTS: sorted(prompts)}


def test_class_numbers_become_a_column():
    case = data(label_prompt=[1, 3])
    found = prompt_arguments(case, Asked(), SlidingWindowInferer(8))
    assert list(found) == ["class_vector"] and found["class_vector"].tolist() == [[1], [3]]
    note_prompts(case, found)
    assert case["label_prompt"].tolist() == [[1], [3]] and PROMPTS not in case


def test_points_are_moved_from_the_file_to_the_prepared_image():
    found = prompt_arguments(data(points=[[19, 4, 6], [1, 0, 0]], point_labels=[1, 0]), Asked(), PointInferer())
    assert found["point_coords"].tolist() == [[[0, 2, 3], [9, 0, 0]]] and found["point_labels"].tolist() == [[1, 0]]
    assert found["class_vector"] is None, "such an inferer wants all three"
    with pytest.raises(ValueError, match="outside of the prepared image"):
        prompt_arguments(data(points=[[-9, 0, 0]], point_labels=[1]), Asked(), PointInferer())


def test_points_are_refused_where_each_window_would_take_them_for_its_own():
    with pytest.raises(ValueError, match="does not move points into its windows"):
        prompt_arguments(data(points=[[1, 1, 1]], point_labels=[1]), Asked(), SlidingWindowInferer(8))


def test_other_prompts_are_keywords_of_the_network():
    assert prompt_arguments(data(task_id=2), Asked(), SlidingWindowInferer(8)) == {"task_id": 2}
    with pytest.raises(ValueError, match="'tsk' is taken neither by SlidingWindowInferer nor by Asked, which takes class_vector"):
        prompt_arguments(data(tsk=2), Asked(), SlidingWindowInferer(8))
    assert prompt_arguments({"image": torch.zeros(1)}, Asked(), SlidingWindowInferer(8)) == {}


def test_each_case_is_answered_for_its_own_classes(tmp_path, monkeypatch):
    kind = KINDS["vista3d"]
    root = make(tmp_path / "bundle", kind)
    config = root / "configs" / "inference.json"
    parts = json.loads(config.read_text(encoding="utf-8"))
    parts["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "sw_batch_size": 1}
    config.write_text(json.dumps(parts), encoding="utf-8")

    def masks(prompts, code=0):
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        words = ["run", root, root / "scans", "--out", out, "--method", "source", "--prompts", file_of(tmp_path, prompts)]
        done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
        assert done.exit_code == code, done.output
        return {p.name[0]: read(p)[0] for p in sorted(out.glob("*.nii.gz"))}, done.output

    one, _ = masks({"label_prompt": [1], "transpose": True})
    three, _ = masks({"label_prompt": [3], "transpose": True})
    each, _ = masks({"a": {"label_prompt": [1], "transpose": True}, "*": {"label_prompt": [3], "transpose": True}})
    assert not np.array_equal(one["a"], three["a"])
    assert np.array_equal(each["a"], one["a"]) and np.array_equal(each["b"], three["b"])
    some, said = masks({"a": {"label_prompt": [1], "transpose": True}}, code=3)
    assert list(some) == ["a"] and "prompts.json has no prompts for it" in said
    _, said = masks({"c": {"label_prompt": [1]}}, code=2)
    assert "prompts for 'c', and no case is called so" in said
