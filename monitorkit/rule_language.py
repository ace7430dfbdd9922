"""The language of the monitor `rule`: one line such as `share(age < 21) < 0.01`, parsed, never run.

rule      = sum compare sum                    sum       = product (("+" | "-") product)*
compare   = "<" | "<=" | ">" | ">=" | "==" | "!="
product   = factor (("*" | "/") factor)*       factor    = "-" factor | atom
atom      = number | "reference" | call | "(" sum ")"
call      = "share" "(" condition ")" | "count" "(" [condition] ")"
| ("missing" | "mean" | "min" | "max") "(" row ")"
condition = all ("or" all)*                    all       = one ("and" one)*
one       = "not" one | "(" condition ")" | row compare row
row       = like sum, of numbers and columns   column    = name | `name` | "name" | 'name'
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Never, TypeVar

MOST_CHARACTERS = 500
MOST_NESTED = 40

FUNCTIONS: Mapping[str, str] = {
    "share": "share(age < 21)",
    "count": "count() or count(age < 21)",
    "missing": "missing(age)",
    "mean": "mean(age)",
    "min": "min(age)",
    "max": "max(age)",
}
"""Each function, and how it is written."""

COMPARISONS = ("<=", ">=", "==", "!=", "<", ">")
_WORDS = {"and", "or", "not", "reference"}
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|`(?P<back>[^`]+)`|\"(?P<double>[^\"]+)\"|'(?P<single>[^']+)'"
    r"|(?P<sign><=|>=|==|!=|[-+*/()<>])"
)
_REMEDIES = {
    "=": "write `==` to compare",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=` to compare",
    "~": "write `not`",
    "%": "write a share as a number: 0.01 for 1 %",
    ",": "write numbers with a point: 0.01",
    "`": "the quote is not closed, or nothing is in it",
    '"': "the quote is not closed, or nothing is in it",
    "'": "the quote is not closed, or nothing is in it",
    "[": "put a column's name in backticks: `my column`",
    ".": "put a column's name in backticks: `my.column`",
}
_COLUMN_OUTSIDE = "a column stands inside a function, as in mean(age) or share(age < 21)"


@dataclass(frozen=True, slots=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class Column:
    """A feature, or the model's score; `position` (from 1) is where it stands in the rule."""

    name: str
    position: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the rule's left side is on the reference."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the window's rows; `argument` is None for `count()`."""

    function: str
    argument: Node | None


@dataclass(frozen=True, slots=True)
class Operation:
    """Two operands and `+ - * /`, a comparison, `and` or `or`."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Unary:
    """An operand after `-` or `not`."""

    sign: str
    operand: Node


Node = Number | Column | Reference | Call | Operation | Unary


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule.

    Attributes:
        text: as it was written.
        left: what is measured. `sign`: how it must compare. `right`: the limit.
    """

    text: str
    left: Node
    sign: str
    right: Node


def parse(text: str) -> Rule:
    """Read a rule.

    Args:
        text: one line, at most 500 characters.

    Raises:
        ValueError: it is no rule; the message names the position, what is there, and the remedy.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the rule has {len(text)} characters, {MOST_CHARACTERS} are the most")
    return _Parser(text).rule()


def nodes(node: Node) -> Iterator[Node]:
    """A node and all below it, from left to right."""
    yield node
    match node:
        case Operation(_, left, right):
            yield from nodes(left)
            yield from nodes(right)
        case Unary(_, operand):
            yield from nodes(operand)
        case Call(_, argument) if argument is not None:
            yield from nodes(argument)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number | name | quoted | sign | end
    text: str
    at: int


T = TypeVar("T")


