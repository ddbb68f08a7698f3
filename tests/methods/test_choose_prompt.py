"""The prompt of a network with task or modality prompts, chosen by the image; and the parameters of prompts as what moves."""

import pytest
import torch
from monai.networks.nets import VISTA3D, SegResNetDS2, ViT
from monai.networks.nets.vista3d import ClassMappingClassify, PointMappingSAM

from monai_tta import (
    SGD,
    AdaptiveInferer,
    Careful,
    ChoosePrompt,
    PromptParameters,
    Source,
    Statistics,
    Tent,
    Views,
)
from monai_tta.core.record import Case
from monai_tta.inference.streams import streams
from tests.promptable import TaskPrompted
from tests.small import image, network, same, state

METRICS = ("agreement", "entropy", "confidence")


def scan(brightness, seed=0):
    """A bright square, with noise."""
    x = torch.zeros(1, 1, 24, 24)
    x[..., 6:18, 5:19] = brightness
    return x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def choose(x, net=None, **choices):
    """The answer and the record of a case."""
    inferer = AdaptiveInferer(method=ChoosePrompt(**{"name": "task_id", "candidates": (0, 1)} | choices), head="sigmoid")
    return inferer(x, net or TaskPrompted()), inferer.cases[-1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("per_window", [False, True])
@pytest.mark.parametrize("suits, brightness", [(0, 1.0), (1, 3.0)])
def test_the_prompt_that_suits_the_image_is_chosen(metric, per_window, suits, brightness):
    net, x = TaskPrompted(), scan(brightness)
    before = state(net)
    answer, case = choose(x, net, metric=metric, per_window=per_window)
    assert case.steps[0].notes["chosen task_id"] == suits and same(before, state(net))
    assert case.adapted == (suits == 1) and (case.adapted or "the answer equals the unadapted one" in case.reason)
    torch.testing.assert_close(answer, net(x, task_id=suits).detach())
    figures = {k: f for k in (0, 1) if (f := case.steps[0].notes.get(f"{metric}, task_id={k}")) is not None}
    better = min if metric == "entropy" else max
    assert better(figures, key=figures.__getitem__) == suits and Case.from_json(case.to_json()) == case
    assert len(figures) == 1 + suits  # nothing in a dark image looks bright


def test_a_tie_or_less_than_the_margin_keeps_the_first():
    x = scan(3.0)
    assert choose(x, candidates=(1, 1))[1].steps[0].notes["chosen task_id"] == 0
    gain = [choose(x, metric="confidence", margin=m)[1].steps[0].notes["chosen task_id"] for m in (0.0, 1.0)]
    assert gain == [1, 0]


def test_an_answer_that_finds_nothing_is_not_chosen():
    """Nothing agrees best with nothing, and is the most certain."""
    net = TaskPrompted(levels=(1.0, 9.0))
    for metric in METRICS:
        _, case = choose(scan(1.0), net, candidates=(1, 0), metric=metric)
        notes = case.steps[0].notes
        assert notes["chosen task_id"] == 1 and f"{metric}, task_id=1" not in notes
    _, nothing = choose(torch.rand(1, 1, 24, 24) * 0.01, net, candidates=(1, 0))
    assert nothing.reason is None and nothing.steps[0].notes["chosen task_id"] == 0


def test_the_inner_method_adapts_under_the_chosen_prompt():
    net, x = TaskPrompted(), scan(3.0)
    tent = Tent(select=PromptParameters(), optimizer=SGD(lr=0.05, momentum=0), statistics="source")
    inferer = AdaptiveInferer(method=ChoosePrompt(name="task_id", candidates=(0, 1), inner=tent), head="sigmoid")
    told = AdaptiveInferer(method=tent, head="sigmoid")
    torch.testing.assert_close(inferer(x, net), told(x, net, task_id=1))
    case = inferer.cases[-1]
    assert case.weight_distance == pytest.approx(told.cases[-1].weight_distance) and case.weight_distance > 0
    assert len(case.steps) == 2 and case.selected == "PromptParameters(fusion=True)"


def test_each_case_of_a_stream_chooses_anew():
    net = TaskPrompted()
    method = ChoosePrompt(name="task_id", candidates=(0, 1), metric="entropy")
    inferer = AdaptiveInferer(method=method, head="sigmoid", reset="never", collapse=None)
    for brightness, suits in ((3.0, 1), (1.0, 0), (3.0, 1)):
        answer = inferer(scan(brightness), net)
        assert inferer.cases[-1].steps[0].notes["chosen task_id"] == suits
        torch.testing.assert_close(answer, net(scan(brightness), task_id=suits).detach())
    assert len(streams[inferer].shadows) == 1


def test_two_prompts_are_chosen_one_after_the_other():
    class Both(TaskPrompted):
        def forward(self, image, task_id=0, contrast=1.0):
            return super().forward(image * contrast, task_id)

    inner = ChoosePrompt(name="task_id", candidates=(0, 1), metric="entropy")
    method = ChoosePrompt(name="contrast", candidates=(1.0, 0.01), metric="entropy", inner=inner)
    inferer = AdaptiveInferer(method=method, head="sigmoid")
    answer = inferer(scan(3.0), Both())
    assert [step.notes.popitem()[1] for step in inferer.cases[-1].steps] == [0, 1]
    torch.testing.assert_close(answer, TaskPrompted()(scan(3.0), task_id=1).detach())


def test_statistics_are_pooled_under_the_chosen_prompt():
    net, x = network(), image()
    gained = ChoosePrompt(name="gain", candidates=(2.0,), inner=Statistics(statistics="volume", blend=1.0))
    plain = Statistics(statistics="volume", blend=1.0)
    answers = [AdaptiveInferer(8, method=m, head="softmax", budget=None)(x, net) for m in (gained, plain)]
    torch.testing.assert_close(answers[0], 2 * answers[1])


@pytest.mark.filterwarnings("ignore:answered without adaptation")
def test_a_network_without_the_keyword_gives_the_unadapted_answer_in_words():
    net, x = TaskPrompted(), scan(3.0)
    answer, case = choose(x, net, name="modality")
    assert "cannot be given 'modality' as a keyword argument" in case.reason
    torch.testing.assert_close(answer, net(x).detach())


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"name": "no keyword"}, "name is a keyword"),
        ({"candidates": ()}, "at least one candidate"),
        ({"metric": "volume"}, "metric must be"),
        ({"margin": -1.0}, "margin is 0 or more"),
        ({"per_window": True, "candidates": ("ct", "mri")}, "hold numbers"),
    ],
)
def test_choices_out_of_range_are_refused(choice, words):
    with pytest.raises(ValueError, match=words):
        ChoosePrompt(**{"name": "task_id", "candidates": (0, 1)} | choice)


