"""The shape of a pipeline: its tasks put together to steps, in layers, each with a place on a plane. Pure.

Few tasks are a step each; of more, those of one name and layer are one step; of very many, those of one name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from nbtasks.graph import Member
from nbtasks.status import Status

MOST = 30  # steps on one picture
_SWEEPS = 6
_WORST = (Status.FAILED, Status.RUNNING, Status.CANCELLED, Status.QUEUED, Status.WAITING, Status.SUCCEEDED)
REST = "more"  # the name of the step that holds what found no place


@dataclass
class Step:
    """What stands in one box."""

    name: str
    ids: list[str] = field(default_factory=list)
    layer: int = 0
    parents: list[int] = field(default_factory=list)  # indices of steps
    counts: Counter[Status] = field(default_factory=Counter)
    span: tuple[float, float | None] | None = None

    @property
    def status(self) -> Status:
        """What most wants to be seen of its tasks."""
        return next((status for status in _WORST if self.counts[status]), Status.WAITING)

    @property
    def short(self) -> str:
        """The id that people type, of a step of one task."""
        return self.ids[0].rpartition("-")[2] if len(self.ids) == 1 else ""


def steps_of(members: Mapping[str, Member], most: int = MOST) -> list[Step]:
    """The steps of a pipeline, a step after all that it comes after. Layers count from 0."""
    members = _without_maps(members)
    depth = depths(members)
    names = Counter(one.spec.name for one in members.values())
    kept = {name for name, _ in names.most_common(most - 1 if len(names) > most else most)}
    ways: list[Callable[[str, Member], Hashable]] = [
        lambda id, one: id,
        lambda id, one: (one.spec.name, depth[id]),
        lambda id, one: one.spec.name if one.spec.name in kept else REST,
    ]
    for way in ways:
        keys = {id: way(id, one) for id, one in members.items()}
        if len(set(keys.values())) <= most:
            break
    return _together(members, depth, keys)


def _without_maps(members: Mapping[str, Member]) -> dict[str, Member]:
    """A map that has made its tasks is left out: what comes after it is shown after these."""
    items = {
        id: one.parents
        for id, one in members.items()
        if one.spec.kind == "map" and set(one.parents) - set(one.spec.dependencies)
    }
    found = {}
    for id, one in members.items():
        if id not in items:
            parents = dict.fromkeys(new for parent in one.parents for new in items.get(parent, (parent,)))
            found[id] = replace(one, parents=tuple(parents)) if items else one
    return found


def depths(members: Mapping[str, Member]) -> dict[str, int]:
    """How many tasks each comes after, in the longest chain."""
    children: dict[str, list[str]] = {}
    missing = {id: len(one.parents) for id, one in members.items()}
    for id, one in members.items():
        for parent in one.parents:
            children.setdefault(parent, []).append(id)
    found = dict.fromkeys(members, 0)
    todo = [id for id, count in missing.items() if not count]
    for id in todo:
        for child in children.get(id, ()):
            found[child] = max(found[child], found[id] + 1)
            missing[child] -= 1
            if not missing[child]:
                todo.append(child)
    return found


def _together(members: Mapping[str, Member], depth: Mapping[str, int], keys: Mapping[str, Hashable]) -> list[Step]:
    found: dict[Hashable, Step] = {}
    for id, one in members.items():
        step = found.setdefault(keys[id], Step(REST if keys[id] == REST else one.spec.name, layer=depth[id]))
        step.ids.append(id)
        step.layer = min(step.layer, depth[id])
        step.counts[one.status] += 1
        step.span = _join(step.span, one.span)
    order = sorted(found, key=lambda key: found[key].layer)
    layers = {layer: at for at, layer in enumerate(sorted({step.layer for step in found.values()}))}
    index = {key: at for at, key in enumerate(order)}
    edges = {(keys[parent], keys[id]) for id, one in members.items() for parent in one.parents if parent in keys}
    for step in found.values():
        step.layer = layers[step.layer]
    for parent, child in sorted(edges, key=lambda edge: index[edge[0]]):
        if found[parent].layer < found[child].layer:  # names put together may look like a circle
            found[child].parents.append(index[parent])
    return [found[key] for key in order]


def _join(
    one: tuple[float, float | None] | None, other: tuple[float, float | None] | None
) -> tuple[float, float | None] | None:
    if one is None or other is None:
        return one or other
    ended = None if one[1] is None or other[1] is None else max(one[1], other[1])
    return min(one[0], other[0]), ended


# Places on a plane.


class Plan(NamedTuple):
    """Where each step stands (its left upper corner), the points of each edge, and how large all of it is. Pixels."""

    boxes: list[tuple[int, int]]
    edges: list[list[tuple[float, float]]]
    width: int
    height: int
    down: bool  # layers follow each other downwards, else to the right


BOX = (168, 44)
_GAP, _THIN = 16, 12  # between boxes of a layer, and what an edge takes that passes by
_ASIDE, _DOWN = 44, 34  # between layers
_WIDE = 830


def plan(steps: Sequence[Step]) -> Plan:
    """Lay the steps out, to the right if that fits on a page, else downwards."""
    layers, chains = _layers(steps)
    for turn in range(_SWEEPS):
        _sort(layers, chains, down=turn % 2 == 0)
    across = len(layers) * (BOX[0] + _ASIDE) - _ASIDE
    broadest = max((sum(node < len(steps) for node in layer) for layer in layers), default=1)
    down = across > _WIDE and broadest * (BOX[0] + _GAP) - _GAP < across
    return _place(layers, chains, len(steps), down)


def _layers(steps: Sequence[Step]) -> tuple[list[list[int]], list[list[int]]]:
    """The nodes of each layer, and each edge as a chain of nodes. Where an edge passes a layer, it has a node there."""
    layers: list[list[int]] = [[] for _ in range(max((step.layer for step in steps), default=0) + 1)]
    for at, step in enumerate(steps):
        layers[step.layer].append(at)
    chains, next_one = [], len(steps)
    for at, step in enumerate(steps):
        for parent in step.parents:
            chain = [parent]
            for layer in range(steps[parent].layer + 1, step.layer):
                layers[layer].append(next_one)
                chain.append(next_one)
                next_one += 1
            chains.append([*chain, at])
    return layers, chains


def _sort(layers: list[list[int]], chains: list[list[int]], down: bool) -> None:
    """Bring each node near the middle of its neighbours in the layer before (or behind)."""
    near: dict[int, list[int]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            near.setdefault(other if down else one, []).append(one if down else other)
    order = layers if down else layers[::-1]
    spot = {node: at / max(1, len(layer)) for layer in layers for at, node in enumerate(layer)}
    for layer in order:
        middle = {
            node: sum(spot[n] for n in near[node]) / len(near[node]) if node in near else spot[node] for node in layer
        }
        layer.sort(key=middle.__getitem__)
        for at, node in enumerate(layer):
            spot[node] = (at + 0.5) / len(layer)


def _place(layers: list[list[int]], chains: list[list[int]], boxes: int, down: bool) -> Plan:
    long, broad, stride = (BOX[1], BOX[0], _DOWN) if down else (*BOX, _ASIDE)
    sizes = [sum((broad if node < boxes else _THIN) + _GAP for node in layer) - _GAP for layer in layers]
    whole = max(sizes, default=0)
    spots: dict[int, tuple[float, float]] = {}  # along the layers, across them: the middle
    for number, layer in enumerate(layers):
        at = (whole - sizes[number]) / 2
        for node in layer:
            size = broad if node < boxes else _THIN
            spots[node] = (number * (long + stride) + long / 2, at + size / 2)
            at += size + _GAP
    length = len(layers) * (long + stride) - stride

    def turn(along: float, across: float) -> tuple[float, float]:
        return (across, along) if down else (along, across)

    corners = [turn(*spots[node]) for node in range(boxes)]
    edges = []
    for chain in chains:
        first, last = spots[chain[0]], spots[chain[-1]]
        # Straight past the boxes of a layer, so that no bend touches them.
        sides = ((spots[node], side) for node in chain[1:-1] for side in (-long / 2, long / 2))
        between = [(spot[0] + side, spot[1]) for spot, side in sides]
        points = [(first[0] + long / 2, first[1]), *between, (last[0] - long / 2, last[1])]
        edges.append([turn(*point) for point in points])
    extent = turn(length, whole)
    placed = [(round(x - BOX[0] / 2), round(y - BOX[1] / 2)) for x, y in corners]
    return Plan(placed, edges, round(extent[0]), round(extent[1]), down)
