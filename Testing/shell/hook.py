"""The import hook: modules under test see Qt as PythonQt shows it, and every member that they use is noted.

Nothing is asked of the modules. Their source is compiled with ``x.member`` turned into ``_seen(x, "member").member``;
``_seen`` notes the class of ``x`` and gives it back, so what the module does is unchanged.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from . import pythonqt

SEEN = "_shell_seen"


class Use(NamedTuple):
    """One place where a module uses a member of something that the application offers."""

    file: str
    line: int
    owner: Any
    """The object, for a module; its class, for anything else."""
    member: str


class Uses:
    """What the modules under test have used since the shell was started."""

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int, int, str], Use] = {}

    def clear(self) -> None:
        self._noted.clear()

    def __iter__(self) -> Iterator[Use]:
        return iter(list(self._noted.values()))

    def note(self, owner: Any, member: str, file: str, line: int) -> Any:
        """Remember the use, give the owner back."""
        what = owner if isinstance(owner, ModuleType | type) else type(owner)
        self._noted.setdefault((file, line, id(what), member), Use(file, line, what, member))
        return owner


USES = Uses()


class _Rewrite(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self.file = file

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        arguments = [node.value, *(ast.Constant(value) for value in (node.attr, self.file, node.lineno))]
        node.value = ast.Call(ast.Name(SEEN, ast.Load()), arguments, [])
        return ast.fix_missing_locations(ast.copy_location(node, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        # Decorators such as @x.setter and annotations stay as they are.
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.target = self.visit(node.target)
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        # A pattern takes no calls.
        node.guard = self.visit(node.guard) if node.guard else None
        node.body = [self.visit(statement) for statement in node.body]
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        if not Hook.notes:
            return super().get_code(fullname)
        path = self.get_filename(fullname)
        tree = ast.parse(Path(path).read_bytes(), path)
        return compile(_Rewrite(path).visit(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        pythonqt.choose(module.__name__)
        setattr(module, SEEN, USES.note)
        super().exec_module(module)


class Hook(importlib.abc.MetaPathFinder):
    """Finds the modules under test, and those only: the names given and what lies below them, in these folders."""

    notes = True
    """Whether members are noted. It takes time that the application does not, so a measurement goes without."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.names: set[str] = set()
        self._kept: dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _below(fullname, self.names):
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, self.folders if path is None else path)
        if found is None or not isinstance(found.loader, importlib.machinery.SourceFileLoader):
            return None
        locations = found.submodule_search_locations
        return importlib.util.spec_from_file_location(
            fullname,
            found.origin,
            loader=_Loader(fullname, found.loader.path),
            submodule_search_locations=list(locations) if locations is not None else None,
        )

    def take(self, names: Iterable[str], folder: str) -> None:
        """Find these modules in that folder too from now on; those already imported are put aside."""
        new = set(names) - self.names
        self.folders = [folder, *(one for one in self.folders if one != folder)]
        self.names |= new
        self._kept.update(self._pop(new))

    def forget(self) -> None:
        """Take the modules under test away, so that the next test starts afresh; put back what was put aside."""
        self._pop(self.names)
        self.names.clear()
        self.folders.clear()
        sys.modules.update(self._kept)
        for name, module in self._kept.items():
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], last, module)
        self._kept.clear()

    def _pop(self, names: Set[str]) -> dict[str, ModuleType]:
        ours = [name for name in sys.modules if _below(name, names)]
        for name in ours:
            package, _, last = name.rpartition(".")
            vars(sys.modules.get(package, self)).pop(last, None)
        return {name: sys.modules.pop(name) for name in ours}


def _below(name: str, names: Iterable[str]) -> bool:
    """Whether a module has one of these names or lies in a package of one."""
    return any(name == one or name.startswith(f"{one}.") for one in names)
