"""An error decoder learns at the source where a promptable network's masks are wrong, and corrects them elsewhere."""

import pickle

import pytest
import torch

from monai_tta import SelfPrompting
from monai_tta.core.error_decoder import ErrorDecoder, load_error_decoder, save_error_decoder
from monai_tta.preparation.train_error_decoder import train_error_decoder
from tests.promptable import Clickable, dice, discs
from tests.small import same, state


def cases(n, first=0):
    """Images of one disc each, at different places, and their masks."""
    made = [discs((24, 24), [(8 + k % 7, 9 + (3 * k) % 7)]) for k in range(first, first + n)]
    return [x[0] for x, _ in made], [truth[0] for _, truth in made]


@pytest.fixture(scope="module")
def decoder():
    images, labels = cases(6)
    return train_error_decoder(Clickable(), images, labels, shifts=(lambda x: 0.9 * x,), steps=150, lr=1e-2)


def test_it_learns_where_the_mask_is_wrong(decoder):
    (x,), (truth,) = cases(1, first=11)
    x, truth, net = x[None], truth[None], Clickable()
    with torch.no_grad():
        p = net(x).sigmoid()
        error = decoder(x, p)
        corrected = p * (1 - error) + (1 - p) * error
    assert dice(p - 0.5, truth) < 0.4 and dice(corrected - 0.5, truth) > 0.9
    assert error.shape == p.shape and 0 <= error.min() and error.max() <= 1
    assert error[p > 0.5].mean() < 0.3 and error[truth & (p < 0.5)].mean() > 0.7  # the core is right, and the rest is missed


def test_it_says_where_to_click(decoder):
    x, truth = discs((24, 24), [(12, 11)])
    answer = SelfPrompting(rounds=1, n_points=3, error_decoder=decoder)(x, Clickable())
    assert dice(answer, truth) > 0.85 > 2 * dice(Clickable()(x), truth)


def test_training_changes_nothing_else_and_depends_on_the_seed_alone():
    images, labels = cases(3)
    net = Clickable()
    before, rng = state(net), torch.get_rng_state()
    seen = []
    made = [
        train_error_decoder(net, images, labels, steps=4, seed=s, progress=lambda done, total: seen.append((done, total)))
        for s in (1, 1, 2)
    ]
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state()) and seen[:2] == [(1, 4), (2, 4)]
    weights = [d.last.weight for d in made]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("dims, size", [(2, (13, 16)), (3, (9, 8, 11))])
def test_a_saved_decoder_is_the_same_for_any_size(dims, size, tmp_path):
    made = ErrorDecoder(2, dims, channels=(4, 6))
    save_error_decoder(made, tmp_path / "errors.pt")
    read = load_error_decoder(tmp_path / "errors.pt")
    windows, p = torch.randn(2, 2, *size), torch.rand(2, 3, *size)
    assert torch.equal(read(windows, p), made(windows, p)) and read(windows, p).shape == p.shape
    torch.testing.assert_close(read(windows[:1], p[:1, 1:2]), made(windows, p)[:1, 1:2])  # each object is asked about by itself


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_a_file_that_is_no_decoder_is_refused(tmp_path, capsys):
    for content in (b"", b"text", pickle.dumps(Hostile(), protocol=2)):
        (tmp_path / "errors.pt").write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as an error decoder"):
            load_error_decoder(tmp_path / "errors.pt")
    torch.save({"format": 9}, tmp_path / "errors.pt")
    with pytest.raises(ValueError, match="it has format 9"):
        load_error_decoder(tmp_path / "errors.pt")
    assert "executed" not in capsys.readouterr().out


def test_labels_that_do_not_fit_are_refused():
    images, labels = cases(2)
    with pytest.raises(ValueError, match="as many labels as images"):
        train_error_decoder(Clickable(), images, labels[:1])
    with pytest.raises(ValueError, match="one channel each"):
        train_error_decoder(Clickable(), images, [torch.cat([label, label]) for label in labels])
    with pytest.raises(ValueError, match="2 or 3, with at least one level"):
        ErrorDecoder(1, 4)