class _Parser:
    """Recursive descent, one method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._next = 0
        self._nested = 0

    def rule(self) -> Rule:
        left = self._sum(self._atom)
        if not self._is_sign(*COMPARISONS):
            self._refuse("expected a comparison with a limit, as in share(age < 21) < 0.01")
        sign = self._take().text
        right = self._sum(self._atom)
        if self._is_sign(*COMPARISONS):
            self._refuse("a rule is one comparison; write two rules")
        if self._token.kind != "end":
            self._refuse("expected the end of the rule")
        if any(isinstance(node, Reference) for node in nodes(left)):
            self._refuse("`reference` is what the left side is on the reference; use it right", 0)
        if not any(isinstance(node, Call) for node in nodes(left)):
            self._refuse(f"the left side measures nothing; begin with {_listed()}", 0)
        return Rule(self._text, left, sign, right)

    def _read(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self._text):
            if self._text[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(self._text, at)
            if match is None:
                self._refuse(_REMEDIES.get(self._text[at], "this character has no meaning"), at)
            kind = str(match.lastgroup)
            shown = "quoted" if kind in {"back", "double", "single"} else kind
            tokens.append(_Token(shown, match[kind], at))
            at = match.end()
        return [*tokens, _Token("end", "", at)]

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _is_sign(self, *signs: str) -> bool:
        return self._token.kind == "sign" and self._token.text in signs

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "name" and self._token.text == word

    def _refuse(self, problem: str, at: int | None = None) -> Never:
        at = self._token.at if at is None else at
        rest = self._text[at : at + 20]
        where = f"at {rest!r}" if rest else "at the end"
        raise ValueError(f"rule {self._text!r}, position {at + 1}, {where}: {problem}")

    def _deeper(self, read: Callable[[], T]) -> T:
        """Read what is nested, which must end before Python's own stack does."""
        self._nested += 1
        if self._nested > MOST_NESTED:
            self._refuse(f"more than {MOST_NESTED} levels of nesting; write several rules")
        found = read()
        self._nested -= 1
        return found

    def _closed(self, read: Callable[[], T]) -> T:
        """What stands before a closing parenthesis."""
        found = self._deeper(read)
        if not self._is_sign(")"):
            self._refuse("expected `)`")
        self._take()
        return found

    def _sum(self, atom: Callable[[], Node]) -> Node:
        left = self._product(atom)
        while self._is_sign("+", "-"):
            left = Operation(self._take().text, left, self._product(atom))
        return left

    def _product(self, atom: Callable[[], Node]) -> Node:
        left = self._factor(atom)
        while self._is_sign("*", "/"):
            left = Operation(self._take().text, left, self._factor(atom))
        return left

    def _factor(self, atom: Callable[[], Node]) -> Node:
        if self._is_sign("-"):
            self._take()
            return Unary("-", self._deeper(lambda: self._factor(atom)))
        if self._is_sign("("):
            self._take()
            return self._closed(lambda: self._sum(atom))
        if self._token.kind == "number":
            value = float(self._token.text)
            if not math.isfinite(value):
                self._refuse("the number is too large")
            self._take()
            return Number(value)
        return atom()

    def _atom(self) -> Node:
        """What stands outside a function."""
        token = self._token
        if token.kind == "quoted":
            self._refuse(_COLUMN_OUTSIDE)
        if token.kind != "name" or token.text in _WORDS - {"reference"}:
            self._refuse(f"expected a number, `reference`, or {_listed()}")
        called = self._tokens[self._next + 1]
        if (called.kind, called.text) != ("sign", "("):
            if token.text != "reference":
                self._refuse(f"{_near(token.text, [*FUNCTIONS, 'reference'])}{_COLUMN_OUTSIDE}")
            self._take()
            return Reference()
        if token.text not in FUNCTIONS:
            near = _near(token.text, list(FUNCTIONS))
            self._refuse(f"there is no function {token.text!r}; {near or f'use {_listed()}'}")
        self._take()
        self._take()
        if token.text == "count" and self._is_sign(")"):
            self._take()
            return Call("count", None)
        if token.text in {"share", "count"}:
            return Call(token.text, self._closed(self._condition))
        argument = self._deeper(lambda: self._sum(self._column))
        if self._is_sign(*COMPARISONS):
            self._refuse(f"{token.text} is of a column; share(...) is of a condition")
        return Call(token.text, self._closed(lambda: argument))

    def _column(self) -> Node:
        """What stands inside a function."""
        token = self._token
        if token.kind == "quoted" or (token.kind == "name" and token.text not in _WORDS):
            self._take()
            if self._is_sign("(") and token.kind == "name":
                self._refuse("there are no functions inside a function", token.at)
            return Column(token.text, token.at + 1)
        if self._is_word("reference"):
            self._refuse("`reference` stands outside functions; a column of that name in backticks")
        return self._refuse("expected a column or a number")

    def _condition(self) -> Node:
        left = self._all()
        while self._is_word("or"):
            self._take()
            left = Operation("or", left, self._all())
        return left

    def _all(self) -> Node:
        left = self._one()
        while self._is_word("and"):
            self._take()
            left = Operation("and", left, self._one())
        return left

    def _one(self) -> Node:
        if self._is_word("not"):
            self._take()
            return Unary("not", self._deeper(self._one))
        if self._is_sign("(") and self._encloses_a_condition():
            self._take()
            return self._closed(self._condition)
        left = self._sum(self._column)
        if not self._is_sign(*COMPARISONS):
            self._refuse("expected a comparison, as in age < 21")
        sign = self._take().text
        right = self._sum(self._column)
        if self._is_sign(*COMPARISONS):
            self._refuse("write `18 < age and age < 21` for a range")
        return Operation(sign, left, right)

    def _encloses_a_condition(self) -> bool:
        """Whether a comparison or a word stands in the parentheses that open here."""
        depth = 0
        for token in self._tokens[self._next :]:
            if token.kind == "sign":
                depth += (token.text == "(") - (token.text == ")")
                if depth == 0:
                    return False
            compares = token.kind == "sign" and token.text in COMPARISONS
            if compares or (token.kind == "name" and token.text in {"and", "or", "not"}):
                return True
        return False


def _listed() -> str:
    return ", ".join(f"{name}(...)" for name in FUNCTIONS)


def _near(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
