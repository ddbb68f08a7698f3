"""Records go to JSON and back unchanged, and hold nothing that identifies a patient."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

import monai_tta
from monai_tta import AdaptiveInferer, GraTa
from monai_tta.core.record import Case, Step
from tests.small import image, network

NUMBERS = st.floats(allow_nan=False)
STEPS = st.builds(Step, losses=st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3), cosine=st.none() | NUMBERS, lr=NUMBERS)
CASES = st.builds(
    Case,
    number=st.integers(0),
    network=st.text(),
    method=st.text(),
    head=st.text(),
    learn=st.text(),
    reset=st.text(),
    seed=st.integers(),
    shape=st.lists(st.integers(1), min_size=4, max_size=5).map(tuple),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    weight_distance=NUMBERS,
    reason=st.none() | st.text(),
)


@given(CASES)
def test_a_record_goes_to_json_and_back(case):
    assert Case.from_json(case.to_json()) == case and isinstance(hash(case.method), int)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shape": 3}', '{"shape": [1], "steps": [{"who": 1}]}'])
def test_a_text_that_is_no_record_is_refused(text):
    with pytest.raises(ValueError, match="not the record of a case"):
        Case.from_json(text)


def test_a_record_is_enough_to_repeat_the_case_and_names_nobody():
    run = AdaptiveInferer(8, method=GraTa(steps=2), head="softmax", seed=7)
    x = MetaTensor(image(), meta={"filename_or_obj": "/ward/MILLER^ANNA.nii.gz"})
    with torch.no_grad():
        answer = run(x, network())
    text = run.cases[-1].to_json()
    case = Case.from_json(text)
    assert "MILLER" not in text and "ward" not in text and len(case.steps) == 2 and case.n_windows == 1
    assert set(json.loads(text)["steps"][0]) == {"losses", "cosine", "lr", "notes"}
    public = {name: getattr(monai_tta, name) for name in monai_tta.__all__}
    again = AdaptiveInferer(
        8,
        method=eval(case.method, public),
        head=case.head,
        learn=case.learn,
        reset=case.reset,
        budget=case.budget,
        seed=case.seed,
    )
    assert torch.equal(again(x, network()).as_tensor(), answer.as_tensor())
    assert again.cases[-1].steps == case.steps
