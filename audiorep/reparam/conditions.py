"""Conditions on sizes under which a captured graph is the network: where they come from, what breaks them, in code and words.

The exporter runs a network on symbols and notes every question about them that was answered for the example. Most are the
network's own (`if x.shape[2] % 2`); they stay. Some are the exporter's: whether a tensor of one row counts as contiguous.
Such a one is told by two things together: it was asked inside torch, and solving it for its symbols shows that among sizes
of at least one it fails at one alone. Only then may a measurement there show that it is idle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy
import torch

from audiorep.errors import FuseError

_FRAMEWORK = {Path(torch.__file__).resolve().parent, Path(__file__).resolve().parent}
"""Where torch is, and the engine, which hands calls on to it while it captures."""
_NAMES = {"math": math, "max": max, "min": min, "abs": abs, "round": round, "int": int, "float": float, "bool": bool}
_LESS, _GREATER = (sympy.StrictLessThan, sympy.LessThan), (sympy.StrictGreaterThan, sympy.GreaterThan)


@dataclass(frozen=True)
class Condition:
    """One condition on the sizes of the inputs."""

    code: str
    """As Python over the names of the sizes."""
    names: frozenset[str]
    """The sizes that it is about."""
    own: bool
    """Asked by the network's own code."""
    ones: frozenset[str] | None
    """The sizes that break it exactly where they are all one; None if other sizes break it too, or it cannot be solved."""
    sentence: str
    """As a sentence over the names of the sizes."""
    bound: tuple[str, str, int] | None = None
    """(expression, >= or !=, number) if it is one of the two."""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether these sizes meet it; False where it cannot be told."""
        try:
            return bool(eval(self.code, {"__builtins__": {}, **_NAMES}, dict(sizes)))
        except Exception:  # a division by a size that became zero, for example
            return False

    @property
    def may_be_idle(self) -> bool:
        """Whether it is the exporter's own, and a measurement at sizes of one may show that it is not needed."""
        return self.ones is not None and not self.own


def conditions(guards: Iterable[Any], replaced: Mapping[Any, Any], free: Iterable[str]) -> list[Condition]:
    """What a graph asks of the sizes of its inputs, each once.

    Args:
        guards: of the exporter: each has an expression `expr` and the place `sloc` where it was asked.
        replaced: what is known of symbols: other symbols or numbers.
        free: names of the sizes that are left. The exporter takes it for granted that none of them is one.
    """
    found: dict[str, Condition] = {}
    for guard in guards:
        for part in sympy.And.make_args(sympy.sympify(guard.expr).xreplace(dict(replaced))):
            for expression in _factors(part):
                _add(found, _tidied(expression), _is_own(guard.sloc))
    for name in free:
        _add(found, sympy.Ne(sympy.Symbol(name, integer=True, positive=True), 1), False)
    return _strongest(found.values())


def _strongest(listed: Iterable[Condition]) -> list[Condition]:
    """Without those that a lower bound of the same expression, which stays, says already."""
    listed = list(listed)
    bounds: dict[str, int] = {}
    for condition in listed:
        if condition.bound is not None and condition.bound[1] == ">=" and not condition.may_be_idle:
            value, _, number = condition.bound
            bounds[value] = max(bounds.get(value, number), number)
    return [c for c in listed if c.bound is None or c.bound[2] >= bounds.get(c.bound[0], c.bound[2])]


def _factors(expression: Any) -> list[Any]:
    """A product that is not zero as factors that are not, without the sizes and numbers among them."""
    if not isinstance(expression, sympy.Ne) or expression.rhs != 0:
        return [expression]
    factors = [f for f in sympy.Mul.make_args(expression.lhs) if not (f.is_Symbol or f.is_number)]
    return [sympy.Ne(factor, 0) for factor in factors] if expression.lhs.is_Mul else [expression]


def _tidied(expression: Any) -> Any:
    """A relation with its numbers on the right: a size − 2 above 0 as the size above 2."""
    if not isinstance(expression, (sympy.Ne, sympy.Eq, *_LESS, *_GREATER)) or not expression.rhs.is_number:
        return expression
    number, rest = expression.lhs.as_coeff_Add()
    return expression.func(rest, expression.rhs - number) if number and rest.free_symbols else expression


def _add(found: dict[str, Condition], expression: Any, own: bool) -> None:
    if expression in (sympy.true, True):
        return
    text = python_code(expression)
    ones = _ones(expression)
    if ones == frozenset():
        return
    known = found.get(text)
    own = own or (known is not None and known.own)
    found[text] = Condition(
        text, frozenset(map(str, expression.free_symbols)), own, ones, sentence(expression), _bound(expression)
    )


def _bound(expression: Any) -> tuple[str, str, int] | None:
    if not isinstance(expression, (sympy.Ne, *_GREATER)) or not expression.rhs.is_Integer:
        return None
    left, right = expression.args
    if isinstance(expression, sympy.Ne):
        return python_code(left), "!=", int(right)
    return python_code(left), ">=", int(right) + isinstance(expression, sympy.StrictGreaterThan)


def _is_own(place: Any) -> bool:
    """Whether a question was asked outside torch, or nobody knows where."""
    frame = getattr(place, "framework_loc", None)
    name = getattr(frame, "filename", None)
    return name is None or _FRAMEWORK.isdisjoint(Path(name).resolve().parents)


