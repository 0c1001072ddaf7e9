# SPDX-License-Identifier: Apache-2.0
"""The query language of get_all_records_where, as XAPI has it:  (field "PV__kernel"="") and not field "power_state"="Halted"

A query of a plug-in can break each of these rules on a real host (in xapi: ocaml/database/db_filter_lex.mll, db_filter_parse.mly
and db_filter.ml, ocaml/xapi/exnHelper.ml):

* A field has the name of its column in the database: `name__label`, `PV__kernel`, where records say name_label and PV_kernel.
* Texts stand in double quotes. There are no escapes, so no text holds a double quote. Words need no space between them; only
  space, tab and line feed may stand there.
* `and` and `or` bind alike, from the left; `not` takes all that follows, up to a parenthesis that was opened before it.
* Comparisons are of texts: a boolean is "true" or "false", a map or set an S-expression.
* A text that is no query is INVALID_VALUE. A column that does not exist is INTERNAL_ERROR, and only once a row needs its value:
  an empty table, or the other side of `and` or `or`, hides the mistake.
"""

import re

from tests.harness.xapi.failures import Failure

# No word is the beginning of another one, so the first that fits is the longest.
_TOKEN = re.compile(r'"(?P<text>[^"]*)"|(?P<word>=|\(|\)|true|false|field|and|or|not)')
_SPACE = re.compile(r"[ \t\n]*")
_TEXT = object()
_END = object()
# How OCaml prints the two exceptions. That of the parser has other names in other releases.
_LEXER_ERROR = 'Failure("lexing: empty token")'
_PARSER_ERROR = "Xapi_database__Db_filter_parse.MenhirBasics.Error"


def compile_query(expression):
    """A function(find) -> bool, where find(column) is the text of a row's column.  Raises Failure INVALID_VALUE."""
    parser = _Parser(expression)
    matches = parser.parse_expression()
    parser.expect(_END)
    return matches


class _Parser(object):

    def __init__(self, expression):
        self._expression = expression
        self._position = 0
        self._advance()

    def parse_expression(self):
        left = None
        combine = None
        while True:
            is_negated = self._kind == "not"
            term = self._parse_negation() if is_negated else self._parse_term()
            left = combine(left, term) if combine else term
            if is_negated or self._kind not in _OPERATORS:
                return left
            combine = _OPERATORS[self._kind]
            self._advance()

    def _parse_negation(self):
        self._advance()
        term = self.parse_expression()
        return lambda find: not term(find)

    def _parse_term(self):
        if self._kind == "(":
            self._advance()
            term = self.parse_expression()
            self.expect(")")
            return term
        if self._kind in ("true", "false"):
            value = self._kind == "true"
            self._advance()
            return lambda find: value
        left = self._parse_value()
        self.expect("=")
        right = self._parse_value()
        return lambda find: left(find) == right(find)

    def _parse_value(self):
        is_field = self._kind == "field"
        if is_field:
            self._advance()
        text = self._text
        self.expect(_TEXT)
        return (lambda find: find(text)) if is_field else (lambda find: text)

    def expect(self, kind):
        if self._kind != kind:
            self._refuse(_PARSER_ERROR)
        if kind is not _END:
            self._advance()

    def _advance(self):
        """Read one token further. XAPI does so, too: the first error in the text is the one that it tells."""
        self._position = _SPACE.match(self._expression, self._position).end()
        self._text = None
        if self._position == len(self._expression):
            self._kind = _END
            return
        match = _TOKEN.match(self._expression, self._position)
        if not match:
            self._refuse(_LEXER_ERROR)
        self._position = match.end()
        self._text = match.group("text")
        self._kind = match.group("word") or _TEXT

    def _refuse(self, reason):
        raise Failure("INVALID_VALUE", self._expression, reason)


_OPERATORS = {
    "and": lambda left, right: lambda find: left(find) and right(find),
    "or": lambda left, right: lambda find: left(find) or right(find),
}
