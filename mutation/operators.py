"""Which changes are tried: those of cosmic-ray that mean something here, and two of our own."""

import re
from collections.abc import Iterator
from typing import Any, Final

from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import ExprStmt, Keyword, Name
from parso.tree import NodeOrLeaf

_LEFT_OUT: Final = re.compile(
    r"""
    # Of the binary operators one replacement each. "|" stands in annotations, which do nothing here.
      ReplaceBinaryOperator_(?!Add_Sub|Sub_Add|Mul_FloorDiv|Div_Mul|Pow_Mul|Mod_Mul)
    # "==" and "is" say the same of None and of enums.
    | ReplaceComparisonOperator_(Eq|NotEq)_Is | ReplaceComparisonOperator_Is(Not)?_(?!Is)
    # "not" is covered by AddNot and by its removal.
    | ReplaceUnaryOperator_(?!Delete_Not|USub_UAdd)
    # These take arguments.
    | Variable
    """,
    re.VERBOSE,
)
_OUTCOMES: Final = ("NOT_SENT", "REFUSED", "UNKNOWN")


class RemoveStatement(Operator):
    """Puts ``pass`` in the place of an assignment, a call, a ``raise`` or a ``del``."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Any, Any]]:
        if self._is_statement(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, _: int) -> NodeOrLeaf:
        return Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @staticmethod
    def _is_statement(node: NodeOrLeaf) -> bool:
        if node.parent is None or node.parent.type != "simple_stmt":
            return False
        if isinstance(node, ExprStmt):
            return not _is_annotation_only(node)
        return node.type in {"atom_expr", "raise_stmt", "del_stmt"} or (
            node.type == "keyword" and node.get_code(include_prefix=False) == "raise"
        )

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceOutcome(Operator):
    """Puts each other outcome in the place of one."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, Name) and node.value in _OUTCOMES and node.get_previous_leaf().value == ".":
            for _ in range(2):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> NodeOrLeaf:
        others = [each for each in _OUTCOMES if each != node.value]
        return Name(others[index], node.start_pos, node.prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _is_annotation_only(statement: ExprStmt) -> bool:
    annotation = statement.children[1]
    return annotation.type == "annassign" and len(annotation.children) == 2


def operators() -> dict[str, Operator]:
    """All of them by name."""
    names = [each for each in operator_names() if not _LEFT_OUT.search(each)]
    made: dict[str, Operator] = {each.partition("/")[2]: get_operator(each)() for each in names}
    return made | {"RemoveStatement": RemoveStatement(), "ReplaceOutcome": ReplaceOutcome()}
