"""The registry against a real MLflow: an embedded store and a real server."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import structlog
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from monitorkit import model, registry
from monitorkit.config import Config
from monitorkit.errors import ModelNotFound, ModelRefused, RegistryUnavailable
from monitorkit.registry import Address
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.trust import Trust

pytestmark = [
    pytest.mark.slow,
    # What MLflow says of integer columns when a user infers a signature, which is what we test.
    pytest.mark.filterwarnings("ignore:.*Inferred schema contains integer column"),
    # MLflow's own annotations, when its pyfunc flavor is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
]

TRUSTED = Config().registry.trust
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, 200),
        "income": RANDOM.normal(size=200),
        "debt ratio": np.where(RANDOM.random(200) < 0.1, np.nan, RANDOM.random(200)),
    }
)
TARGET = (FRAME["age"] > 50).to_numpy().astype(int)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to copy: making one takes seconds of migrations."""
    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    registry.connect(Address(f"sqlite:///{path}", None, "-", "-"))
    return path


@pytest.fixture(scope="session")
def embedded(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Address:
    """One embedded store for all tests, which use different model names in it."""
    root = tmp_path_factory.mktemp("a folder # with odd characters")
    shutil.copy(blank, root / "mlflow.db")
    return Address(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"), "-", "production")


@pytest.fixture(scope="session")
def server(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A real `mlflow server` on a free port."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(blank, folder / "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    variables = {name: v for name, v in os.environ.items() if not name.startswith("MLFLOW_")}
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that its workers end with it
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{uri}/health", timeout=2).is_success:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"mlflow server did not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.1)
        yield Address(uri, None, "-", "production")
    finally:
        # The whole group, at once: its store is thrown away, and a polite end takes 7 s.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def here(embedded: Address, request: pytest.FixtureRequest) -> Address:
    return replace(embedded, model_name=request.node.name)


def register(address: Address, estimator: Any = None, **options: Any) -> str:
    """Log and register a model as a user would; returns its version."""
    client = registry.connect(address)
    import mlflow.sklearn  # noqa: PLC0415 - as the registry does

    if estimator is None:
        estimator = HistGradientBoostingClassifier(max_iter=3).fit(FRAME, TARGET)
    options.setdefault("signature", mlflow.models.infer_signature(FRAME, TARGET))
    options.setdefault("serialization_format", "skops")
    if options["serialization_format"] == "skops":
        options["skops_trusted_types"] = list(TRUSTED.types)
    mlflow.set_experiment(experiment_id=registry.experiment_id(address))
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            estimator,
            name="model",
            registered_model_name=address.model_name,
            pip_requirements=["scikit-learn"],
            **options,
        )
    found = client.search_model_versions(f"name='{address.model_name}'")
    return str(max(int(version.version) for version in found))


def test_importing_it_imports_no_mlflow_and_no_scikit_learn() -> None:
    code = (
        "import sys, monitorkit.registry; print({'mlflow', 'sklearn', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_address_is_what_the_configuration_says_and_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = Config(storage={"root": tmp_path})
    address = registry.address(config)
    assert address == Address(
        f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}",
        str(tmp_path / "mlflow" / "artifacts"),
        "credit-risk-model",
        "production",
    )
    assert pickle.loads(pickle.dumps(address)) == address  # noqa: S301 - ours
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert registry.address(config).artifact_root is None


@pytest.mark.parametrize("name", ["O'Neil", 'the "best"', "''", "a\\'b", "name = 'x' AND y"])
@pytest.mark.parametrize("where", ["embedded", "server"])
def test_versions_are_found_whatever_the_name_holds(
    where: str, name: str, request: pytest.FixtureRequest
) -> None:
    address = replace(request.getfixturevalue(where), model_name=name)
    assert registry.versions(address) == []
    client = registry.connect(address)
    client.create_registered_model(name)
    run = client.create_run("0").info
    client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    assert registry.versions(address) == ["1"]


@pytest.mark.parametrize("where", ["embedded", "server"])
def test_a_registered_model_is_promoted_found_and_fetched(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = replace(request.getfixturevalue(where), model_name="journey")
    assert registry.versions(address) == []
    with pytest.raises(ModelNotFound, match=r"model 'journey' is not in the registry.*train"):
        registry.production_version(address)

    estimator = HistGradientBoostingClassifier(max_iter=3).fit(FRAME, TARGET)
    first, second = register(address, estimator), register(address)
    assert registry.versions(address) == [first, second] == ["1", "2"]
    with pytest.raises(ModelNotFound, match=r"alias 'production'.*versions: 1, 2"):
        registry.production_version(address)
    with pytest.raises(ModelNotFound, match=r"version 7 of model 'journey'.*Versions: 1, 2"):
        registry.promote(address, "7")

    registry.promote(address, "1")
    assert registry.production_version(address) == "1"
    with structlog.testing.capture_logs() as events:
        registry.promote(address, "2")
    assert [(event["event"], event["version"]) for event in events] == [("model_promoted", "2")]
    assert registry.production_version(address) == "2"

    folder = registry.fetch(address, "1", tmp_path, TRUSTED)
    assert registry.stored(address, tmp_path, "1") == folder
    assert sorted(path.name for path in folder.iterdir()) == [model.CARD_FILE, model.MODEL_FILE]
    loaded = model.load(folder, TRUSTED, FRAME.to_numpy(dtype=np.float64))
    assert loaded.scorer.choice.name == "treelite"
    np.testing.assert_array_equal(
        loaded.scores(FRAME.to_numpy(dtype=np.float64)), estimator.predict_proba(FRAME)[:, 1]
    )
    card = loaded.card
    assert (card.name, card.version, card.tracking_uri) == ("journey", "1", address.tracking_uri)
    assert card.run_id
    assert card.created_at.endswith("+00:00")


def test_the_schema_comes_from_the_signature(here: Address, tmp_path: Path) -> None:
    folder = registry.fetch(here, register(here), tmp_path, TRUSTED)
    assert model.read_card(folder).schema == FeatureSchema(
        (
            Feature("age", "integer"),
            Feature("income", "number"),
            Feature("debt ratio", "number", nullable=True),
        )
    )


def test_metadata_that_training_wrote_wins_over_the_signature(
    here: Address, tmp_path: Path
) -> None:
    schema = FeatureSchema(
        (
            Feature("age", "integer", nullable=True, minimum=0),
            Feature("income"),
            Feature("debt ratio", nullable=True),
        )
    )
    metadata = {"monitorkit_schema": schema.to_json(), "fingerprint": {"rows": 200}}
    version = register(here, metadata=metadata)
    card = model.read_card(registry.fetch(here, version, tmp_path, TRUSTED))
    assert card.schema == schema
    assert card.metadata["fingerprint"] == {"rows": 200}


def test_a_model_that_takes_no_missing_values_has_no_nullable_columns(
    here: Address, tmp_path: Path
) -> None:
    version = register(here, LogisticRegression(max_iter=1000).fit(FRAME.fillna(0), TARGET))
    card = model.read_card(registry.fetch(here, version, tmp_path, TRUSTED))
    assert not any(feature.nullable for feature in card.schema.features)


def boolean_and_float32() -> pd.DataFrame:
    return pd.DataFrame(
        {"owner": RANDOM.random(200) < 0.5, "share": RANDOM.random(200).astype(np.float32)}
    )


def test_booleans_and_single_floats_are_numbers(here: Address, tmp_path: Path) -> None:
    from mlflow.models import infer_signature  # noqa: PLC0415 - as the registry does

    frame = boolean_and_float32()
    estimator = LogisticRegression().fit(frame, TARGET)
    version = register(here, estimator, signature=infer_signature(frame, TARGET))
    folder = registry.fetch(here, version, tmp_path, TRUSTED)
    features = model.read_card(folder).schema.features
    assert [(f.name, f.type) for f in features] == [("owner", "integer"), ("share", "number")]
    assert (features[0].minimum, features[0].maximum) == (0, 1), "no other number is a boolean"
    scores = model.load(folder, TRUSTED).scores(frame.to_numpy(dtype=np.float64))
    np.testing.assert_allclose(scores, estimator.predict_proba(frame)[:, 1], rtol=1e-6)


def refusal(address: Address, store: Path, *arguments: Any, **options: Any) -> str:
    version = register(address, *arguments, **options)
    with pytest.raises(ModelRefused) as refused:
        registry.fetch(address, version, store, TRUSTED)
    assert registry.stored(address, store, version) is None
    leftovers = [path for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert leftovers == []
    return str(refused.value)


@pytest.mark.parametrize("form", ["cloudpickle", "pickle"])
@pytest.mark.filterwarnings("ignore:.*pickle.*")  # MLflow itself warns of what we test to refuse
def test_pickles_are_refused_with_the_remedy(here: Address, tmp_path: Path, form: str) -> None:
    here = replace(here, model_name=form)
    message = refusal(here, tmp_path, serialization_format=form)
    assert f"it is saved with {form}" in message
    assert 'serialization_format="skops"' in message
    assert "[registry] allow_pickle = true" in message


@pytest.mark.parametrize("form", ["cloudpickle", "pickle"])
@pytest.mark.filterwarnings("ignore:.*pickle.*")
def test_a_pickle_is_served_while_the_configuration_allows_it(
    here: Address, tmp_path: Path, form: str
) -> None:
    """Needs `trust.pickles` in `signature.model_file` and in `estimator_file.read`."""
    here = replace(here, model_name=f"allowed-{form}")
    allowed = Trust(TRUSTED.types, pickles=True)
    version = register(here, serialization_format=form)
    folder = registry.fetch(here, version, tmp_path, allowed)
    assert model.read_card(folder).form == "pickle"
    rows = FRAME.to_numpy(dtype=np.float64)
    skops = replace(here, model_name=f"twin-of-{form}")
    twin = registry.fetch(skops, register(skops), tmp_path, TRUSTED)
    np.testing.assert_array_equal(
        model.load(folder, allowed).scores(rows), model.load(twin, TRUSTED).scores(rows)
    )
    with pytest.raises(ModelRefused, match=r"it is a pickle.*\[registry\] allow_pickle = true"):
        model.load(folder, TRUSTED)


def test_a_model_without_a_signature_is_refused(here: Address, tmp_path: Path) -> None:
    assert "it has no signature" in refusal(here, tmp_path, signature=False)


def test_a_tensor_signature_is_refused(here: Address, tmp_path: Path) -> None:
    from mlflow.models import infer_signature  # noqa: PLC0415 - as the registry does

    signature = infer_signature(FRAME.to_numpy(), TARGET)
    assert "without column names" in refusal(here, tmp_path, signature=signature)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", ["a", "b"] * 100),
        ("datetime", pd.date_range("2026-01-01", periods=200)),
    ],
)
def test_columns_that_are_no_numbers_are_refused(
    here: Address, tmp_path: Path, kind: str, values: Any
) -> None:
    from mlflow.models import infer_signature  # noqa: PLC0415 - as the registry does

    here = replace(here, model_name=kind)
    signature = infer_signature(FRAME.assign(income=values), TARGET)
    message = refusal(here, tmp_path, signature=signature)
    assert f"column 'income' of its signature is {kind}, not a number" in message


def test_a_regressor_is_refused(here: Address, tmp_path: Path) -> None:
    estimator = RandomForestRegressor(n_estimators=2).fit(FRAME, TARGET)
    assert "is a regressor" in refusal(here, tmp_path, estimator)


def test_three_classes_are_refused(here: Address, tmp_path: Path) -> None:
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(FRAME, np.arange(200) % 3)
    assert "it knows 3 classes" in refusal(here, tmp_path, estimator)


def test_types_outside_the_configured_list_are_refused_though_the_model_lists_them(
    here: Address, tmp_path: Path
) -> None:
    version = register(here)
    with pytest.raises(ModelRefused, match=r"not trusted: sklearn.*TreePredictor.*skops_trusted"):
        registry.fetch(here, version, tmp_path, Trust())


def test_a_model_of_another_flavor_is_refused(here: Address, tmp_path: Path) -> None:
    version = register(here)
    client = registry.connect(here)
    where = Path(client.get_model_version_download_uri(here.model_name, version))
    text = (where / "MLmodel").read_text()
    (where / "MLmodel").write_text(text.replace("  sklearn:\n", "  xgboost:\n"))
    with pytest.raises(ModelRefused, match="it has no sklearn flavor"):
        registry.fetch(here, version, tmp_path, TRUSTED)


def test_a_model_file_outside_the_model_is_refused(here: Address, tmp_path: Path) -> None:
    version = register(here)
    client = registry.connect(here)
    where = Path(client.get_model_version_download_uri(here.model_name, version))
    text = (where / "MLmodel").read_text()
    (where / "MLmodel").write_text(
        text.replace("pickled_model: model.skops", "pickled_model: ../../model.skops")
    )
    with pytest.raises(ModelRefused, match=r"its file is at '\.\./\.\./model.skops'"):
        registry.fetch(here, version, tmp_path, TRUSTED)


def test_a_model_whose_files_are_gone_is_not_found(here: Address, tmp_path: Path) -> None:
    version = register(here)
    client = registry.connect(here)
    shutil.rmtree(client.get_model_version_download_uri(here.model_name, version))
    with pytest.raises(ModelNotFound, match=r"file 'MLmodel'.*Restore it"):
        registry.fetch(here, version, tmp_path, TRUSTED)


@pytest.mark.parametrize("version", [str(2**31), "9" * 20, "9" * 255, "0" * 11])
def test_a_number_that_no_registry_gives_is_no_trouble_with_it(
    here: Address, tmp_path: Path, version: str
) -> None:
    with pytest.raises(ModelNotFound, match="No version has such a name"):
        registry.fetch(here, version, tmp_path / "store", TRUSTED)


def test_the_largest_number_that_a_registry_gives_is_looked_for(
    here: Address, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound, match=r"version 2147483647 .* Versions: "):
        registry.fetch(here, str(2**31 - 1), tmp_path / "store", TRUSTED)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("s3://bucket/model", "its artifact store does not answer: Unable to locate credentials"),
        ("gs://bucket/model", "install the client of its artifact store here .*for gs://"),
        ("wasbs://c@a.blob.core.windows.net/m", "install the client of its artifact store here"),
    ],
)
def test_an_artifact_store_that_cannot_be_used_is_no_bug(
    here: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    for variable in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    here = replace(here, model_name=source.partition(":")[0])
    client = registry.connect(here)
    client.create_registered_model(here.model_name)
    client.create_model_version(here.model_name, source)
    with pytest.raises(RegistryUnavailable, match=told):
        registry.fetch(here, "1", tmp_path / "models", TRUSTED)


def test_a_bug_of_ours_stays_one(here: Address) -> None:
    with pytest.raises(KeyError), registry.reported(here):
        raise KeyError


def test_files_that_are_gone_from_a_server_are_not_found(server: Address, tmp_path: Path) -> None:
    address = replace(server, model_name="gone")
    version = register(address)
    client = registry.connect(address)
    model_id = str(client.get_model_version(address.model_name, version).source).split("/")[-1]
    (folder,) = tmp_path.parent.glob(f"server0/artifacts/**/{model_id}")
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFound, match=r"file 'MLmodel'.*Restore it"):
        registry.fetch(address, version, tmp_path, TRUSTED)


