"""Build the syntax tree from lark's parse tree, with the checks that do not need a field's type."""

from lark import Token, Tree

from logmend.lql import operands
from logmend.lql.errors import FilterError
from logmend.lql.nodes import And, Call, Compare, Literal, Node, Not, Or, Present, Term, Value
from logmend.lql.operands import Parsed


def build(tree: Parsed) -> Node | None:
    """Return the tree of a whole filter; None for an empty one. Raises FilterError."""
    return _all(operands.as_tree(tree.children[0]), None) if tree.children else None


def _all(tree: Parsed, op: str | None) -> Node:
    """Return a conjunction. In a value group, ``op`` is the operator that applies to each element."""
    nodes = [_any(child, op) for child in _chain(tree)]
    if len(nodes) == 1:
        return nodes[0]
    items = [item for node in nodes for item in (node.items if isinstance(node, And) else (node,))]
    return And(tuple(items), items[0].at)


def _any(tree: Parsed, op: str | None) -> Node:
    nodes = [_term(child, op) for child in _chain(tree)]
    if len(nodes) == 1:
        return nodes[0]
    items = [item for node in nodes for item in (node.items if isinstance(node, Or) else (node,))]
    return Or(tuple(items), items[0].at)


def _chain(tree: Parsed) -> list[Parsed]:
    """Return the elements of a left-recursive rule, without recursion: there may be thousands."""
    found = []
    while len(tree.children) == 2:
        found.append(operands.as_tree(tree.children[1]))
        tree = operands.as_tree(tree.children[0])
    found.append(operands.as_tree(tree.children[0]))
    return found[::-1]


def _term(tree: Parsed, op: str | None) -> Node:
    inner = operands.as_tree(tree.children[-1])
    node = _simple(inner, op)
    if len(tree.children) == 1:
        return node
    sign = operands.as_token(tree.children[0])
    bare = node.text if isinstance(node, Literal) and not node.quoted and inner.data == "comparison" else ""
    if sign == "-" and bare[:1].isdigit():
        raise FilterError(
            f"'-{bare}' in a value group can be a number or a negation",
            *operands.position_of(sign),
            hint=f'write "-{bare}" or NOT {bare}',
        )
    return Not(node, operands.position_of(sign))


def _simple(tree: Parsed, op: str | None) -> Node:
    if tree.data == "parens":
        node = _all(operands.as_tree(tree.children[0]), op)
        if isinstance(node, Or):
            return Or(node.items, node.at, parens=True)
        return node
    if op is not None:
        return _element(tree, op)
    return _comparison(tree)


def _element(tree: Parsed, op: str) -> Literal:
    """Return one element of a value group."""
    first = tree.children[0]
    if len(tree.children) > 1:
        raise FilterError(
            "expected a value in the value group, found a comparison",
            *operands.start_of(first),
            "a value",
            'a group holds values only, as in field = ("a" OR "b")',
        )
    if isinstance(first, Tree):
        if first.data == "call":
            raise FilterError(
                "a function cannot stand in a value group", *operands.start_of(first), "a value"
            )
        return operands.literal_of(operands.single_token(first, "a value"), op)
    return operands.literal_of(first, op)


def _comparison(tree: Parsed) -> Node:
    first = tree.children[0]
    if len(tree.children) == 1:
        return _alone(first)
    target = operands.target_of(operands.as_tree(first))
    op = str(operands.as_token(tree.children[1]))
    value = _value(tree.children[2], op)
    return Compare(target, op, value, target.at)


def _alone(first: "Parsed | Token") -> Node:
    """Return a condition without an operator: a term or a function."""
    if isinstance(first, Tree) and first.data == "call":
        name, at = operands.function_of(first)
        if name in operands.TARGETS:
            raise FilterError(
                f"expected an operator after {name}(...)",
                *at,
                "an operator",
                f'as in {operands.USAGE[name]} = "x"',
            )
        return Call(name, operands.arguments_of(first, name), at)
    token = operands.single_token(first, "an operator after the field") if isinstance(first, Tree) else first
    literal = operands.literal_of(token, ":")
    return Term(literal, literal.at)


def _value(child: "Parsed | Token", op: str) -> Value:
    if isinstance(child, Token):
        if child.type == "STAR":
            if op != ":":
                raise FilterError(
                    "'*' stands for presence and follows ':' only", *operands.position_of(child), "a value"
                )
            return Present(operands.position_of(child))
        return operands.literal_of(child, op)
    if child.data == "call":
        name, at = operands.function_of(child)
        raise FilterError(f"the function {name} cannot be used as a value", *at, "a value")
    node = _all(operands.as_tree(child.children[0]), op)
    if isinstance(node, Literal | And | Or | Not):
        return node
    raise AssertionError(node)  # a group contains nothing else
