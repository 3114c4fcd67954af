"""Random streams: published vectors, the layout, micro-batches, rewinding, and the same bits on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.namespace import Namespace
from deepbabysit.kernels.random import philox
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.random import Streams, host_generator, set_seed, stream_number, streams
from deepbabysit.runtime.registry import find_device

NUMPY = Namespace(np)
ONES = (1 << 64) - 1
# Random123's kat_vectors for philox4x64 with 10 rounds: counter, key, result
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    (
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_published_vectors(counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]) -> None:
    def words(values: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        return tuple(np.array([v], np.uint64) for v in values)

    with np.errstate(over="ignore"):
        found = philox(NUMPY, words(counter), words(key))  # type: ignore[arg-type]
    assert tuple(int(w[0]) for w in found) == result


def draw(device: str, shape: tuple[int, ...], seed: int, step: int, row: int, stream: int, count: int) -> np.ndarray:
    place = find_device(device)
    control = place.asarray(np.array([seed, step, row, 0], np.uint64))
    outs = call(place, SPECS["random_words"], (control,), {"shape": shape, "stream": stream, "call": count})
    return np.array(place.to_host(outs[0]))


def test_layout_is_what_is_written_down() -> None:
    """Element e is half e % 2 of word e // 2 % 4 of block e // 8; key (seed, stream), counter (block, step, call)."""
    found = draw("cpu:reference", (3, 7), 11, 5, 4, 99, 2).reshape(-1)
    for position, word in enumerate(found):
        e = 4 * 7 + position
        counter = tuple(np.array([v], np.uint64) for v in (e // 8, 5, 2, 0))
        key = tuple(np.array([v], np.uint64) for v in (11, 99))
        with np.errstate(over="ignore"):
            block = philox(NUMPY, counter, key)  # type: ignore[arg-type]
        assert int(word) == int(block[e // 2 % 4][0]) >> 32 * (e % 2) & 0xFFFFFFFF


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    seed=st.integers(0, ONES),
    step=st.integers(0, 2**40),
    row=st.integers(0, 2**30),
    stream=st.integers(0, ONES),
    count=st.integers(0, 100),
)
def test_kernel_and_reference_give_the_same_bits(
    shape: tuple[int, ...], seed: int, step: int, row: int, stream: int, count: int
) -> None:
    one = draw("cpu", shape, seed, step, row, stream, count)
    other = draw("cpu:reference", shape, seed, step, row, stream, count)
    assert one.dtype == other.dtype == np.uint32
    assert one.shape == shape
    assert one.tobytes() == other.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.integers(2, 20),
    columns=st.integers(1, 9),
    cut=st.integers(1, 19),
    device=st.sampled_from(["cpu", "cpu:reference"]),
)
def test_micro_batches_continue_the_stream(rows: int, columns: int, cut: int, device: str) -> None:
    cut = min(cut, rows - 1)
    whole = draw(device, (rows, columns), 3, 1, 10, 5, 0)
    first = draw(device, (cut, columns), 3, 1, 10, 5, 0)
    rest = draw(device, (rows - cut, columns), 3, 1, 10 + cut, 5, 0)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)


@pytest.mark.parametrize("which", range(4))
def test_seed_step_stream_and_call_each_matter(which: int) -> None:
    place = {0: (4, 1, 0, 5, 0), 1: (3, 2, 0, 5, 0), 2: (3, 1, 0, 6, 0), 3: (3, 1, 0, 5, 1)}[which]
    base = draw("cpu", (64,), 3, 1, 0, 5, 0)
    assert not np.array_equal(base, draw("cpu", (64,), *place))


def test_words_are_even_and_uncorrelated() -> None:
    words = draw("cpu", (200, 100), 1, 2, 0, 3, 0) / 2**32
    assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * words.size)
    assert abs(np.corrcoef(words[:-1].ravel(), words[1:].ravel())[0, 1]) < 5 / np.sqrt(words.size)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expectation_and_the_same_mask_everywhere(rate: float) -> None:
    results = []
    for name in ("cpu", "cpu:reference"):
        place = find_device(name)
        inputs = (place.asarray(np.ones((100, 100))), place.asarray(np.array([1, 2, 0, 0], np.uint64)))
        results.append(call(place, SPECS["dropout"], inputs, {"rate": rate, "stream": 4})[0])
    y = results[0]
    np.testing.assert_allclose(y, results[1], rtol=1e-15)
    assert set(np.unique(y)) == {0.0, 1.0 / (1.0 - rate)}
    assert abs((y > 0).mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / y.size)


def test_streams_count_calls_and_write_the_control_array() -> None:
    run = Streams(7)
    cpu = find_device("cpu")
    control = run.control(cpu)
    assert control.tolist() == [7, 0, 0, 0]
    assert [run.next_call("a"), run.next_call("a"), run.next_call("b")] == [0, 1, 0]
    run.begin(3, row=16)
    assert control.tolist() == [7, 3, 16, 0], "a recorded step reads the new values from the same memory"
    assert run.next_call("a") == 0
    run.advance()
    assert control.tolist() == [7, 4, 0, 0]


def test_rewinding_restores_everything() -> None:
    run = Streams(7)
    control = run.control(find_device("cpu"))
    run.begin(2, 8)
    before = dict(run.calls)
    run.next_call("a")
    run.begin(3)
    run.next_call("a")
    with run.rewound(before, 2, 8):
        assert run.next_call("a") == 0
        assert control.tolist() == [7, 2, 8, 0]
    assert (run.step, run.row, run.calls) == (3, 0, {"a": 1})
    assert control.tolist() == [7, 3, 0, 0]
    with pytest.raises(KeyError), run.rewound({}, 9):
        raise KeyError
    assert control.tolist() == [7, 3, 0, 0]


def test_seeds_and_generators() -> None:
    kept = streams()
    set_seed(5)
    assert streams().seed == 5
    one = host_generator("dense.kernel").random(3)
    assert np.array_equal(one, host_generator("dense.kernel", 5).random(3))
    assert not np.array_equal(one, host_generator("dense.bias").random(3))
    with surroundings(streams=Streams(6)):
        assert not np.array_equal(one, host_generator("dense.kernel").random(3))
    set_seed(kept.seed)
    assert stream_number("a") != stream_number("b")
    for wrong in (-1, 2**64, 1.5, True, "a"):
        with pytest.raises(ValueError, match="a seed is a whole number"):
            set_seed(wrong)  # type: ignore[arg-type]