def test_a_whole_copy_is_not_downloaded_again(here: Address, tmp_path: Path) -> None:
    version = register(here)
    folder = registry.fetch(here, version, tmp_path, TRUSTED)
    before = (folder / model.MODEL_FILE).stat()
    assert registry.fetch(here, version, tmp_path, TRUSTED) == folder
    assert (folder / model.MODEL_FILE).stat() == before


@pytest.mark.parametrize("damage", ["byte", "card", "file"])
def test_a_damaged_copy_is_replaced(here: Address, tmp_path: Path, damage: str) -> None:
    here = replace(here, model_name=f"damaged-{damage}")
    version = register(here)
    folder = registry.fetch(here, version, tmp_path, TRUSTED)
    whole = (folder / model.MODEL_FILE).read_bytes()
    if damage == "byte":
        (folder / model.MODEL_FILE).write_bytes(whole[:-1] + b"?")
    elif damage == "card":
        (folder / model.CARD_FILE).write_text("{")
    else:
        (folder / model.MODEL_FILE).unlink()
    with structlog.testing.capture_logs() as events:
        assert registry.fetch(here, version, tmp_path, TRUSTED) == folder
    assert [event["event"] for event in events] == ["stored_model_damaged"]
    assert (folder / model.MODEL_FILE).read_bytes() == whole
    assert not list(folder.parent.glob(f"{registry.TEMPORARY}*"))


