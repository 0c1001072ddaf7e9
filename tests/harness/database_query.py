# SPDX-License-Identifier: Apache-2.0
"""The expressions of get_all_records_where:  field "IP" = "10.0.0.1" and not (field "management" = "false")"""

import re

from tests.harness.failures import Failure

_TOKEN = re.compile(r"""\s*(?: (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') | (?P<word>\w+) | (?P<sign>[=()]) )""", re.VERBOSE)


def compile_query(expression):
    """A function(record as text: dict) -> bool.  Raises Failure INVALID_VALUE."""
    parser = _Parser(expression)
    matches = parser.parse_or()
    parser.expect(None)
    return matches


class _Parser(object):
    """Precedence, loosest first: or, and, not, comparison."""

    def __init__(self, expression):
        self._expression = expression
        self._tokens = []
        position = 0
        while expression[position:].strip():
            match = _TOKEN.match(expression, position)
            if not match:
                self._refuse()
            self._tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()
        self._tokens.append((None, None))

    def parse_or(self):
        terms = [self._parse_and()]
        while self._accept("or"):
            terms.append(self._parse_and())
        return lambda record: any(term(record) for term in terms)

    def _parse_and(self):
        terms = [self._parse_not()]
        while self._accept("and"):
            terms.append(self._parse_not())
        return lambda record: all(term(record) for term in terms)

    def _parse_not(self):
        if self._accept("not"):
            term = self._parse_not()
            return lambda record: not term(record)
        if self._accept("("):
            term = self.parse_or()
            self.expect(")")
            return term
        for word, value in (("true", True), ("false", False)):
            if self._accept(word):
                return lambda record: value
        left = self._parse_operand()
        self.expect("=")
        right = self._parse_operand()
        return lambda record: left(record) == right(record)

    def _parse_operand(self):
        if self._accept("field"):
            name = self._take_text()
            return lambda record: self._field(record, name)
        text = self._take_text()
        return lambda record: text

    def _field(self, record, name):
        if name not in record:
            self._refuse()
        return record[name]

    def _take_text(self):
        kind, token = self._tokens.pop(0)
        if kind != "text":
            self._refuse()
        return re.sub(r"\\(.)", r"\1", token[1:-1])

    def _accept(self, word):
        if self._tokens[0][1] == word:
            self._tokens.pop(0)
            return True
        return False

    def expect(self, sign):
        if not self._accept(sign):
            self._refuse()

    def _refuse(self):
        raise Failure("INVALID_VALUE", self._expression, "not a query this host understands")
