"""The conditions on sizes under which a captured graph computes what the network computes.

The exporter runs a network on symbolic sizes and records a guard for every question about them. Most questions are the
network's own (`if x.shape[2] % 2`), and these conditions stay. Some are the exporter's, for example whether a tensor with
one row is contiguous. A condition counts as the exporter's if it was asked inside torch and, among sizes of at least one,
fails only where sizes are one. Such a condition is dropped if measurements at size one show that it is not needed.
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
"""The folders of torch, and of the engine, whose wrappers call torch during a capture."""
_NAMES = {"math": math, "max": max, "min": min, "abs": abs, "round": round, "int": int, "float": float, "bool": bool}
_LESS, _GREATER = (sympy.StrictLessThan, sympy.LessThan), (sympy.StrictGreaterThan, sympy.GreaterThan)


@dataclass(frozen=True)
class Condition:
    """One condition on the sizes of the inputs."""

    code: str
    """A Python expression over the names of the sizes."""
    names: frozenset[str]
    """The names of the sizes in it."""
    own: bool
    """Whether the network's own code asked it."""
    ones: frozenset[str] | None
    """The sizes that violate it exactly where all of them are one; None if others violate it too, or it cannot be solved."""
    sentence: str
    """A sentence over the names of the sizes."""
    bound: tuple[str, str, int] | None = None
    """(expression, relation, number) for a relation `>=` or `!=` with a number."""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether these sizes satisfy it; False if it cannot be evaluated."""
        try:
            return bool(eval(self.code, {"__builtins__": {}, **_NAMES}, dict(sizes)))
        except Exception:  # for example a division by a size that became zero
            return False

    @property
    def may_be_idle(self) -> bool:
        """Whether it is the exporter's, so that a measurement at sizes of one may show that it is not needed."""
        return self.ones is not None and not self.own


def conditions(guards: Iterable[Any], replaced: Mapping[Any, Any], free: Iterable[str]) -> list[Condition]:
    """The conditions of a graph on the sizes of its inputs, without duplicates.

    Args:
        guards: the exporter's guards, each with an expression `expr` and the place in the code `sloc`.
        replaced: symbols that equal other symbols or numbers.
        free: the names of the free sizes. The exporter assumes that none of them is one.
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
    """The conditions without those that a larger lower bound of the same expression implies."""
    listed = list(listed)
    bounds: dict[str, int] = {}
    for condition in listed:
        if condition.bound is not None and condition.bound[1] == ">=" and not condition.may_be_idle:
            value, _, number = condition.bound
            bounds[value] = max(bounds.get(value, number), number)
    return [c for c in listed if c.bound is None or c.bound[2] >= bounds.get(c.bound[0], c.bound[2])]


def _factors(expression: Any) -> list[Any]:
    """Splits "a product is not zero" into "a factor is not zero", without factors that are sizes or numbers."""
    if not isinstance(expression, sympy.Ne) or expression.rhs != 0:
        return [expression]
    factors = [f for f in sympy.Mul.make_args(expression.lhs) if not (f.is_Symbol or f.is_number)]
    return [sympy.Ne(factor, 0) for factor in factors] if expression.lhs.is_Mul else [expression]


def _tidied(expression: Any) -> Any:
    """A relation with all numbers on the right: `s - 2 > 0` becomes `s > 2`."""
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
    """Whether a guard comes from outside torch, or from an unknown place."""
    frame = getattr(place, "framework_loc", None)
    name = getattr(frame, "filename", None)
    return name is None or _FRAMEWORK.isdisjoint(Path(name).resolve().parents)


def _ones(expression: Any) -> frozenset[str] | None:
    """The symbols that violate a condition exactly where all of them are one, among sizes of at least one.

    The set is empty if no such sizes violate the condition. The result is None if other sizes violate it too, or if it is
    not a relation of polynomials. With t = s − 1 a relation becomes p(t) > 0 or p(t) ≠ 0 for t ≥ 0, where p = m + k with a
    constant k. If all coefficients of m are positive, m is zero at t = 0 and positive elsewhere, and its monomials give
    the answer.
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
    """The k with which a relation between `constant` and a sum with these factors becomes m + k > 0, where m ≥ 0."""
    unit = math.gcd(*factors)
    if isinstance(relation, sympy.Ne):
        if all(factor < 0 for factor in factors):
            factors, constant = [-factor for factor in factors], -constant
        elif any(factor < 0 for factor in factors):
            return None
        return 1 if constant % unit else constant // unit  # a value that is no multiple of the unit is never reached
    if any(factor < 0 for factor in factors):
        return None
    strict = isinstance(relation, sympy.StrictGreaterThan | sympy.StrictLessThan)
    return -(-constant // unit) if strict else constant // unit + 1


def _vanishing(monomials: list[tuple[int, ...]], names: list[str]) -> frozenset[str] | None:
    """The symbols that must be zero so that all monomials are zero, if there is exactly one such set."""
    single = {next(i for i, power in enumerate(powers) if power) for powers in monomials if sum(map(bool, powers)) == 1}
    if all(any(powers[i] for i in single) for powers in monomials):
        return frozenset(names[i] for i in single)
    return None


def python_code(expression: Any) -> str:
    """Python code for an expression over the names of its symbols.

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
    """A sentence for a condition over the names of its symbols."""
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
    """A number or an expression of sizes, with floor divisions in words."""
    text = python_code(expression)
    text = re.sub(r"\(-(\d+)\) \+ ([\w.]+|\(.*\))$", r"\2 - \1", text)
    text = re.sub(r"\s*//\s*", " divided (rounded down) by ", text)
    return text.removeprefix("(").removesuffix(")") if _is_wrapped(text) else text


def _is_wrapped(text: str) -> bool:
    """Whether one pair of parentheses encloses the whole text."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place < len(text) - 1:
            return False
    return text.startswith("(") and text.endswith(")")
