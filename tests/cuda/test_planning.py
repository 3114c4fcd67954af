"""Recorded steps in one block of memory, and their calls in shared launches: nothing that depends is confused."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from deepbabysit_cupy.planning import ALIGNMENT, Buffer, lay_out
from deepbabysit_cupy.waves import LOOK_BACK, MOST_BLOCKS, Item, Work, arrange

_BUFFERS = st.lists(
    st.builds(
        lambda size, first, life: Buffer(size, first, first + life), st.integers(1, 40000), st.integers(0, 40),
        st.integers(0, 12),
    ),
    max_size=40,
)


@given(_BUFFERS)
def test_buffers_that_live_at_once_do_not_overlap(buffers):
    places, total = lay_out(buffers)
    for i, (x, at) in enumerate(zip(buffers, places, strict=True)):
        assert at % ALIGNMENT == 0
        assert at + x.size <= total
        for y, other in zip(buffers[:i], places[:i], strict=True):
            together = x.first <= y.last and y.first <= x.last
            assert not together or at + x.size <= other or other + y.size <= at
    assert total <= sum(-(-b.size // ALIGNMENT) * ALIGNMENT for b in buffers)


def test_a_chain_of_layers_needs_room_for_two():
    buffers = [Buffer(1 << 20, n, n + 1) for n in range(50)]
    assert lay_out(buffers)[1] == 2 << 20


@dataclass(eq=False)
class Fake:
    """As much of a launch as the order needs."""

    blocks: int
    block: tuple = (256,)
    arguments: tuple = ()
    rows: tuple | None = None


ROWWISE = -1  # three blocks that take four rows each


def _works(draw_list):
    works = []
    for number, (blocks, reads, write) in enumerate(draw_list):
        rowwise = blocks == ROWWISE
        launch = Fake(3 if rowwise else blocks, rows=(12, 4) if rowwise else None) if blocks else None
        works.append(Work(number, launch, [(r, r + 1) for r in reads], [(write, write + 1)]))
    return works


_CALLS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1, 1, 3, 100, ROWWISE, ROWWISE]), st.lists(st.integers(0, 8), max_size=3),
        st.integers(0, 8),
    ),
    max_size=40,
)


@given(_CALLS)
def test_what_depends_keeps_its_order(calls):
    works = _works(calls)
    items = arrange(works)
    assert sorted(w.call for item in items for w in item.works) == list(range(len(works)))
    moment = {}  # (item, part, lane, place): parts 0 are lanes, part 1 is the tail
    for number, item in enumerate(items):
        for lane, members in enumerate(item.lanes):
            moment.update({w.call: (number, 0, lane, place) for place, w in enumerate(members)})
        moment.update({w.call: (number, 1, 0, place) for place, w in enumerate(item.tail)})
        if item.alone is None:
            assert all(w.launch is not None for w in item.works)
            assert all(w.single for w in item.tail)
            for lane in item.lanes:
                assert all(w.launch.blocks == lane[0].launch.blocks for w in lane)
                pairs = [(a, b) for place, a in enumerate(lane) for b in lane[place + 1 :] if a.before(b)]
                assert lane[0].single or all(a.alike(b) for a, b in pairs)
            assert sum(lane[0].launch.blocks for lane in item.lanes) <= MOST_BLOCKS
    for first in works:
        for second in works[first.call + 1 :]:
            if first.before(second):
                a, b = moment[first.call], moment[second.call]
                assert a < b
                assert a[:2] != b[:2] or a[1] == 1 or a[2] == b[2]  # lanes of one launch run at once


def test_scalars_between_products_share_launches():
    # product, loss over many blocks, its mean, its sum, product: three launches
    calls = [(0, [], 0), (100, [0], 1), (1, [1], 2), (1, [2], 3), (0, [1], 4)]
    assert [len(item.works) for item in arrange(_works(calls))] == [1, 3, 1]


def test_rows_follow_one_another_in_their_blocks():
    calls = [(ROWWISE, [], 0), (ROWWISE, [0], 1), (1, [1], 2)]
    (item,) = arrange(_works(calls))
    assert [len(lane) for lane in item.lanes] == [2] and len(item.tail) == 1
    whole, part = _works([(ROWWISE, [], 0), (ROWWISE, [], 1)])
    part.reads.append((0, 2))  # more than the rows that the first writes
    assert len(arrange([whole, part])) == 2


def test_a_call_moves_up_only_so_far():
    calls = [(1, [], 0), *[(0, [], 1)] * (LOOK_BACK + 1), (1, [], 2)]
    assert all(item.alone for item in arrange(_works(calls)))


def test_an_item_takes_nothing_of_another_block_size():
    item = Item([[Work(0, Fake(1), [], [])]])
    assert item.place(Work(1, Fake(1, (128,)), [], [])) is None
