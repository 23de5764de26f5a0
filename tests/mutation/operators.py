"""Which changes are tried: those of cosmic-ray that mean something here, and some of our own."""

import re
from collections.abc import Iterator
from typing import Any, Final

from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import ExprStmt, Keyword, Name, String
from parso.tree import Leaf, NodeOrLeaf

_LEFT_OUT: Final = re.compile(
    r"""
    # Of the binary operators one replacement each. "|" stands in annotations, which do nothing here.
      ReplaceBinaryOperator_(?!Add_Sub|Sub_Add|Mul_FloorDiv|Div_Mul|Pow_Mul|Mod_Mul)
    # "==" and "is" say the same of None and of enums.
    | ReplaceComparisonOperator_(Eq|NotEq)_Is | ReplaceComparisonOperator_Is(Not)?_(?!Is)
    # "not" is put in by AddNot.
    | ReplaceUnaryOperator_(?!Delete_Not|USub_UAdd)
    # These take arguments.
    | Variable
    """,
    re.VERBOSE,
)
_OTHER_NAMES: Final = {
    "NOT_SENT": ("REFUSED", "UNKNOWN"),
    "REFUSED": ("NOT_SENT", "UNKNOWN"),
    "UNKNOWN": ("NOT_SENT", "REFUSED"),
    "all": ("any",),
    "any": ("all",),
    "fullmatch": ("match", "search"),
    "max": ("min",),
    "min": ("max",),
}
_BOUND: Final = re.compile(r"(?<=[{,])[0-9]+(?=[,}])")


class RemoveStatement(Operator):
    """Puts ``pass`` in the place of an assignment, a call, a ``raise`` or a ``del``."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Any, Any]]:
        if node.parent is not None and node.parent.type == "simple_stmt" and self._does_something(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, _: int) -> NodeOrLeaf:
        return Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @staticmethod
    def _does_something(node: NodeOrLeaf) -> bool:
        if isinstance(node, ExprStmt):
            annotation = node.children[1]
            return annotation.type != "annassign" or len(annotation.children) > len([":", "type"])
        return node.type in {"atom_expr", "raise_stmt", "del_stmt"} or (
            node.type == "keyword" and node.get_code(include_prefix=False) == "raise"
        )

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceName(Operator):
    """Puts another outcome in the place of one, another match, the most in the place of the least."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, Name):
            for _ in _OTHER_NAMES.get(node.value, ()):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Leaf, index: int) -> NodeOrLeaf:
        return Name(_OTHER_NAMES[node.value][index], node.start_pos, node.prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceBound(Operator):
    """Lets a regular expression repeat once more or once less."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, String) and node.value.startswith("r"):
            for _ in range(2 * len(_BOUND.findall(node.value))):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Leaf, index: int) -> NodeOrLeaf:
        bound = list(_BOUND.finditer(node.value))[index // 2]
        number = int(bound[0]) + (1 if index % 2 else -1)
        value = node.value[: bound.start()] + str(number) + node.value[bound.end() :]
        return String(value, node.start_pos, node.prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def operators() -> list[Operator]:
    """Make them all."""
    names = [each for each in operator_names() if not _LEFT_OUT.search(each)]
    return [*(get_operator(each)() for each in names), RemoveStatement(), ReplaceName(), ReplaceBound()]