def test_it_is_no_candidate_of_careful():
    with pytest.raises(NotImplementedError, match="know nothing of prompts"):
        Careful(candidates=(Source(), ChoosePrompt(name="task_id", candidates=(0,))))


def test_words_reach_the_network_as_they_are():
    class Named(TaskPrompted):
        def forward(self, image, modality="ct"):
            return super().forward(image, ("ct", "mri").index(modality))

    answer, case = choose(scan(3.0), Named(), name="modality", candidates=("ct", "mri"), views=Views(axes=(0,)))
    assert case.steps[0].notes["chosen modality"] == 1
    torch.testing.assert_close(answer, Named()(scan(3.0), modality="mri").detach())


def test_parameters_of_prompts_are_found_by_name():
    names = set(PromptParameters()(TaskPrompted()))
    assert names == {"intermedia_prompt", "fusion_layer.weight", "fusion_layer.bias"}
    assert PromptParameters(fusion=False)(TaskPrompted()) == ["intermedia_prompt"]
    assert PromptParameters()(network()) == []
    encoder = SegResNetDS2(in_channels=1, blocks_down=(1, 1), norm="instance", out_channels=8, init_filters=8, dsdepth=1)
    vista = VISTA3D(encoder, ClassMappingClassify(n_classes=8, feature_size=8), PointMappingSAM(feature_size=8, n_classes=8))
    found = PromptParameters()(vista)
    assert "class_head.class_embeddings.weight" in found and "point_head.not_a_point_embed.weight" in found
    assert "point_head.mask_tokens.weight" in found and not any("image_encoder" in name for name in found)
    assert (
        PromptParameters()(ViT(1, (16, 16), (8, 8), hidden_size=12, mlp_dim=12, num_layers=1, num_heads=2, spatial_dims=2)) == []
    )