def test_a_version_of_the_same_number_from_a_new_registry_replaces_the_old_one(
    here: Address, tmp_path: Path
) -> None:
    old = registry.fetch(here, register(here), tmp_path, TRUSTED)
    before = model.read_card(old)
    client = registry.connect(here)
    client.delete_registered_model(here.model_name)
    version = register(here, LogisticRegression(max_iter=1000).fit(FRAME.fillna(0), TARGET))
    assert version == before.version
    fresh = registry.fetch(here, version, tmp_path, TRUSTED)
    assert fresh == old
    assert model.read_card(fresh).estimator == "LogisticRegression"


def test_what_a_killed_process_left_is_cleared_away(here: Address, tmp_path: Path) -> None:
    version = register(here)
    folder = registry.fetch(here, version, tmp_path, TRUSTED)
    left = folder.parent / f"{registry.TEMPORARY}left"
    left.mkdir()
    (left / "model.skops").write_bytes(b"half")
    shutil.rmtree(folder)
    registry.fetch(here, version, tmp_path, TRUSTED)
    assert not left.exists()


def test_a_refused_version_leaves_the_good_one(here: Address, tmp_path: Path) -> None:
    good = registry.fetch(here, register(here), tmp_path, TRUSTED)
    registry.set_last_good(here, tmp_path, "1")
    bad = register(here, RandomForestRegressor(n_estimators=2).fit(FRAME, TARGET))
    with pytest.raises(ModelRefused):
        registry.fetch(here, bad, tmp_path, TRUSTED)
    assert registry.stored(here, tmp_path, "1") == good
    assert registry.last_good(here, tmp_path) == "1"


