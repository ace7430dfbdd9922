"""What is loaded, how it is told apart, what is refused, and how it is split."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from monitorkit.errors import DataError
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.settings import Data, Training
from monitorkit.training import dataset, synthetic
from monitorkit.training.dataset import Dataset


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path, target: str = "y") -> Dataset:
    return dataset.load(Data(path=path, target=target))


def refusal(path: Path, target: str = "y") -> DataError:
    with pytest.raises(DataError) as caught:
        load(path, target)
    assert str(path) in str(caught.value)
    return caught.value


def test_without_a_file_the_synthetic_set_takes_its_place(tmp_path: Path) -> None:
    data = Data(path=tmp_path / "none.csv", synthetic_rows=1000, seed=3)
    loaded, made = dataset.load(data), dataset.synthetic(1000, 3)
    assert loaded.source == "synthetic data (1000 rows, seed 3)"
    assert loaded.features.tobytes() == made.features.tobytes()
    assert loaded.fingerprint == made.fingerprint


def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(tmp_path: Path) -> None:
    link = tmp_path / "data.csv"
    link.symlink_to(tmp_path / "gone.csv")
    assert "cannot be read" in refusal(link).problem


def test_a_path_below_a_file_is_not_taken_for_no_file(tmp_path: Path) -> None:
    write(tmp_path / "file", "x")
    assert "cannot be read" in refusal(tmp_path / "file" / "data.csv").problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", "a,y\n1,0\n2,1\n")
    path.chmod(0)
    assert "Permission denied" in refusal(path).problem


def test_a_wrong_path_with_a_target_of_its_own_is_an_error(tmp_path: Path) -> None:
    assert refusal(tmp_path / "cancer.csv", "diagnosis").problem == "there is no such file"


def test_the_synthetic_set_survives_its_file(tmp_path: Path) -> None:
    columns, labels = synthetic.applicants(2000, 5)
    path = tmp_path / "cs-training.csv"
    path.write_bytes(synthetic.csv_text(columns, labels).encode())
    loaded = dataset.load(Data(path=path))
    made = dataset.synthetic(2000, 5)
    assert loaded.fingerprint == made.fingerprint
    assert loaded.schema == made.schema
    assert loaded.features.tobytes() == made.features.tobytes()
    assert np.array_equal(loaded.labels, made.labels)


def test_the_real_rows(real_rows: Path) -> None:
    loaded = dataset.load(Data(path=real_rows))
    with real_rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert loaded.columns == synthetic.COLUMNS
    assert loaded.features.shape == (12_000, 10)
    assert loaded.labels.tolist() == [int(row["SeriousDlqin2yrs"]) for row in rows]
    for position, name in enumerate(loaded.columns):
        assert loaded.features[:, position].tolist() == [float(row[name]) for row in rows]
    found = loaded.fingerprint
    assert found.sha256 == hashlib.sha256(real_rows.read_bytes()).hexdigest()
    assert (found.rows, set(found.missing.values()), found.duplicates) == (12_000, {0}, 14)
    assert not any(feature.nullable for feature in loaded.schema.features)


def test_any_binary_csv_breast_cancer(tmp_path: Path) -> None:
    frame = load_breast_cancer(as_frame=True).frame
    path = tmp_path / "cancer.csv"
    frame.to_csv(path, index=False)
    loaded = load(path, "target")
    assert loaded.features.tolist() == frame.drop(columns="target").to_numpy().tolist()
    assert loaded.labels.tolist() == frame["target"].tolist()
    assert {feature.minimum for feature in loaded.schema.features} == {None}


def test_the_fingerprint_counts_missing_values_and_duplicates(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ",a,b,y\n1,1,NA,0\n2,1.0,,0\n3,1,NA,1\n4,0,5,1\n5,-0.0,5,1\n")
    found = load(path).fingerprint
    assert found.missing == {"a": 0, "b": 3}
    assert found.duplicates == 2
    assert json.loads(json.dumps(found.to_json()))["columns"] == ["a", "b"]


def test_the_schema_says_type_and_nullability(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "a,b,c,y\n1,NA,,0\n2.0,1.5,,1\n")
    assert load(path).schema.features == (
        Feature("a", "integer"),
        Feature("b", "number", nullable=True),
        Feature("c", "number", nullable=True),
    )


def test_credit_features_have_bounds_that_hold_the_data() -> None:
    made = dataset.synthetic(5000, 1)
    features = {feature.name: feature for feature in made.schema.features}
    assert (features["age"].type, features["age"].minimum, features["age"].maximum) == (
        "integer",
        0,
        120,
    )
    assert features["MonthlyIncome"] == Feature("MonthlyIncome", "number", nullable=True, minimum=0)
    for position, feature in enumerate(made.schema.features):
        values = made.features[:, position]
        assert feature.minimum == 0
        assert feature.maximum is None or np.nanmax(values) <= feature.maximum


def test_bounds_are_never_narrower_than_the_data(tmp_path: Path) -> None:
    columns, labels = synthetic.applicants(1000, 1)
    columns["age"][0], columns["DebtRatio"][0] = 130, -1
    path = write(tmp_path / "d.csv", synthetic.csv_text(columns, labels))
    features = {feature.name: feature for feature in dataset.load(Data(path=path)).schema.features}
    assert features["age"].maximum == 130
    assert features["DebtRatio"].minimum == -1


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["0", "1"], [0, 1]),
        (["1.0", "0"], [1, 0]),
        (["-1", "2"], [-1, 2]),
        (["M", "B"], ["M", "B"]),
        (["True", "False"], ["True", "False"]),
        (["0.5", "1.5"], ["0.5", "1.5"]),
        (["0", "inf"], ["0", "inf"]),
    ],
)
def test_labels_are_integers_or_words(tmp_path: Path, cells: list[str], labels: list[Any]) -> None:
    path = write(tmp_path / "d.csv", "a,y\n" + "".join(f"1,{cell}\n" for cell in cells))
    assert load(path).labels.tolist() == labels


def test_a_missing_label_is_named_by_line(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "d.csv", "a,y\n1,0\n2,1\n3,NA\n"))
    assert (error.line, error.column, error.problem) == (4, "y", "the label is missing")


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["0", "0.0"], "all labels are"),
        (["0", "1", "2"], "3 classes"),
        ([str(n) for n in range(50)], "50 classes"),
    ],
)
def test_one_class_or_more_than_two(tmp_path: Path, cells: list[str], problem: str) -> None:
    error = refusal(write(tmp_path / "d.csv", "a,y\n" + "".join(f"1,{c}\n" for c in cells)))
    assert problem in error.problem
    assert error.column == "y"
    assert len(str(error)) < 300


def test_no_target_column(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "d.csv", "a,diagnosys\n1,0\n"), "diagnosis")
    assert error.line == 1
    assert "'diagnosys'" in error.remedy
    assert "[data] target" in error.remedy


def test_nothing_but_the_target(tmp_path: Path) -> None:
    assert "no column beside" in refusal(write(tmp_path / "d.csv", ",y\n1,0\n2,1\n")).problem


def test_a_credit_file_that_lacks_a_feature(tmp_path: Path) -> None:
    text = synthetic.csv_text(*synthetic.applicants(1000, 1)).replace("MonthlyIncome", "Incme", 1)
    error = refusal(write(tmp_path / "d.csv", text), synthetic.TARGET)
    assert "a column is missing: 'MonthlyIncome'" in error.problem


def test_a_credit_file_with_another_spelling(tmp_path: Path) -> None:
    text = synthetic.csv_text(*synthetic.applicants(1000, 1)).replace("30-59", "30_59", 1)
    error = refusal(write(tmp_path / "d.csv", text), synthetic.TARGET)
    assert "'NumberOfTime30_59DaysPastDueNotWorse'" in error.remedy


def test_columns_that_underscores_make_alike_are_two(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "年龄,收入,x<1,x>1,y\n1,2,3,4,0\n5,6,7,8,1\n")
    data = load(path)
    assert data.columns == ("年龄", "收入", "x<1", "x>1")
    assert dataset.load_features(path, data.schema).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_name_that_cannot_be_served(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "d.csv", '"a\u200bb",c,y\n1,2,0\n1,2,1\n'))
    assert (error.line, error.column) == (1, "a\u200bb")


def test_the_split_is_stratified_whole_and_always_the_same() -> None:
    made = dataset.synthetic(5000, 1)
    train, held_out = dataset.split(made, test_share=0.2, seed=42)
    again = dataset.split(made, test_share=0.2, seed=42)[1]
    assert (len(train), len(held_out)) == (4000, 1000)
    assert abs(train.labels.mean() - held_out.labels.mean()) < 0.001
    together = np.concatenate([train.features, held_out.features])
    assert sorted(map(bytes, together)) == sorted(map(bytes, made.features))
    assert held_out.features.tobytes() == again.features.tobytes()
    other = dataset.split(made, test_share=0.2, seed=43)[1]
    assert held_out.features.tobytes() != other.features.tobytes()


@pytest.mark.parametrize(("zeros", "ones"), [(9, 1), (1, 1), (2, 2), (40, 2)])
def test_too_few_rows_to_split(tmp_path: Path, zeros: int, ones: int) -> None:
    path = write(tmp_path / "d.csv", "a,y\n" + "1,0\n" * zeros + "1,1\n" * ones)
    with pytest.raises(DataError, match=f"{zeros} of 0, {ones} of 1"):
        dataset.split(load(path), test_share=0.2, seed=1)


SCHEMA = FeatureSchema((Feature("b-c"), Feature("a", nullable=True)))


def test_features_are_read_in_the_schemas_order_whatever_else_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ",a,y,b_c,name\n1,NA,0,2,x\n2,3,,4,y\n")
    features = dataset.load_features(path, SCHEMA)
    assert np.array_equal(features, np.array([[2, np.nan], [4, 3]]), equal_nan=True)


def of_customers(path: Path, *, beside: bool) -> Path:
    """A data set of numbers; beside them a column of words, and one past what float32 holds."""
    random = np.random.default_rng(0)
    lines = ["region,a,b-c,d,y,id" if beside else "a,b-c,d,y"]
    for row, (a, b, d) in enumerate(random.normal(size=(200, 3)).tolist()):
        numbers = f"{a},{b},{d},{int(a + b > 0)}"
        lines.append(f"south,{numbers},{row}e99" if beside else numbers)
    return write(path, "\n".join(lines) + "\n")


def test_held_out_are_the_same_rows_whatever_else_is_there(tmp_path: Path) -> None:
    plain = of_customers(tmp_path / "plain.csv", beside=False)
    training = Training(test_share=0.3, seed=11)
    _, expected = dataset.split(load(plain), test_share=0.3, seed=11)
    for path in (plain, of_customers(tmp_path / "more.csv", beside=True)):
        source, features = dataset.held_out(Data(path=path, target="y"), training, SCHEMA, "-")
        assert source == str(path)
        assert features.tolist() == expected.features[:, [1, 0]].tolist()


def test_a_column_that_the_model_reads_and_the_data_set_lacks_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "region,a,y\nsouth,1,0\nnorth,2,1\n")
    with pytest.raises(DataError) as caught:
        dataset.held_out(Data(path=path, target="y"), Training(), SCHEMA, "Do this.")
    assert (caught.value.column, caught.value.remedy) == ("b-c", "Do this.")


def test_to_train_every_column_has_to_be_a_feature(tmp_path: Path) -> None:
    error = refusal(of_customers(tmp_path / "d.csv", beside=True))
    assert (error.line, error.column, error.problem) == (2, "region", "'south' is not a number")
    assert "remove the column" in error.remedy


def test_features_that_the_file_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a column is missing: 'a'"):
        dataset.load_features(write(tmp_path / "d.csv", "b-c\n1\n"), SCHEMA)
