"""Torch without its compiler, which no stage uses.

torch's optimisers, torchvision, lightning_fabric and transformers (which peft loads) import torch's compiler, although
they need it for compiled models only. That import takes seconds (`benchmarks/starts.py`). `leave_out_compiler` puts
stand-ins for the few names that these libraries ask for. Any other use of the compiler loads it, so that nothing fails.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def leave_out_compiler() -> None:
    """Put the stand-ins in place. Does nothing where the compiler is loaded already."""
    if COMPILER in sys.modules:
        return
    for name, values in _stand_ins().items():
        module = sys.modules[name] = _StandIn(name)
        module.__dict__.update(values)
    sys.modules[COMPILER].__path__ = []  # marks a package; `_OtherModules` finds its other modules
    sys.meta_path.insert(0, _OtherModules())


def load_compiler() -> None:
    """Take the stand-ins away and import the compiler itself."""
    for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _OtherModules)]
    importlib.import_module(COMPILER)


def _stand_ins() -> dict[str, dict[str, Any]]:
    """{module: {name: value}}: each value behaves like the compiler's own where nothing is compiled."""

    def unchanged(function: Callable | None = None, *_: object, **__: object) -> Callable:
        return unchanged if function is None else function

    class OptimizedModule:
        """The class of compiled modules. No module is an instance of it."""

    def transform_getitem_to_index(*arguments: object) -> object:
        load_compiler()
        module = importlib.import_module(f"{COMPILER}._trace_wrapped_higher_order_op")
        return module.TransformGetItemToIndex(*arguments)

    decorators = dict.fromkeys(("disable", "allow_in_graph", "assume_constant_result"), unchanged)
    return {
        COMPILER: {**decorators, "graph_break": lambda *_: None, "OptimizedModule": OptimizedModule},
        f"{COMPILER}.utils": {"is_compile_supported": lambda device: False},
        f"{COMPILER}._trace_wrapped_higher_order_op": {"TransformGetItemToIndex": transform_getitem_to_index},
    }


class _StandIn(ModuleType):
    """A module with a few names of the real one. Any other name loads the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system also asks for optional names
            raise AttributeError(name)
        load_compiler()
        return getattr(importlib.import_module(self.__name__), name)


class _OtherModules(MetaPathFinder):
    """Loads the compiler as soon as one of its modules without a stand-in is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(COMPILER + "."):
            return None
        load_compiler()
        return ModuleSpec(name, _Loaded(importlib.import_module(name)))


class _Loaded(Loader):
    """A loader for a module that is already loaded."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec
