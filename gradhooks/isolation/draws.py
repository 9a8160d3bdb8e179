"""Random numbers of a check's own: drawing them does not advance what others draw from."""

import contextlib
import random
import sys
import types

import numpy as np

from gradhooks.isolation import objects, threads

#: The generators behind the functions of `random` and `numpy.random`, which all threads share.
GLOBAL = (random._inst, np.random.mtrand._rand)
# Modules that call these functions on behalf of other code.
_INTERMEDIATE = ("gradhooks.", "tensorflow.python.autograph")


def is_global_draw(value):
    """Returns whether a value is a method of one of the global generators.

    Whoever holds it draws without asking a module.
    """
    is_method = isinstance(value, (types.MethodType, types.BuiltinMethodType))
    return is_method and any(value.__self__ is generator for generator in GLOBAL)


@contextlib.contextmanager
def copy_generators(names=None):
    """While open, the calling thread draws from copies of Python's and NumPy's global generators.

    Args:
        names: Set to which the names of the functions are added that the
            user's code calls by their modules, for example
            `"np.random.normal"`; None if nobody wants to know.

    Yields:
        dict of the ids of the global generators to their copies.
    """
    python, numpy = random.Random(), np.random.RandomState()
    python.setstate(random.getstate())
    numpy.set_state(np.random.get_state(legacy=False))
    copies = {id(random._inst): python, id(np.random.mtrand._rand): numpy}
    with contextlib.ExitStack() as stack:
        patch = threads.Patcher(stack)
        for prefix, module in (("random", random), ("np.random", np.random)):
            for name, value in list(vars(module).items()):
                generator = copies.get(id(getattr(value, "__self__", None)))
                if generator is not None:
                    draw = getattr(generator, name)
                    patch(module, name, _report_caller(draw, f"{prefix}.{name}", names))
        yield copies


def _report_caller(draw, name, names):
    """Wraps a random function so that its name is noted when the user's code calls it."""

    def draw_and_report(*args, **kwargs):
        if names is not None and not objects.is_library(_calling_module(sys._getframe(1))):
            names.add(name)
        return draw(*args, **kwargs)

    return draw_and_report


def _calling_module(frame):
    """Returns the name of the module that calls, apart from those that only pass a call on."""
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if not module.startswith(_INTERMEDIATE):
            return module
        frame = frame.f_back
    return None
