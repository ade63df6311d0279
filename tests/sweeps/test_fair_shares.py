"""Fair shares of a cluster, as pure functions of its nodes and of what the sweeps wish for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweeps.execution.fair import Wish, shares
from sweeps.execution.nodes import described, places, taken

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
MOST = st.dictionaries(NAMES, st.integers(1, 12), min_size=1)
ROOM = st.integers(0, 20)
AMOUNTS = st.fixed_dictionaries(
    {"CPU": st.integers(1, 4)}, optional={"GPU": st.sampled_from([0.25, 0.4, 0.5, 1.0, 2.0])}
)
NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 8)}, optional={"GPU": st.integers(1, 4)}),
    max_size=4,
)


def divided(room: int, most: dict[str, int], turn: int = 0) -> dict[str, int]:
    """Shares of places of one CPU each, spread over two nodes."""
    nodes = [{"CPU": room // 2}, {"CPU": room - room // 2}]
    return shares(nodes, {name: Wish({"CPU": 1}, count) for name, count in most.items()}, turn)


@given(ROOM, MOST, st.integers(0, 10**9))
def test_every_place_is_somebody_s_as_far_as_they_are_wished_for(
    room: int, most: dict[str, int], turn: int
) -> None:
    found = divided(room, most, turn)
    assert found.keys() == most.keys()
    assert sum(found.values()) == min(room, sum(most.values()))
    assert all(0 <= found[name] <= most[name] for name in most)
    assert room < len(most) or min(found.values()) >= 1


@given(ROOM, MOST)
def test_nobody_has_less_than_another_who_could_give(room: int, most: dict[str, int]) -> None:
    found = divided(room, most)
    for name in most:
        if found[name] < most[name]:
            assert max(found.values()) <= found[name] + 1


@given(ROOM, MOST, st.permutations(["a", "b", "c", "d", "e"]))
def test_the_order_of_the_sweeps_does_not_matter(
    room: int, most: dict[str, int], order: list[str]
) -> None:
    again = {name: most[name] for name in order if name in most}
    assert divided(room, again) == divided(room, most)
    renamed = {order["abcde".index(name)]: count for name, count in most.items()}
    assert sorted(divided(room, renamed).values()) == sorted(divided(room, most).values())


@given(ROOM, MOST, NAMES)
def test_more_room_and_fewer_others_take_nothing_away(
    room: int, most: dict[str, int], leaving: str
) -> None:
    found = divided(room, most)
    more = divided(room + 1, most)
    assert all(more[name] >= found[name] for name in most)
    alone = divided(room, {name: count for name, count in most.items() if name != leaving})
    assert all(alone[name] >= found[name] for name in alone)


@given(st.integers(1, 4), MOST)
def test_everyone_has_a_turn(room: int, most: dict[str, int]) -> None:
    had = [divided(room, most, turn) for turn in range(len(most))]
    assert all(any(found[name] for found in had) for name in most)


@given(NODES, st.dictionaries(NAMES, st.tuples(AMOUNTS, st.integers(1, 9)), min_size=1))
def test_shares_of_unequal_needs_fit_and_leave_no_room(
    nodes: list[dict[str, float]], wanted: dict[str, tuple[dict[str, float], int]]
) -> None:
    wishes = {name: Wish(needs, most) for name, (needs, most) in wanted.items()}
    found = shares(nodes, wishes)
    for resource in ("CPU", "GPU"):
        used = sum(
            found[name] * taken(wish.needs).get(resource, 0) for name, wish in wishes.items()
        )
        assert used <= sum(node.get(resource, 0) for node in nodes) + 1e-6
    for name, wish in wishes.items():
        assert found[name] <= min(wish.most, places(nodes, wish.needs))
    if len(wishes) == 1:
        ((name, wish),) = wishes.items()
        assert found[name] == min(wish.most, places(nodes, wish.needs))


def test_who_needs_a_gpu_leaves_the_cpus_to_others() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]
    wishes = {"gpu": Wish({"CPU": 1, "GPU": 1}, 100), "plain": Wish({"CPU": 1}, 100)}
    assert shares(nodes, wishes) == {"gpu": 1, "plain": 15}


def test_a_thousand_places_are_shared() -> None:
    nodes = [{"CPU": 16.0, "memory": 2.0**36}] * 64
    wishes = {f"sweep{n}": Wish({"CPU": 1, "memory": 2.0**30}, 2**31) for n in range(8)}
    assert shares(nodes, wishes) == dict.fromkeys(wishes, 128)


def test_a_training_is_on_one_node() -> None:
    nodes = [{"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 1.0, "GPU": 2.0}]
    assert places(nodes, {"CPU": 2}) == 2
    assert places(nodes, {"CPU": 4}) == 0
    assert places([{"CPU": 0.3}], {"CPU": 0.1}) == 3
    # A part of a GPU is a part of one GPU.
    assert places([{"CPU": 9.0, "GPU": 2.0}], {"CPU": 1, "GPU": 0.6}) == 2
    assert places([{"CPU": 9.0, "GPU": 2.0}], {"CPU": 1, "GPU": 0.3}) == 6
    assert places([], {"CPU": 1}) == 0


def test_what_nodes_have_is_said_in_a_line() -> None:
    small = {"CPU": 2.0, "memory": 4.0 * 2**30, "node:1.2.3.4": 1.0}
    nodes = [small, small | {"node:1.2.3.4": 0.0}, {"CPU": 1.0, "GPU": 1.0, "ssd": 1.0}]
    assert described(nodes, {"CPU": 4, "tpu": 1}) == (
        "2 with 2 CPUs, 4 GiB of memory, 0 tpu each; 1 CPU, 1 GPU, 0 GiB of memory, 0 tpu"
    )