def _ones(expression: Any) -> frozenset[str] | None:
    """The symbols that break a condition exactly where all of them are one, among sizes of at least one.

    Empty if no such sizes break it; None if others do, or if it is no relation of polynomials. With t = s − 1 a relation
    becomes p(t) > 0 or p(t) ≠ 0 for t ≥ 0, with p = m + k. If all coefficients of m are positive, m is zero at t = 0 and
    positive elsewhere, and the answer can be read off its monomials.
    """
    if not isinstance(expression, (sympy.Ne, *_LESS, *_GREATER)):
        return None
    left, right = expression.args
    difference = right - left if isinstance(expression, _LESS) else left - right
    symbols = sorted(difference.free_symbols, key=str)
    if not symbols or not difference.is_polynomial(*symbols):
        return None
    above_one = {symbol: sympy.Symbol(str(symbol), integer=True, nonnegative=True) for symbol in symbols}
    polynomial = sympy.Poly(sympy.expand(difference.xreplace({s: t + 1 for s, t in above_one.items()})), *above_one.values())
    terms = dict(polynomial.terms())
    constant = terms.pop((0,) * len(symbols), sympy.Integer(0))
    if not terms or not all(number.is_integer for number in (constant, *terms.values())):
        return None
    k = _constant(expression, int(constant), [int(number) for number in terms.values()])
    if k is None or k < 0:
        return None
    return frozenset() if k > 0 else _vanishing(list(terms), [str(symbol) for symbol in symbols])


def _constant(relation: Any, constant: int, factors: list[int]) -> int | None:
    """k, where a relation of `constant` and a sum with these factors means m + k > 0 and m is never below zero."""
    unit = math.gcd(*factors)
    if isinstance(relation, sympy.Ne):
        if all(factor < 0 for factor in factors):
            factors, constant = [-factor for factor in factors], -constant
        elif any(factor < 0 for factor in factors):
            return None
        return 1 if constant % unit else constant // unit  # what is no multiple is never reached
    if any(factor < 0 for factor in factors):
        return None
    strict = isinstance(relation, sympy.StrictGreaterThan | sympy.StrictLessThan)
    return -(-constant // unit) if strict else constant // unit + 1


def _vanishing(monomials: list[tuple[int, ...]], names: list[str]) -> frozenset[str] | None:
    """The symbols that must be zero for every monomial to be, if that is one set of them."""
    single = {next(i for i, power in enumerate(powers) if power) for powers in monomials if sum(map(bool, powers)) == 1}
    if all(any(powers[i] for i in single) for powers in monomials):
        return frozenset(names[i] for i in single)
    return None


def python_code(expression: Any) -> str:
    """An expression as Python over the names of its symbols.

    Raises:
        FuseError: this torch cannot write it.
    """
    try:
        from torch.utils._sympy.printers import PythonPrinter

        return str(PythonPrinter().doprint(expression))
    except (ImportError, AttributeError, NotImplementedError, TypeError) as error:
        raise FuseError(f"torch {torch.__version__} cannot write the condition {expression} ({error}).") from error


_RELATIONS = {
    sympy.Eq: "equals",
    sympy.Ne: "is not",
    sympy.StrictLessThan: "is less than",
    sympy.LessThan: "is at most",
    sympy.StrictGreaterThan: "is greater than",
    sympy.GreaterThan: "is at least",
}


def sentence(expression: Any) -> str:
    """A condition as a sentence over the names of its symbols."""
    for kind, joint in ((sympy.And, " and "), (sympy.Or, " or ")):
        if isinstance(expression, kind):
            return joint.join(sentence(part) for part in expression.args)
    relation = next((verb for kind, verb in _RELATIONS.items() if isinstance(expression, kind)), None)
    if relation is None:
        return f"{python_code(expression)} holds"
    left, right = expression.args
    if left.is_number and not right.is_number:
        turned = expression.reversed
        relation = next(verb for kind, verb in _RELATIONS.items() if isinstance(turned, kind))
        left, right = turned.args
    if type(left).__name__ in ("Mod", "PythonMod") and right.is_number:
        value, unit = left.args
        return _remainder(value, unit, right, relation)
    return f"{_plain(left)} {relation} {_plain(right)}"


def _remainder(value: Any, unit: Any, rest: Any, relation: str) -> str:
    if relation not in ("equals", "is not"):
        return f"the remainder of {_plain(value)} by {unit} {relation} {rest}"
    is_not = "is not" if relation == "is not" else "is"
    if unit == 2:
        return f"{_plain(value)} is {'even' if (rest == 0) == (is_not == 'is') else 'odd'}"
    more = f" plus {rest}" if rest != 0 else ""
    return f"{_plain(value)} {is_not} a multiple of {unit}{more}"


def _plain(expression: Any) -> str:
    """A number or a product of sizes, with the divisions that round down said in words."""
    text = python_code(expression)
    text = re.sub(r"\(-(\d+)\) \+ ([\w.]+|\(.*\))$", r"\2 - \1", text)
    text = re.sub(r"\s*//\s*", " divided (rounded down) by ", text)
    return text.removeprefix("(").removesuffix(")") if _is_wrapped(text) else text


def _is_wrapped(text: str) -> bool:
    """Whether one pair of brackets holds all of a text."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place < len(text) - 1:
            return False
    return text.startswith("(") and text.endswith(")")