def test_a_first_training_that_was_killed_before_its_alias_is_finished(here: Address) -> None:
    version = register(here)
    client = registry.connect(here)
    registry.finish_first(here)  # a user's own version waits for its user
    with pytest.raises(ModelNotFound, match="alias"):
        registry.production_version(here)
    client.set_model_version_tag(here.model_name, version, registry.UNFINISHED_TAG, "yes")
    registry.finish_first(here)
    assert registry.production_version(here) == version
    assert client.get_model_version(here.model_name, version).tags == {}


def test_an_alias_that_somebody_has_set_meanwhile_stays(here: Address) -> None:
    first, second = register(here), register(here)
    client = registry.connect(here)
    client.set_model_version_tag(here.model_name, first, registry.UNFINISHED_TAG, "yes")
    registry.promote(here, second)
    registry.finish_first(here)
    assert registry.production_version(here) == second


def test_a_file_that_is_not_the_one_that_was_registered_is_refused(
    here: Address, tmp_path: Path
) -> None:
    version = register(here)
    client = registry.connect(here)
    client.set_model_version_tag(here.model_name, version, registry.SHA256_TAG, "0" * 64)
    with pytest.raises(ModelRefused, match=f"not the one that was registered.*{'0' * 64}"):
        registry.fetch(here, version, tmp_path, TRUSTED)


