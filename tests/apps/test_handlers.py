"""`AdaptationStatsHandler`: what adapting did is among an engine's metrics, and goes case by case to a logger."""

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import StatsHandler
from monai.inferers import SlidingWindowInferer

from monai_tta import GraTa, Source, Tent
from monai_tta.apps.handlers import AdaptationStatsHandler, case_figures
from monai_tta.core.record import Case, StructureQuality
from tests.small import CON, FAST, image, inferer, network


def evaluator(run, handlers, answer_with=None, cases=3):
    data = Dataset([{"image": image(seed=number)[0], "label": image(seed=number)[0]} for number in range(cases)])
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=1),
        network=network(),
        inferer=answer_with or run,
        val_handlers=handlers,
    )


def test_metrics_are_means_over_the_epochs_cases_and_each_case_is_logged():
    run = inferer(GraTa(pseudo=CON, optimizer=FAST))
    run(image(seed=9), network())  # a case from before, which is none of the epoch's
    logged = []
    engine = evaluator(run, [AdaptationStatsHandler(run, lambda figures, number: logged.append((number, dict(figures))))])
    for epoch in range(2):
        engine.run()
        own = list(run.cases)[1 + 3 * epoch :]
        assert engine.state.metrics["adaptation/cases"] == len(own) == 3
        moved = sum(case.weight_distance for case in own) / 3
        assert engine.state.metrics["adaptation/weight_distance"] == pytest.approx(moved) and moved > 0
        cosines = sum(case.steps[0].cosine for case in own) / 3
        assert engine.state.metrics["adaptation/cosine"] == pytest.approx(cosines)
        assert engine.state.metrics["adaptation/adapted"] == 1
    assert [number for number, _ in logged] == list(range(1, 7))
    assert logged[0][1]["adaptation/seconds"] == run.cases[1].seconds


def test_monais_handler_prints_them(caplog):
    run = inferer(Tent(optimizer=FAST))
    printing = StatsHandler(name="adapting", iteration_log=False)
    printing.logger.addHandler(caplog.handler)  # MONAI's loggers do not hand on to the root's
    try:
        evaluator(run, [AdaptationStatsHandler(run, prefix="tta"), printing]).run()
    finally:
        printing.logger.removeHandler(caplog.handler)
    assert "tta/adapted: 1.0000" in caplog.text and "tta/weight_distance" in caplog.text


def test_tensorboard_gets_the_figures_of_each_epoch(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed; `make programs` has it")
    from monai.handlers import TensorBoardStatsHandler
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = inferer(GraTa(pseudo=CON, optimizer=FAST))
    log = TensorBoardStatsHandler(log_dir=str(tmp_path), iteration_log=False)
    engine = evaluator(run, [AdaptationStatsHandler(run), log], cases=2)
    logged = []
    for _ in range(2):
        engine.run()
        logged.append(dict(engine.state.metrics))
    log.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert {"adaptation/cases", "adaptation/cosine", "adaptation/weight_distance"} <= set(read.Tags()["scalars"])
    for name in read.Tags()["scalars"]:
        assert [event.value for event in read.Scalars(name)] == pytest.approx([figures[name] for figures in logged])


def test_mlflow_gets_the_figures_of_each_epoch_and_of_each_case(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed; `make programs` has it")
    from monai.handlers import MLFlowHandler

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that what MLflow writes there is taken back
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    address = f"sqlite:///{tmp_path}/mlruns.db"
    with pytest.raises(ValueError, match="sqlite"):
        MLFlowHandler(tracking_uri=(tmp_path / "mlruns").as_uri())
    mlflow.set_tracking_uri(address)
    run = inferer(GraTa(pseudo=CON, optimizer=FAST))
    log = MLFlowHandler(tracking_uri=address, iteration_log=False, experiment_name="epochs", close_on_complete=True)
    each = AdaptationStatsHandler(run, log_case=lambda figures, number: mlflow.log_metrics(dict(figures), step=number))
    with mlflow.start_run() as of_cases:
        engine = evaluator(run, [each, log], cases=2)
        engine.run()
    client = mlflow.MlflowClient(address)
    (of_epochs,) = client.search_runs([client.get_experiment_by_name("epochs").experiment_id])
    assert engine.state.metrics["adaptation/cases"] == 2
    ours = {name: value for name, value in of_epochs.data.metrics.items() if name.startswith("adaptation/")}
    assert ours == pytest.approx(engine.state.metrics)
    rows = client.get_metric_history(of_cases.info.run_id, "adaptation/weight_distance")
    assert [(row.step, row.value) for row in rows] == [(case.number, pytest.approx(case.weight_distance)) for case in run.cases]


def test_an_answer_without_adaptation_counts_as_such():
    run = inferer(Source())
    engine = evaluator(run, [AdaptationStatsHandler(run)])
    engine.run()
    assert engine.state.metrics["adaptation/adapted"] == 0 and "adaptation/cosine" not in engine.state.metrics


def test_another_inferer_is_refused():
    with pytest.raises(TypeError, match="found a SlidingWindowInferer"):
        AdaptationStatsHandler(SlidingWindowInferer(8))
    run = inferer(Source())
    with pytest.raises(RuntimeError, match="answered no case"):
        evaluator(run, [AdaptationStatsHandler(run)], answer_with=SlidingWindowInferer(8)).run()


def test_the_expected_dice_is_that_of_the_worst_structure():
    surface = {"nsd": 0.9, "nsd_low": 0.8, "nsd_high": 1.0, "ranking": 0.9}
    expected = ((1, 0.9), (2, 0.6))
    quality = tuple(StructureQuality(structure=n, dice=d, low=d - 0.1, high=1.0, spread=0.1, **surface) for n, d in expected)
    case = Case(
        number=0,
        network="UNet",
        method="Source()",
        head="softmax",
        learn="volume",
        reset="volume",
        seed=0,
        shape=(1, 1, 8, 8, 8),
        quality=quality,
        changed_fraction=0.25,
    )
    figures = case_figures(case)
    assert (figures["expected_dice"], figures["expected_dice_low"]) == pytest.approx((0.6, 0.5))
    assert figures["changed_fraction"] == 0.25 and "lr" not in figures
