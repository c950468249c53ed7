"""Rules for maps that read one input: parallel branches of a sum, and siblings of a concatenation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import fx

from audiorep.errors import FuseError
from audiorep.reparam import algebra
from audiorep.reparam.affine import Affine, Sum, identity
from audiorep.reparam.algebra import Taps
from audiorep.reparam.layout import fixed_size
from audiorep.reparam.nodes import argument, arguments, operation, rank, shape, source
from audiorep.reparam.rules import Edit, Make, Match, join, resized, spread

aten = torch.ops.aten


def parallel(node: fx.Node) -> Iterator[Match]:
    """Proposes to merge the terms of a sum that read one input into one map, the largest merges first."""
    if not isinstance(node.target, Sum):
        return
    sources: dict[fx.Node, list[tuple[int, list[fx.Node]]]] = {}
    for position, term in enumerate(arguments(node)):
        for start, chain in _chains(term):
            sources.setdefault(start, []).append((position, chain))
    for start, terms in sources.items():
        several = len(terms) > 1 and any(chain for _, chain in terms)
        if not several or len({position for position, _ in terms}) < len(terms):
            continue
        yield _sum(node, start, terms)
        ordered = sorted(terms, key=lambda item: -sum(operation(n).taps.weight.numel() for n in item[1]))
        if len(terms) > 2:
            for other in ordered[1:]:
                yield _sum(node, start, [ordered[0], other])
            for index, first in enumerate(ordered[1:], start=1):
                for other in ordered[index + 1 :]:
                    if first[1] or other[1]:
                        yield _sum(node, start, [first, other])


def _chains(term: fx.Node) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """(source, maps from the last to the first) for every node before a term from which only maps lead to the term."""
    chain: list[fx.Node] = []
    yield term, []
    while isinstance(term.target, Affine) and len(term.users) == 1:
        chain = [*chain, term]
        term = source(term)
        yield term, chain


def _sum(node: fx.Node, start: fx.Node, terms: list[tuple[int, list[fx.Node]]]) -> Match:
    total = node.target
    assert isinstance(total, Sum)
    main = next(chain[0] for _, chain in terms if chain)
    merged = [step for _, chain in terms for step in chain]
    positions = {position for position, _ in terms}
    rest = [(factor, term) for i, (factor, term) in enumerate(zip(total.factors, node.args, strict=True)) if i not in positions]
    lengths = [(total.factors[position], len(chain)) for position, chain in terms]

    def build(make: Make) -> dict[fx.Node, Edit]:
        def function(*parts: Affine) -> Affine:
            return _added(parts, lengths, start)

        made = make(function, tuple(step.target for step in merged), ("sum", tuple(lengths)))
        edits = {main: Edit(made, (start,))}
        if rest:
            first = [factor for factor, _ in rest]
            edits[node] = Edit(Sum((*first, 1.0)), (*(term for _, term in rest), main))
        else:
            edits[node] = Edit(identity, (main,))
        return edits

    return Match("parallel branches", [*merged, node], merged, build)


def _added(parts: tuple[Affine, ...], lengths: list[tuple[float, int]], start: fx.Node) -> Affine:
    """The sum of chains of maps, each with its factor; an empty chain is the identity."""
    axes = {part.axis for part in parts if part.axis is not None}
    if len(axes) > 1:
        raise FuseError("the branches work along different axes.")
    axis = axes.pop() if axes else None
    channels = 1 if axis is None else fixed_size(shape(start)[axis])
    if channels is None:
        raise FuseError("the number of channels is free.")
    total, place, identities = None, 0, 0.0
    for factor, length in lengths:
        if not length:
            identities += factor
            continue
        branch = _composed_chain(parts[place : place + length], channels)
        place += length
        if factor != 1:
            branch = algebra.scale(branch, branch.weight.new_full((branch.outputs,), factor), None, False)
        total = branch if total is None else algebra.add(total, branch)
    assert total is not None
    if identities:
        if total.outputs != total.inputs:
            raise FuseError("an identity needs as many channels out as in.")
        total = algebra.add(total, algebra.unit(channels, len(total.size), total.weight, identities))
    members = () if not identities else (("identity", ""),)
    made = join(algebra.flattened(total), axis, *parts)
    return replace(made, members=(*made.members, *members))


def _composed_chain(parts: tuple[Affine, ...], channels: int) -> Taps:
    """One map equal to `parts`, which are ordered from the last to the first."""
    total: Taps | None = None
    for part in reversed(parts):
        taps = spread(part.taps, channels if total is None else total.outputs) if part.axis is None else part.taps
        total = taps if total is None else algebra.compose(total, taps)
    assert total is not None
    return total


def siblings(node: fx.Node) -> Iterator[Match]:
    """Proposes to merge convolutions of one input whose outputs are concatenated, the longest runs first."""
    if node.target is not aten.cat.default:
        return
    along = argument(node, 1, 0) % rank(node)
    for run in _runs(list(arguments(node)[0]), along):
        for length in range(len(run), 1, -1):
            for start in range(len(run) - length + 1):
                yield _stacked(node, run[start : start + length], along)


def _runs(pieces: list[fx.Node], along: int) -> list[list[fx.Node]]:
    """Runs of neighbors among `pieces` that are maps of one input and that nothing else reads."""
    runs: list[list[fx.Node]] = [[]]
    for piece in pieces:
        target = piece.target
        fits = isinstance(target, Affine) and not target.pool and not target.taps.is_scale and target.axis == along
        if not fits or len(piece.users) != 1 or pieces.count(piece) != 1:
            runs.append([])
        elif runs[-1] and runs[-1][-1].args[0] is not piece.args[0]:
            runs.append([piece])
        else:
            runs[-1].append(piece)
    return [run for run in runs if len(run) > 1]


def _stacked(node: fx.Node, run: list[fx.Node], along: int) -> Match:
    others = [piece for piece in arguments(node)[0] if piece not in run[1:]]

    def build(make: Make) -> dict[fx.Node, Edit]:
        def function(*parts: Affine) -> Affine:
            return join(algebra.flattened(algebra.stack([part.taps for part in parts])), along, *parts)

        made = make(function, tuple(piece.target for piece in run), ("stack",))
        first = Edit(made, run[0].args, resized(run[0], along, made.taps.outputs))
        last = Edit(node.target, (others, along)) if len(others) > 1 else Edit(identity, (run[0],))
        return {run[0]: first, node: last}

    return Match("siblings", [*run, node], run, build)
