# SPDX-License-Identifier: Apache-2.0
"""Mutants of a module: copies of its source that differ in one operator, condition, number or statement.

The text outside of the change is kept as it is, so a mutant has the same line numbers as the module.
"""

import ast
import collections
import random
import re

# new_source is bytes; line_text the stripped first line of the change; change "old -> new", with #2, #3, ... where the
# module has the same change of such a line more than once: both together name a mutant.
Mutant = collections.namedtuple("Mutant", "line line_text change new_source")

# Pattern of an operator in the source, and its replacement.
COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"), ast.IsNot: (r"is\s+not", "is"), ast.In: ("in", "not in"), ast.NotIn: (r"not\s+in", "in")}
ARITHMETIC = {
    ast.Add: (r"\+", "-"), ast.Sub: ("-", "+"), ast.Mult: (r"\*", "//"), ast.FloorDiv: ("//", "*"), ast.Div: ("/", "*"),
    ast.BitOr: (r"\|", "&"), ast.BitAnd: ("&", "|"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<")}
BASES = {"0x": hex, "0o": oct, "0b": bin}


def list_mutants(source):
    """All mutants of `source` (bytes), by line."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    changes = sorted(finder.changes, key=lambda change: (change.start, change.end, change.new))
    seen = collections.Counter()
    mutants = []
    for change in changes:
        line = source.count(b"\n", 0, change.start) + 1
        line_text = finder.lines[line - 1].decode("utf-8").strip()
        label = "%s -> %s" % (" ".join(change.old.split()), " ".join(change.new.split()))
        seen[line_text, label] += 1
        if seen[line_text, label] > 1:
            label += " #%d" % seen[line_text, label]
        new_source = source[:change.start] + change.new.encode("utf-8") + source[change.end:]
        mutants.append(Mutant(line, line_text, label, new_source))
    return mutants


def choose(mutants, count, seed):
    """`count` of `mutants`, by line; the same ones for the same `seed` as long as the module does not change."""
    if not count or count >= len(mutants):
        return list(mutants)
    chosen = random.Random(seed).sample(range(len(mutants)), count)
    return [mutants[index] for index in sorted(chosen)]


def is_compilable(mutant):
    try:
        compile(mutant.new_source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


_Change = collections.namedtuple("_Change", "start end old new")


class _Finder(ast.NodeVisitor):
    """Collects changes; positions are offsets into the source in bytes."""

    def __init__(self, source):
        self.source = source
        self.lines = source.split(b"\n")
        self.changes = []
        self._line_starts = [0]
        for line in self.lines:
            self._line_starts.append(self._line_starts[-1] + len(line) + 1)

    def visit_Compare(self, node):
        operands = [node.left] + node.comparators
        for operator, left, right in zip(node.ops, operands, operands[1:]):
            self._swap(node, left, right, *COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if type(node.op) in ARITHMETIC and not any(map(_is_text, (node.left, node.right))):
            self._swap(node, node.left, node.right, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        old, new, neutral = ("and", "or", "True") if isinstance(node.op, ast.And) else ("or", "and", "False")
        for left, right in zip(node.values, node.values[1:]):
            self._swap(node, left, right, old, new)
        for value in node.values:
            self._replace(value, neutral)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            self._replace(node, "(%s)" % self._text_of(node.operand))
        self.generic_visit(node)

    def visit_If(self, node):
        if not _is_main_guard(node.test):
            self._decide(node.test)
            self.generic_visit(node)

    def visit_IfExp(self, node):
        self._decide(node.test)
        self.generic_visit(node)

    def visit_While(self, node):
        # The other way it would run for ever, which only a deadline ends.
        if not isinstance(node.test, ast.Constant):
            self._replace(node.test, "False")
        self.generic_visit(node)

    def visit_comprehension(self, node):
        for test in node.ifs:
            self._replace(test, "True")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            write = BASES.get(self._text_of(node)[:2].lower(), str)
            for value in (node.value + 1, node.value - 1):
                self._replace(node, write(value))

    def visit_Return(self, node):
        # None in the place of False makes a difference to nobody.
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value in (None, False)):
            self._replace(node.value, "None")
        self.generic_visit(node)

    def visit_Expr(self, node):
        if _is_unseen_call(node.value):
            return
        if isinstance(node.value, ast.Call):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node):
        # No test asserts lengths of time.
        if all(isinstance(target, ast.Name) and target.id.endswith("_S") for target in node.targets):
            return
        # Without a name's assignment nearly every module fails at once.
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_statement(self, node):
        self._replace(node, "pass")
        self.generic_visit(node)

    visit_Raise = visit_AugAssign = visit_Delete = visit_Break = visit_Continue = visit_statement

    def _decide(self, test):
        self._replace(test, "True")
        self._replace(test, "False")

    def _swap(self, node, left, right, pattern, new):
        """Replace the operator between two operands."""
        start, end = self._end_of(left), self._start_of(right)
        between = self.source[start:end].decode("utf-8")
        found = re.search(r"(?<!\w)(?:%s)(?!\w)" % pattern if pattern[-1].isalpha() else pattern, between)
        whole_start, whole_end = self._start_of(node), self._end_of(node)
        # A comment between the operands may hold the operator's name; a mutant that does not compile is counted as such.
        before = self.source[whole_start:start].decode("utf-8") + between[:found.start()]
        after = between[found.end():] + self.source[end:whole_end].decode("utf-8")
        self._add(whole_start, whole_end, before + new + after)

    def _replace(self, node, new):
        self._add(self._start_of(node), self._end_of(node), new)

    def _add(self, start, end, new):
        old = self.source[start:end].decode("utf-8")
        if old != new:
            self.changes.append(_Change(start, end, old, new))

    def _text_of(self, node):
        return self.source[self._start_of(node):self._end_of(node)].decode("utf-8")

    def _start_of(self, node):
        return self._line_starts[node.lineno - 1] + node.col_offset

    def _end_of(self, node):
        return self._line_starts[node.end_lineno - 1] + node.end_col_offset


def _is_text(node):
    return isinstance(node, (ast.List, ast.Tuple, ast.JoinedStr)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def _is_unseen_call(node):
    """Whether a statement is a message to the log, which tests search for secrets alone, or a place where tests inject faults."""
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("log", "faults"))


def _is_main_guard(test):
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"
