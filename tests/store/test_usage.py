"""Deleting takes what hangs on a thing with it, tells it before, and spares the rest."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from core.__main__ import main
from core.data.recipes import apply, undo
from core.errors import NotFoundError, SpecError, UserError
from core.records import Arm, DatasetUse, Evaluation, EvaluationSpec, ModelRef, Run, Step, Template, TrainSpec
from core.settings import get_settings
from core.store.datasets import find_dataset, list_versions, read_rows, version_folder
from core.store.files import area
from core.store.jobs import add_job, list_jobs
from core.store.runs import evaluation_folder, list_evaluations, list_runs, run_folder, save_evaluation, save_run
from core.store.usage import delete_with_all, usage, what_goes
from tests.data.make import rows_of, save_rows

TEMPLATE = Template(name="t")


def a_run(name: str, dataset: str, number: int, job_id: str = "") -> Run:
    run_folder(name).mkdir(parents=True)
    (run_folder(name) / "adapter.bin").write_bytes(b"x" * 1000)
    spec = TrainSpec(data=(DatasetUse(dataset=dataset),))
    return save_run(Run(run_id=name, name=name, spec=spec, template=TEMPLATE, data_versions={dataset: (number,)}, job_id=job_id))


def an_evaluation(name: str, dataset: str, number: int, run: str | None = None, job_id: str = "") -> Evaluation:
    evaluation_folder(name).mkdir(parents=True)
    (evaluation_folder(name) / "predictions.parquet").write_bytes(b"x" * 500)
    spec = EvaluationSpec(dataset=dataset, version=number, arm=Arm(run=run))
    made = Evaluation(
        evaluation_id=name, name=name, spec=spec, task="extraction", template=TEMPLATE, version=number, job_id=job_id
    )
    return save_evaluation(made)


@pytest.fixture
def filled() -> None:
    for name in ("d", "other"):
        save_rows(name, rows_of({"input": "a "}, {"input": "b"}))
    apply("d", [Step(op="normalise")])
    a_run("r1", "d", 2)
    a_run("r2", "other", 1)
    an_evaluation("e1", "d", 1)
    an_evaluation("e2", "d", 2, "r1")
    an_evaluation("e3", "other", 1, "r1")
    an_evaluation("e4", "other", 1)


def named(kind: str, name: str) -> list[str]:
    return [item.name for item in what_goes(kind, name).goes]


def test_a_dataset_goes_with_versions_and_evaluations(filled: None) -> None:
    assert named("dataset", "d") == ["d", "d@1", "d@2", "e2", "e1"]
    assert what_goes("dataset", "d").stays == ("run r1 stays usable, but can't be trained again on these rows",)
    delete_with_all("dataset", "d")
    assert find_dataset("d") is None
    assert not area("datasets", "d").exists()
    assert {e.evaluation_id for e in list_evaluations()} == {"e3", "e4"}
    assert not evaluation_folder("e1").exists()
    assert read_rows("other").num_rows == 2
    save_rows("d", rows_of({"input": "new"}))
    assert [version.number for version in list_versions("d")] == [1]


def test_a_version_goes_with_its_evaluations_and_the_rest_still_works(filled: None) -> None:
    apply("d", [Step(op="drop_empty")])
    assert named("version", "d@2") == ["d@2", "e2"]
    delete_with_all("version", "d@2")
    assert [version.number for version in list_versions("d")] == [1, 3]
    assert not version_folder("d", 2).exists()
    assert undo("d").number == 4
    assert read_rows("d")["input"].to_pylist() == ["a", "b"]


def test_a_run_is_told_of_with_each_version_that_it_used(filled: None) -> None:
    apply("d", [Step(op="normalise")])
    spec = TrainSpec(data=tuple(DatasetUse(dataset=name, version=number) for name, number in (("d", 1), ("d", 3), ("other", 2))))
    save_run(Run(run_id="r3", name="r3", spec=spec, template=TEMPLATE, data_versions={"d": (1, 3), "other": (2,)}))
    assert [line.split()[1] for line in what_goes("version", "d@1").stays] == ["r3"]
    assert [line.split()[1] for line in what_goes("version", "d@2").stays] == ["r1"]


def test_the_latest_version_stays(filled: None) -> None:
    with pytest.raises(UserError, match="latest"):
        delete_with_all("version", "d@2")
    assert len(list_versions("d")) == 2


def test_a_run_goes_with_its_evaluations(filled: None) -> None:
    assert sorted(named("run", "r1")) == ["e2", "e3", "r1"]
    assert what_goes("run", "r1").bytes == 2000
    delete_with_all("run", "r1")
    assert [run.run_id for run in list_runs()] == ["r2"]
    assert not run_folder("r1").exists()


def test_a_full_tunings_evaluations_go_with_it_though_their_arm_names_a_model(filled: None) -> None:
    model = ModelRef(source="path", name=str(run_folder("r1") / "model"))
    an_evaluation("full", "other", 1)
    spec = EvaluationSpec(dataset="other", version=1, arm=Arm(model=model))
    save_evaluation(list_evaluations("other")[0].model_copy(update={"spec": spec}))
    assert sorted(named("run", "r1")) == ["e2", "e3", "full", "r1"]
    assert named("run", "r2") == ["r2"]


def test_an_older_run_of_the_same_name_takes_only_its_own_evaluations(filled: None) -> None:
    a_run("later", "other", 1)
    save_run(list_runs()[0].model_copy(update={"name": "r1"}))
    an_evaluation("by-name", "other", 1, "r1")
    assert named("run", "later") == ["later"]
    delete_with_all("run", "r1")
    assert {run.run_id for run in list_runs()} == {"r2", "later"}


def test_a_link_in_the_place_of_a_folder_goes_and_what_it_points_to_stays(filled: None, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    shutil.rmtree(run_folder("r2"))
    run_folder("r2").symlink_to(tmp_path / "elsewhere")
    delete_with_all("run", "r2")
    assert (tmp_path / "elsewhere" / "kept").exists()
    assert [path.name for path in area("runs").iterdir()] == ["r1"]


def test_usage_finds_a_database_that_lies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_DATABASE_URL", f"sqlite:///{tmp_path / 'team 库.db'}")
    save_rows("d", rows_of({"input": "a"}))
    assert "team 库.db" in [item.name for item in usage() if item.kind == "database"]


def test_what_is_at_work_stays(filled: None) -> None:
    job = add_job("training", {})
    a_run("busy", "d", 2, job.job_id)
    for kind, name in (("run", "busy"), ("dataset", "d")):
        with pytest.raises(UserError, match="hasn't ended"):
            delete_with_all(kind, name)
    assert find_dataset("d") is not None
    assert len(list_jobs()) == 1


def test_what_is_not_there() -> None:
    for kind, name in (("dataset", "x"), ("version", "x@1"), ("run", "x"), ("evaluation", "x"), ("conversation", "x")):
        with pytest.raises(NotFoundError):
            what_goes(kind, name)
    for kind, name in (("version", "x"), ("planet", "x")):
        with pytest.raises(SpecError):
            what_goes(kind, name)


def test_usage_counts_everything(filled: None) -> None:
    (area("runs", "lost")).mkdir()
    (area("runs", "lost") / "f").write_bytes(b"x" * 70)
    found = {(item.kind, item.name): item.bytes for item in usage()}
    assert found["run", "r1"] == 1000
    assert found["evaluation", "e1"] == 500
    assert found["leftovers", "lost"] == 70
    assert found["dataset", "d"] > 1000
    assert ("database" in {kind for kind, _ in found}) == get_settings().database.startswith("sqlite")
    assert [item.bytes for item in usage()] == sorted(found.values(), reverse=True)


class Terminal(io.StringIO):
    """Somebody who types a text, or closes the terminal."""

    def isatty(self) -> bool:
        return True


def test_commands(filled: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["delete", "run", "r1", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["goes"][0]["name"], told["deleted"]) == ("r1", False)
    assert len(list_runs()) == 2
    for unasked in (["delete", "run", "r1"], ["delete", "run", "r1", "--json"]):  # no terminal, nobody to ask
        assert main(unasked) == 2
        assert "--yes" in capsys.readouterr().err
        assert len(list_runs()) == 2
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", Terminal("n\n"))
        assert main(["delete", "run", "r1"]) == 0
        patch.setattr("sys.stdin", Terminal(""))
        assert main(["delete", "run", "r1"]) == 130
    assert len(list_runs()) == 2
    assert main(["delete", "run", "r1", "--yes"]) == 0
    assert len(list_runs()) == 1
    assert main(["usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["total"] > 0
    assert main(["delete", "dataset", "nope"]) == 2