def test_a_hash_that_is_set_later_is_compared_with_the_copy_that_is_here(
    here: Address, tmp_path: Path
) -> None:
    version = register(here)
    folder = registry.fetch(here, version, tmp_path, TRUSTED)
    client = registry.connect(here)
    found = model.read_card(folder).sha256
    client.set_model_version_tag(here.model_name, version, registry.SHA256_TAG, found)
    assert registry.fetch(here, version, tmp_path, TRUSTED) == folder
    client.set_model_version_tag(here.model_name, version, registry.SHA256_TAG, "0" * 64)
    with pytest.raises(ModelRefused, match=f"not the one that was registered.*{'0' * 64}"):
        registry.fetch(here, version, tmp_path, TRUSTED)
    assert model.read_card(folder).sha256 == found  # it stays as it was, refused


def test_a_version_that_no_registry_has_is_none_to_promote(here: Address) -> None:
    register(here)
    with pytest.raises(ModelNotFound, match=r"version 9{20} of model .* Versions: 1\."):
        registry.promote(here, "9" * 20)


@pytest.mark.parametrize("work", ["model", "run", "experiment"])
def test_a_store_that_holds_something_is_kept_whatever_its_mark_says(
    blank: Path, tmp_path: Path, work: str
) -> None:
    """As one that was restored from a backup where the making of another had failed."""
    path = tmp_path / "mlflow.db"
    address = Address(f"sqlite:///{path}", str(tmp_path / "a"), "m", "production")
    shutil.copy(blank, path)
    client = registry.connect(address)
    if work == "model":
        client.create_registered_model("m")
    elif work == "run":
        client.create_run("0")
    else:
        registry.experiment_id(address)
    mark = tmp_path / "mlflow.db.unfinished"
    mark.touch()
    before = path.stat().st_ino
    with structlog.testing.capture_logs() as events:
        registry.connect(address)
    assert path.stat().st_ino == before
    assert not mark.exists()
    assert [(event["event"], event["file"]) for event in events] == [
        ("mlflow_store_kept", str(path))
    ]


