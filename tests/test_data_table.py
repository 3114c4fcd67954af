"""Tables: what columns are taken for, schemas, missing cells, and files that are no tables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deepbabysit.data import MeanImputer, ZScore, check_finite, read_table, split
from deepbabysit.data.columns import numbers
from deepbabysit.data.datasets.tables import HEART_SCHEMA

quick = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _shared(*parts):
    root = Path(os.environ.get("DEEPBABYSIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} in DEEPBABYSIT_DATA")
    return path


@pytest.fixture
def table(tmp_path):
    def read(content, target="y", **arguments):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, target=target, verbose=False, **arguments)

    return read


def _rows(**columns):
    """A CSV text of equally long columns."""
    lines = [",".join(columns)]
    lines += [",".join(str(cell) for cell in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


# Real files


def test_heart_has_29_inputs():
    table = read_table(_shared("heart", "heart.csv"), schema=HEART_SCHEMA)
    assert table.x.shape == (303, 29) and table.x.dtype == np.float32
    assert np.bincount(table.y).tolist() == [220, 83] and table.task == "binary"
    numeric = [table.columns[i] for i in table.numeric]
    assert numeric == ["age", "trestbps", "chol", "thalach", "oldpeak", "slope"]
    one_hot = np.delete(table.x, table.numeric, axis=1)
    assert one_hot.shape[1] == 23 and (one_hot.sum(axis=1) == 7).all() and set(np.unique(one_hot)) == {0, 1}
    assert table.x[0, table.columns.index("thal=fixed")] == 1 and table.x[0, table.columns.index("age")] == 63
    listed = read_table(
        _shared("heart", "heart.csv"),
        target="target",
        categorical=["sex", "cp", "fbs", "restecg", "exang", "ca", "thal"],
        verbose=False,
    )
    assert listed.columns == table.columns and np.array_equal(listed.x, table.x)


def test_a_heart_without_rare_levels_still_has_29_inputs(tmp_path):
    lines = _shared("heart", "heart.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[12] not in ("1", "2")]
    (tmp_path / "h.csv").write_text("\n".join(kept).replace(",fixed,", ",fixed ,").replace(",0,", ",0.0,"))
    table = read_table(tmp_path / "h.csv", schema=HEART_SCHEMA)
    assert table.x.shape == (301, 29)


def test_auto_mpg_names_the_missing_cells_and_offers_what_works():
    path = _shared("auto-mpg", "auto-mpg.csv")
    with pytest.raises(ValueError) as caught:
        read_table(path, target="mpg", verbose=False)
    told = str(caught.value)
    assert "column 'horsepower' has 6 cells" in told and "lines 34, 128, 332, 338, 356, 376" in told
    for fix in ('missing="drop"', 'missing="mean"', "categorical=['horsepower']"):
        assert fix in told
    dropped = read_table(path, target="mpg", missing="drop", verbose=False)
    assert dropped.x.shape == (392, 9) and dropped.task == "regression" and dropped.y.dtype == np.float32
    assert 32 not in dropped.rows and "6 rows with missing cells left out" in dropped.guess
    assert "name" not in dropped.columns and "a name or free text" in dropped.guess
    assert [c for c in dropped.columns if c.startswith("origin")] == ["origin=1", "origin=2", "origin=3"]
    categories = read_table(path, target="mpg", categorical=["horsepower", "origin"], missing="drop", verbose=False)
    assert any(c.startswith("horsepower=") for c in categories.columns)


def test_filling_gaps_uses_training_rows_only():
    table = read_table(_shared("auto-mpg", "auto-mpg.csv"), target="mpg", missing="mean", verbose=False)
    assert len(table.x) == 398 and "6 missing (NaN)" in table.guess
    with pytest.raises(ValueError, match="6 of 398 rows"):
        check_finite("x", table.x)
    parts = split(table.x, table.y, seed=0)
    imputer = MeanImputer().fit(parts.train.x)
    hp = table.columns.index("horsepower")
    assert imputer.mean[hp] == pytest.approx(np.nanmean(parts.train.x[:, hp].astype(np.float64)))
    filled = imputer.transform(table.x)
    check_finite("x", filled)
    assert np.allclose(filled[32, hp], imputer.mean[hp])
    scaled = ZScore(columns=table.numeric).fit(filled).transform(filled)
    assert set(np.unique(np.delete(scaled, table.numeric, axis=1))) == {0, 1}


def test_concrete_with_byte_order_mark_crlf_and_quoted_comma():
    target = "Concrete compressive strength(MPa, megapascals)"
    table = read_table(_shared("concrete", "Concrete_Data.csv"), target=target, verbose=False)
    assert table.x.shape == (1030, 8) and table.task == "regression"
    assert table.y.mean() == pytest.approx(35.818, abs=1e-3)
    assert table.columns[0] == "Cement (component 1)(kg in a m^3 mixture)"


def test_pandas_agrees():
    pandas = pytest.importorskip("pandas")
    path = _shared("concrete", "Concrete_Data.csv")
    frame = pandas.read_csv(path, encoding="utf-8-sig")
    table = read_table(path, target=frame.columns[-1].strip(), verbose=False)
    assert np.array_equal(table.x, frame.iloc[:, :-1].to_numpy(np.float32))


# Guesses


def test_kinds_of_columns(table):
    n = 60
    got = table(
        _rows(
            row=range(n),
            code=[i % 4 for i in range(n)],
            flag=[i % 2 for i in range(n)],
            gap=[(i % 3) * 2 for i in range(n)],
            amount=[i * 0.5 for i in range(n)],
            color=[["red", "green"][i % 2] for i in range(n)],
            name=[f"person {i}" for i in range(n)],
            same=["x"] * n,
            y=[i % 2 for i in range(n)],
        )
    )
    assert got.columns == ("code=0", "code=1", "code=2", "code=3", "flag", "gap", "amount", "color=green", "color=red")
    assert [got.columns[i] for i in got.numeric] == ["flag", "gap", "amount"]
    for told in ("row number", "taken for codes", "a name or free text", "constant, always 'x'"):
        assert told in got.guess
    with pytest.raises(ValueError, match="column 'color' holds text"):
        table(_rows(color=["red", "green"] * 30, a=range(60), y=[0, 1] * 30), categorical=["a"])


def test_the_caller_overrides_guesses(table):
    text = _rows(code=[1, 2, 3] * 20, day=range(60), note=["a", "b"] * 30, y=[0, 1] * 30)
    got = table(text, numeric=["code", "day"], drop=["note"])
    assert got.columns == ("code", "day") and got.numeric == (0, 1)
    got = table(text, levels={"code": [3, 2, 1, 9]}, drop=["day"])
    assert got.columns[:4] == ("code=3", "code=2", "code=1", "code=9") and got.x[0, :4].tolist() == [0, 0, 1, 0]
    assert table(text, task="regression").y.dtype == np.float32
    assert table(text, target="code").task == "multiclass"
    assert table(text, target="code", task="regression").task == "regression"


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0, 1] * 30, "binary", ("0", "1")),
        (["1.0", "2.0"] * 30, "binary", ("1", "2")),
        (["no", "yes"] * 30, "binary", ("no", "yes")),
        (list(range(10)) * 6, "multiclass", tuple("0123456789")),
        (["a", "b", "c"] * 20, "multiclass", ("a", "b", "c")),
        (list(range(60)), "regression", ()),
        ([i + 0.5 for i in range(3)] * 20, "regression", ()),
    ],
)
def test_task(table, values, task, classes):
    got = table(_rows(a=[i * 0.1 for i in range(60)], y=values))
    assert got.task == task and got.class_names == classes
    if classes:
        assert got.y.dtype == np.int64 and got.y.tolist()[:2] == [0, 1]
    else:
        assert got.y.tolist() == pytest.approx(values)


def test_the_guess_is_printed_unless_silenced(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(_rows(a=range(5, 10), y=[0, 1, 0, 1, 0]))
    table = read_table(tmp_path / "a.csv", target="y")
    assert capsys.readouterr().out == table.guess + "\n"
    read_table(tmp_path / "a.csv", target="y", verbose=False)
    read_table(tmp_path / "a.csv", schema=table.schema)
    assert capsys.readouterr().out == ""


@quick
@given(
    delimiter=st.sampled_from([",", ";", "\t"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    end=st.booleans(),
    quote=st.booleans(),
)
def test_dialects_are_found(table, delimiter, newline, bom, end, quote):
    q = '"' if quote else ""
    lines = [delimiter.join(["a", f"{q}b{q}", "y"])]
    lines += [delimiter.join([str(i), f"{q}{i / 4}{q}", str(i % 2)]) for i in range(3, 15)]
    text = newline.join(lines) + (newline * 2 if end else "")
    got = table((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    assert got.columns == ("a", "b") and got.x[:, 1].tolist() == [i / 4 for i in range(3, 15)]


def test_schema_encodes_new_files_the_same_way(table):
    first = table(_rows(size=["S", "M", "L"] * 10, w=range(5, 35), y=["no", "yes", "no"] * 10))
    schema = json.loads(json.dumps(first.schema))
    again = table("junk,y,w,size\nq,yes,5,M\nq,no,7,S\n", target=None, schema=schema)
    assert again.columns == first.columns and again.y.tolist() == [1, 0] and again.class_names == ("no", "yes")
    assert again.x.tolist() == [[0, 1, 0, 5], [0, 0, 1, 7]]
    assert "not in the schema, left out: junk" in again.guess
    blind = table("w,size\n5,M\n", target=None, schema=schema)
    assert blind.y is None and blind.class_names == ("no", "yes") and blind.schema == first.schema
    with pytest.raises(ValueError, match=r"column 'size' holds 'XL', not one of its 3 levels \(L, M, S\).* Line 3"):
        table("w,size\n5,M\n5,XL\n", target=None, schema=schema)
    with pytest.raises(ValueError, match="lacks a column of the schema: unknown column 'size'; did you mean 'sise'"):
        table("w,sise\n5,M\n", target=None, schema=schema)
    with pytest.raises(ValueError, match="give it alone"):
        table("w,size\n5,M\n", target=None, schema=schema, drop=["w"])
    with pytest.raises(ValueError, match="unknown format"):
        table("w,size\n5,M\n", target=None, schema={"columns": []})


# Missing cells


def test_missing_categories_and_targets(table):
    text = "c,a,y\nx,1,0\n,2,1\nz,3,0\nx,4,\nz,5,1\n"
    with pytest.raises(ValueError) as caught:
        table(text)
    assert "column 'c' has 1 cells" in str(caught.value) and "column 'y' has 1 cells" in str(caught.value)
    got = table(text, missing="drop")
    assert got.rows.tolist() == [0, 2, 4] and got.columns == ("c=x", "c=z", "a")
    with pytest.raises(ValueError, match="column 'y' has 1 cells that are missing"):
        table(text, missing="mean", levels={"c": ["x", "z", ""]})
    kept = table(text.replace("4,\n", "4,1\n"), levels={"c": ["x", "z", ""]})
    assert kept.x[1].tolist() == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="nothing is left"):
        table("a,y\n?,1\n,0\n1,?\n", missing="drop", numeric=["a"], task="binary")


def test_words_in_a_number_column(table):
    text = _rows(a=[1.5, 2, "oops", 4, 5, 6], y=[0, 1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"missing or not numbers \('oops'\): lines 4 of the file \(rows 2"):
        table(text)
    assert table(text, missing="drop").rows.tolist() == [0, 1, 3, 4, 5]


@quick
@given(text=st.text(st.sampled_from("0123456789.eE+-_ \u0661nainf"), max_size=6))
@example("1_000")
@example("nan")
@example("inf")
@example("1e999")
@example("\u0661\u0662")
@example("0x10")
def test_only_plain_finite_decimals_are_numbers(text):
    import re

    value = numbers([text, "1"])[0]
    plain = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip()) is not None
    if text != text.strip():
        return  # cells arrive stripped
    if plain and np.isfinite(float(text)):
        assert value == float(text)
    else:
        assert np.isnan(value)


# Files that are no tables

BAD = [
    (b"", "is empty"),
    (b"\n\n  \n", "only blank lines"),
    (b"a,b,y\n", "header with 3 columns but no rows"),
    (b"a,a,y\n1,2,3\n", "names two columns 'a' \\(columns 1 and 2\\)"),
    (b"a,b,y\n1,2,3\n1,2\n1,2,3,4\n", "line 3 has 2, line 4 has 4"),
    (b'a,b,y\n1,"2,3\n4,5,6\n', "unclosed quote"),
    (b"a,b,y\n1,2\x00,3\n", "binary"),
    (b"\x1f\x8b\x08abc", "gzip file"),
    (b"PK\x03\x04abc", "zip or Excel"),
    (b"PAR1abc", "Parquet"),
    ("a,y\n1,2\n".encode("utf-16"), "UTF-16"),
    (b"a,y\n\xe9,1\n\xe8,2\n", "encoding='latin-1'"),
    (b"y\n1\n2\n", "single column"),
    (b"1,2,3\n4,5,6\n", "add a header line"),
    (b"a,b,z\n1,2,3\n", "unknown column 'y'"),
    (b"a,y\n1,1\n2,1\n3,1\n", "always '1': there is nothing to learn"),
    (b"a,y\n1,\n2,\n", "no value at all"),
    (b"a,y\n" + b"".join(b"%d,word%d\n" % (i, i) for i in range(50)), "too many to be classes"),
    (b"a,y\nx,1\nx,0\n", "no column is left"),
    (b"a,y\n1e39,1\n2,0\n", "beyond float32"),
    (b"a,y\n" + b"x" * 200_000 + b",1\n", "field larger than field limit"),
]


@pytest.mark.parametrize(("content", "says"), BAD, ids=[says[:20] for _, says in BAD])
def test_bad_files_are_named(table, content, says):
    with pytest.raises(ValueError, match=says):
        table(content)


def test_caps(table, monkeypatch):
    from deepbabysit.data import csvfile
    from deepbabysit.data import table as module

    with monkeypatch.context() as patch:
        patch.setattr(csvfile, "MAX_BYTES", 10)
        with pytest.raises(ValueError, match="a CSV may have 10"):
            table("a,b,y\n1,2,3\n4,5,6\n")
    with monkeypatch.context() as patch:
        patch.setattr(csvfile, "MAX_COLUMNS", 3)
        with pytest.raises(ValueError, match="4 columns; the limit is 3"):
            table("a,b,c,y\n1,2,3,4\n")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MAX_CELLS", 3)
        with pytest.raises(ValueError, match="exceed 8 GiB"):
            table("a,b,y\n1,2,0\n4,5,1\n")
    with pytest.raises(ValueError, match="column 'a' has 1500 levels; the limit is 1000"):
        table(_rows(a=[f"w{i}" for i in range(1500)], y=[0, 1] * 750), categorical=["a"])


def test_hostile_names_do_not_reach_the_terminal(table):
    got = table("\x1b[31mred,b,y\n" + "".join(f"{i * 0.5},{i * 2},{i % 2}\n" for i in range(9)))
    assert "\x1b" not in got.guess and "?[31mred" in got.guess
    with pytest.raises(ValueError) as caught:
        table("\x1b[31mred,b,y\n?,2,0\n2,3,1\n2,4,0\n")
    assert "\x1b" not in str(caught.value)


def test_absent_files_and_folders(tmp_path):
    (tmp_path / "heart.csv").write_text("a,y\n1,2\n")
    with pytest.raises(FileNotFoundError, match="there is: heart.csv"):
        read_table(tmp_path / "hart.csv", target="y")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_table(tmp_path / "sub" / "heart.csv", target="y")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_table(tmp_path, target="y")


def test_misspelt_arguments(table):
    text = "age,bmi,y\n1,2,0\n3,4,1\n"
    for arguments, says in [
        ({"target": "ages"}, "did you mean 'age'"),
        ({"target": None}, "the columns are: age, bmi, y"),
        ({"categorical": ["bim"]}, "categorical: unknown column 'bim'; did you mean 'bmi'"),
        ({"categorical": "age"}, "'auto' or a list"),
        ({"missing": "men"}, "did you mean 'mean'"),
        ({"task": "binry"}, "did you mean 'binary'"),
        ({"drop": ["age"], "numeric": ["age"]}, "named in two of"),
        ({"drop": ["y"]}, "cannot be left out"),
        ({"levels": {"age": [1, 1]}}, "must be different"),
        ({"delimiter": "::"}, "one character"),
    ]:
        with pytest.raises(ValueError, match=says):
            table(text, **{"target": "y", **arguments})
    with pytest.raises(TypeError, match=r"write drop=\['age'\]"):
        table(text, drop="age")


def test_large_whole_numbers_are_not_lost_silently(table):
    got = table(_rows(a=[16777217, 3, 9], b=[0.5, 1.5, 9], y=[0, 1, 0]))
    assert "'a': 1 whole numbers above 2^24 are rounded to float32" in got.guess
