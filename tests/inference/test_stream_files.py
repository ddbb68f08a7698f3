"""A continual stream that is saved continues in another process as if it had never stopped."""

import pickle

import pytest
import torch

from monai_tta import Learned, Source, Tent
from monai_tta.core.learned_optimizer import untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.inference.stream_files import StreamFileError, load_stream, save_stream
from tests.small import REMEMBERING, ROWS, image, inferer, network


@pytest.mark.parametrize("row", REMEMBERING)
def test_a_loaded_stream_answers_as_the_saved_one(row, tmp_path):
    net = network()
    first = inferer(ROWS[row], reset="never")
    for seed in (1, 2):
        first(image(seed=seed), net)
    save_stream(first, net, tmp_path / "stream.pt")
    again = inferer(ROWS[row], reset="never")
    load_stream(again, network(), tmp_path / "stream.pt")
    other = network()
    load_stream(again, other, tmp_path / "stream.pt")
    assert torch.equal(again(image(seed=3), other), first(image(seed=3), net))
    assert [p.name for p in tmp_path.iterdir()] == ["stream.pt"]


def test_the_bank_of_prompts_is_saved_and_bank_size_0_keeps_no_amplitudes(tmp_path):
    from dataclasses import replace

    net = network()
    for size, kept in ((40, 2), (1, 1), (0, 0)):
        run = inferer(replace(ROWS["VPTTA"], bank_size=size), reset="never")
        for seed in (1, 2):
            run(image(seed=seed), net)
        save_stream(run, net, tmp_path / "stream.pt")
        assert len(torch.load(tmp_path / "stream.pt", weights_only=True)["state"]["bank"]) == kept


def test_a_stream_of_a_learned_optimizer_that_was_trained_anew_is_refused(tmp_path):
    net = network()
    optimizer = TrainedOptimizer(untrained_weights(0))
    optimizer.save(file := tmp_path / "learned.npz")
    method = Tent(optimizer=Learned(file=str(file)))
    run = inferer(method, reset="never")
    run(image(), net)
    save_stream(run, net, tmp_path / "stream.pt")
    load_stream(inferer(method, reset="never"), net, tmp_path / "stream.pt")
    (tmp_path / "other").mkdir()
    TrainedOptimizer(untrained_weights(1)).save(other := tmp_path / "other" / "learned.npz")
    with pytest.raises(StreamFileError, match="does not fit .*of another learned optimiser"):
        load_stream(inferer(Tent(optimizer=Learned(file=str(other))), reset="never"), net, tmp_path / "stream.pt")


class Hostile:
    """Would run code where a file is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code was run",))


def test_what_does_not_fit_is_refused_and_the_inferer_stays(tmp_path):
    file = tmp_path / "stream.pt"
    net = network()
    run = inferer(ROWS["Tent"], reset="never")
    with pytest.raises(StreamFileError, match="nothing to save"):
        save_stream(run, net, file)
    run(image(), net)
    save_stream(run, net, file)
    with pytest.raises(StreamFileError, match="other weights than this Sequential"):
        load_stream(inferer(ROWS["Tent"], reset="never"), network(head="sigmoid"), file)
    with pytest.raises(StreamFileError, match=r"a stream of Tent\(.*method is GraTa"):
        load_stream(inferer(ROWS["GraTa"], reset="never"), net, file)
    with pytest.raises(StreamFileError, match="starts afresh"):
        load_stream(inferer(Source()), net, file)
    for content in (b"", b"PK", pickle.dumps(Hostile())):
        file.write_bytes(content)
        with pytest.raises(StreamFileError, match="no saved stream: .*stream.pt cannot be read"):
            load_stream(run, net, file)
    torch.save({"format": 0}, file)
    with pytest.raises(StreamFileError, match="no saved stream of this version"):
        load_stream(run, net, file)