def test_a_marked_file_that_cannot_be_read_stays_as_it_is(tmp_path: Path) -> None:
    path, mark = tmp_path / "mlflow.db", tmp_path / "mlflow.db.unfinished"
    path.write_bytes(b"half of a backup, perhaps" * 100)
    mark.touch()
    with pytest.raises(RegistryUnavailable, match="not a database"):
        registry.connect(Address(f"sqlite:///{path}", str(tmp_path / "a"), "m", "production"))
    assert path.stat().st_size == 2500
    assert mark.exists()


def test_a_store_whose_making_was_killed_is_made_anew(blank: Path, tmp_path: Path) -> None:
    address = Address(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "a"), "m", "production")
    shutil.copy(blank, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:  # half of the tables
        store.execute("DROP TABLE model_versions")
        store.execute("DELETE FROM alembic_version")
        store.commit()
    mark = tmp_path / "mlflow.db.unfinished"
    mark.touch()
    with structlog.testing.capture_logs() as events:
        assert registry.versions(address) == []
    assert "mlflow_store_made_anew" in [event["event"] for event in events]
    assert not mark.exists()
    # What is whole is never made anew.
    before = (tmp_path / "mlflow.db").stat().st_ino
    assert registry.versions(address) == []
    assert (tmp_path / "mlflow.db").stat().st_ino == before


def test_the_last_good_version_is_noted_for_each_registry_and_model(tmp_path: Path) -> None:
    one = Address("http://127.0.0.1:1", None, "one", "production")
    assert registry.last_good(one, tmp_path) is None
    registry.set_last_good(one, tmp_path, "4")
    registry.set_last_good(one, tmp_path, "5")
    assert registry.last_good(one, tmp_path) == "5"
    assert registry.last_good(replace(one, model_name="two"), tmp_path) is None
    assert registry.last_good(replace(one, tracking_uri="http://127.0.0.1:2"), tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2, "version": "1"}'])
def test_a_note_that_cannot_be_read_is_an_event(tmp_path: Path, text: str) -> None:
    address = Address("http://127.0.0.1:1", None, "one", "production")
    registry.set_last_good(address, tmp_path, "4")
    (path,) = tmp_path.rglob("current.json")
    path.write_text(text)
    with structlog.testing.capture_logs() as events:
        assert registry.last_good(address, tmp_path) is None
    assert [event["event"] for event in events] == ["last_good_model_unknown"]


def test_local_copies_move_with_the_folder_of_an_embedded_store(tmp_path: Path) -> None:
    def at(root: Path) -> Address:
        mlflow = root / "mlflow"
        return Address(
            f"sqlite:///{mlflow / 'mlflow.db'}", str(mlflow / "artifacts"), "m", "production"
        )

    registry.set_last_good(at(tmp_path / "old"), tmp_path / "old" / "models", "1")
    (tmp_path / "old").rename(tmp_path / "new")
    assert registry.last_good(at(tmp_path / "new"), tmp_path / "new" / "models") == "1"


def test_a_store_that_was_replaced_is_the_one_that_is_read(blank: Path, tmp_path: Path) -> None:
    """A backup that was brought back under a running service, or a folder that was deleted."""
    path = tmp_path / "mlflow.db"
    shutil.copy(blank, path)
    here = Address(f"sqlite:///{path}", None, "-", "-")
    client = registry.connect(here)
    client.create_registered_model("before")
    shutil.copy(blank, tmp_path / "backup.db")
    (tmp_path / "backup.db").replace(path)
    assert list(client.search_registered_models()) == []
    client.create_registered_model("after")
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT name FROM registered_models").fetchall() == [("after",)]
    path.unlink()
    with pytest.raises(RegistryUnavailable), registry.reported(here):
        client.search_registered_models()


def test_a_moved_embedded_store_says_so(embedded: Address, tmp_path: Path) -> None:
    address = replace(embedded, model_name="moved")
    registry.experiment_id(address)
    assert embedded.artifact_root is not None
    old, new = Path(embedded.artifact_root).parent, tmp_path / "mlflow"
    shutil.copytree(old, new)
    moved = replace(
        address, tracking_uri=f"sqlite:///{new / 'mlflow.db'}", artifact_root=str(new / "artifacts")
    )
    with pytest.raises(RegistryUnavailable) as unavailable:
        registry.versions(moved)
    assert str(old / "artifacts") in str(unavailable.value)
    assert "cannot be moved or copied" in str(unavailable.value)


def test_artifacts_of_an_embedded_store_stay_below_its_folder(
    here: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = register(here)
    where = registry.connect(here).get_model_version_download_uri(here.model_name, version)
    assert here.artifact_root is not None
    assert Path(where).is_relative_to(here.artifact_root)
    assert list(tmp_path.iterdir()) == []


def test_one_experiment_however_often_it_is_asked_for(here: Address) -> None:
    assert registry.experiment_id(here) == registry.experiment_id(here)
    assert registry.experiment_id(here) != registry.experiment_id(here, "-monitoring")


def test_a_deleted_experiment_says_how_it_comes_back(here: Address) -> None:
    number = registry.experiment_id(here)
    registry.connect(here).delete_experiment(number)
    with pytest.raises(RegistryUnavailable, match=f"restore --experiment-id {number}"):
        registry.experiment_id(here)


def test_a_server_that_is_away_is_reported_in_bounded_time(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        address = Address(uri, None, "m", "production")
        started = time.monotonic()
        with pytest.raises(RegistryUnavailable, match=f"{uri} cannot be used"):
            registry.production_version(address)
        with pytest.raises(RegistryUnavailable):
            registry.fetch(address, "1", tmp_path, TRUSTED)
        assert time.monotonic() - started < 30


def test_what_is_no_database_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"no database at all, but long enough to have a header" * 50)
    address = Address(f"sqlite:///{path}", str(tmp_path / "artifacts"), "m", "production")
    started = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="file is not a database"):
        registry.connect(address)
    assert time.monotonic() - started < 5


def test_the_cause_is_told_and_not_what_sqlalchemy_advises_its_users(
    blank: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(blank, path)
    address = Address(f"sqlite:///{path}", str(tmp_path / "artifacts"), "m", "production")
    client = registry.connect(address)
    run = client.create_run(registry.experiment_id(address))
    path.unlink()  # somebody's `rm`, while it is open
    with pytest.raises(RegistryUnavailable) as caught, registry.reported(address):
        client.set_terminated(run.info.run_id)
    assert "Background on this error" in str(caught.value.__cause__)  # what this is about
    assert caught.value.reason == "(sqlite3.OperationalError) no such table: runs"


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    address = Address(f"sqlite:///{tmp_path}/file/mlflow.db", None, "m", "production")
    with pytest.raises(RegistryUnavailable, match=r"mlflow\.db cannot be used"):
        registry.connect(address)


def test_a_new_store_is_made_without_a_word_outside_our_log(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from monitorkit import logs, registry\n"
        "logs.configure('INFO', 'json')\n"
        f"root = {str(tmp_path)!r}\n"
        "address = registry.Address(f'sqlite:///{root}/m/mlflow.db', root + '/m/a', 'x', 'y')\n"
        "registry.experiment_id(address)\n"
        "print('versions', registry.versions(address))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "versions []\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_two_processes_may_create_one_store(tmp_path: Path) -> None:
    code = (
        "from monitorkit import registry\n"
        f"root = {str(tmp_path)!r}\n"
        "address = registry.Address(f'sqlite:///{root}/m/mlflow.db', root + '/m/a', 'x', 'y')\n"
        "print(registry.experiment_id(address))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1]
