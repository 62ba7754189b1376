"""What of TensorRT's API a source uses, found by following its objects from where they come from.

A source gets the module as `.module` of `trtkit.flavour.TensorRT`, and objects by calling what is in it; of
what type those are, the API's own signatures say. What comes from elsewhere untyped (a parameter annotated
`Any`, what polygraphy returns) is known by its customary name.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.bindings.api import Api

CUSTOMARY = {
    "builder": "Builder", "config": "IBuilderConfig", "context": "IExecutionContext", "engine": "ICudaEngine",
    "error": "ParserError", "inspector": "EngineInspector", "layer": "ILayer",
    "network": "INetworkDefinition", "parser": "OnnxParser", "runtime": "Runtime",
    "tensor": "ITensor", "trt": "module",
}  # fmt: skip
"""What a name is where nothing else tells."""


@dataclass(frozen=True, order=True)
class Use:
    """symbol: "BuilderFlag.FP16", or "module.Builder" for what is in the module itself; a name that is made
    up at run time is "*"."""

    line: int
    symbol: str


def uses(source: str, api: Api, typed: Iterable[str] = ()) -> list[Use]:
    """Every use of `api` in `source`, in the order of lines.

    Args:
        typed: functions of other modules that say what they return: nothing of TensorRT's.
    """
    reader = _Reader(api, frozenset(typed))
    reader.visit(ast.parse(source))
    return sorted(set(reader.found))


def typed_functions(source: str) -> set[str]:
    """Classes, and functions whose annotation says what they return."""
    return {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        or (isinstance(node, ast.FunctionDef) and not _untyped(node.returns))
    }


@dataclass
class _Reader(ast.NodeVisitor):
    """names: of the function that is read, and attributes ("self._engine") -> their types, "" for a type
    that is not TensorRT's. returns: functions of this source -> the type of what they return."""

    api: Api
    typed: frozenset[str]
    found: list[Use] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    returns: dict[str, str] = field(default_factory=dict)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside, self.names = self.names, dict(self.names)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            untyped = _untyped(argument.annotation)
            self.names[argument.arg] = CUSTOMARY.get(argument.arg, "") if untyped else ""
        for statement in node.body:
            self.visit(statement)
        results = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
        self.returns[node.name] = next(filter(None, map(self.type_of, results)), "")
        attributes = {name: its for name, its in self.names.items() if "." in name}
        self.names = outside | attributes

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if not _untyped(node.annotation):
            self.names[ast.unparse(node.target)] = ""
        elif node.value:
            self._bind(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.generic_visit(node)
        self._bind(node.target, node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        self._use(node.value, node.attr, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if _is_getattr(node):
            self._use(node.args[0], _constant(node.args[1]), node.lineno)

    def _use(self, owner: ast.expr, name: str, line: int) -> None:
        if its := self.type_of(owner).removeprefix("type "):
            self.found.append(Use(line, f"{its}.{name}"))

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, part in zip(target.elts, value.elts, strict=True):
                self._bind(each, part)
        elif isinstance(target, ast.Tuple):  # what polygraphy's loaders return
            for each in target.elts:
                self.names[ast.unparse(each)] = CUSTOMARY.get(_last(each), "")
        else:
            its = self.type_of(value)
            if not its and isinstance(value, ast.Call) and not self._is_typed(value):
                its = CUSTOMARY.get(_last(target), "")
            if its or isinstance(target, ast.Name):
                self.names[ast.unparse(target)] = its

    def _is_typed(self, call: ast.Call) -> bool:
        name = _last(call.func)
        return name not in self.names and (name in self.typed or hasattr(builtins, name))

    def type_of(self, node: ast.expr) -> str:
        """A class of the API, "type NAME" for a class itself, "module", "" for anything else."""
        match node:
            case ast.Name() | ast.Attribute() if (name := ast.unparse(node)) in self.names:
                return self.names[name]
            case ast.Attribute(attr="module"):
                return "module"
            case ast.Attribute(value=value, attr=attr):
                owner = self.type_of(value)
                # A field of our own that holds TensorRT's object: network.builder, self._context.
                return self._member(owner, attr) if owner else CUSTOMARY.get(_last(node), "")
            case ast.Call() if _is_getattr(node):
                return self._member(self.type_of(node.args[0]), _constant(node.args[1]))
            case ast.Call(func=ast.Name(id=name)) if name in self.returns:
                return self.returns[name]
            case ast.Call(func=func):
                # A method stands for what it returns, a class for its instances.
                return self.type_of(func).removeprefix("type ")
            case ast.BoolOp(values=values):
                return next(filter(None, map(self.type_of, values)), "")
            case ast.IfExp(body=body, orelse=orelse):
                return self.type_of(body) or self.type_of(orelse)
        return ""

    def _member(self, owner: str, name: str) -> str:
        return self.api.get(owner.removeprefix("type "), {}).get(name, "")


def _untyped(annotation: ast.expr | None) -> bool:
    return annotation is None or ast.unparse(annotation) in ("Any", "ModuleType", "Any | None")


def _last(node: ast.expr) -> str:
    """The last name of a chain, as what is private is called too: "context" of self._context."""
    return ast.unparse(node).rsplit(".", 1)[-1].lstrip("_")


def _is_getattr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) >= 2


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "*"
