"""The code of trainers, as their packages carry it, to be run without what they weigh.

Their modules import torch, ray and more at the top. A function or class is therefore taken out of
its file by `ast`, unchanged but for its decorators and annotations, and run among names that it needs.
"""

import ast
import importlib.util
import pathlib
import typing


def source(package, path):
    """The file `path` of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(f"{package} is not installed: run scripts/test_adapters.py")
    return pathlib.Path(next(iter(found.submodule_search_locations))) / path


def imported(package, path):
    """A file that needs nothing heavy, as a module, without the package around it."""
    spec = importlib.util.spec_from_file_location(f"peer_{package}", source(package, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def taken(package, path, name, **names):
    """The function or class `name`, or `Class.method`, of a file, defined among `names`."""
    file = source(package, path)
    body = ast.parse(file.read_text(encoding="utf-8")).body
    node = None
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [n for n in body if isinstance(n, kinds) and n.name == part]
        if not found:
            raise RuntimeError(f"{file} has no `{name}` any more")
        node, body = found[0], found[0].body
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner.returns = None
            for argument in ast.walk(inner.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
    node.decorator_list = []
    module = ast.Module(body=[node], type_ignores=[])
    space = {**vars(typing), **names}
    exec(compile(module, str(file), "exec"), space)  # noqa: S102, the peers' own code is the point
    return space[node.name]


class Torch:
    """As much of torch as these functions touch, by NumPy."""

    float32 = "float32"

    def __init__(self):
        import numpy

        class Tensor(numpy.ndarray):
            def all(self, dim=None):
                return numpy.ndarray.all(self, axis=dim)

        self.numpy, self.nan = numpy, numpy.nan
        self.Tensor = lambda values: numpy.asarray(values, "float32").view(Tensor)
        self.kind = Tensor

    def zeros(self, *shape, device=None):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return self.numpy.zeros(shape, "float32").view(self.kind)

    def tensor(self, values, dtype=None, device=None):
        return self.numpy.asarray(values, dtype).view(self.kind)

    def isnan(self, values):
        return self.numpy.isnan(values).view(self.kind)
