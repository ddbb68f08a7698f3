"""The rest of an image of several windows, answered by one network in the place of a mixture."""

from dataclasses import replace

import pytest
import torch

from monai_tta import AdaptiveInferer, Careful, Statistics
from monai_tta.methods.careful_candidates import UNADAPTED
from tests.small import image, network, run, saved_stump, stump


class TestOneNetwork:
    def test_the_rest_is_answered_by_one_network_with_the_mean_blend(self):
        """Two blends weigh alike, as the same gain is predicted for both: their mean answers, at the cost of the source."""
        net, x, counted = network(dims=2), image(2, size=20), []
        net.register_forward_hook(lambda m, i, o: counted.append(len(i[0])))
        blends = (UNADAPTED, *(Statistics(blend=b, statistics="volume") for b in (0.2, 0.6)))
        costs, answers = {}, {}
        for rest in ("un-augmented", "one network"):
            counted.clear()
            predictor = saved_stump("blended", low=-5.0, high=0.1, feature="blend", at=0.1)
            made = Careful(predictor=predictor, candidates=blends, rest=rest)
            answers[rest], case = run(net, made, x, head="softmax", budget=1)
            costs[rest] = sum(counted)
        assert case.steps[0].notes["blend of the rest"] == pytest.approx(0.4)
        assert "one network" in case.method
        windows = 16
        assert costs["un-augmented"] - costs["one network"] == windows - 1, "one pass less for each, one more for the statistics"
        pooled, _ = run(net, Statistics(blend=0.4, statistics="volume"), x, head="softmax", budget=1)
        torch.testing.assert_close(answers["one network"].softmax(1), pooled.softmax(1), rtol=1e-4, atol=1e-4)

    def test_what_is_no_blend_of_the_volume_is_answered_as_without(self):
        net, x = network(dims=2), image(2, size=20)
        others = (UNADAPTED, Statistics(blend=0.5, statistics="volume"), Statistics(blend=0.5, statistics="window"))
        of_rest = {}
        for rest in ("un-augmented", "one network"):
            predictor = saved_stump("blended", low=-5.0, high=0.1, feature="blend", at=0.1)
            of_rest[rest], case = run(net, Careful(predictor=predictor, candidates=others, rest=rest), x, head="softmax")
        assert "blend of the rest" not in case.steps[0].notes
        torch.testing.assert_close(of_rest["one network"], of_rest["un-augmented"])

    @pytest.mark.parametrize("size, windows", [(16, 27), (20, 64)])
    def test_a_quick_decision_and_one_network_cost_three_plain_answers_where_there_are_many_windows(
        self, size, windows, tmp_path
    ):
        net, x = network(), image(size=size)
        file = tmp_path / "quick.npz"
        replace(stump(low=-5.0, high=0.1, feature="blend", at=0.1), quick=True).save(file)
        counted = []
        net.register_forward_hook(lambda module, inputs, output: counted.append(len(inputs[0])))
        made = AdaptiveInferer(8, overlap=0.5, method=Careful(predictor=str(file), rest="one network"), head="softmax")
        made(x, net)
        assert made.cases[-1].reason is None
        to_select, of_an_adaptation_window, blend = 16, 10, 4
        assert sum(counted) == windows + to_select + 4 * of_an_adaptation_window + blend
        assert (sum(counted) <= 3 * windows) == (windows >= 30)

    def test_another_word_is_refused(self):
        with pytest.raises(ValueError, match="rest must be one of 'mixture', 'un-augmented', 'one network', found 'fast'"):
            Careful(rest="fast")
