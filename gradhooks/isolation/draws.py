"""Random numbers of a check's own: drawing them does not advance what others draw from."""

import contextlib
import random
import sys
import types

import numpy as np

from gradhooks.isolation import reachable, threads

#: The generators behind the functions of `random` and `numpy.random`, which all threads share.
GLOBAL = (random._inst, np.random.mtrand._rand)


_PASSING_ON = ("gradhooks.", "tensorflow.python.autograph")


def is_global_draw(value):
    """Whether a value is a method of one of them, which whoever holds it calls without asking a module."""
    is_method = isinstance(value, (types.MethodType, types.BuiltinMethodType))
    return is_method and any(value.__self__ is generator for generator in GLOBAL)


@contextlib.contextmanager
def own_draws(drawn=None):
    """While open, the calling thread draws from copies of Python's and NumPy's global generators; yields them by id.

    Args:
        drawn: Set to which the names of functions go that code of the user's calls by their modules; None for nobody.
    """
    python, numpy = random.Random(), np.random.RandomState()
    python.setstate(random.getstate())
    numpy.set_state(np.random.get_state(legacy=False))
    own = {id(random._inst): python, id(np.random.mtrand._rand): numpy}
    with contextlib.ExitStack() as stack:
        put = threads.Patcher(stack)
        for module in (random, np.random):
            for name, value in list(vars(module).items()):
                generator = own.get(id(getattr(value, "__self__", None)))
                if generator is not None:
                    told = f"{'np.random' if module is np.random else 'random'}.{name}"
                    put(module, name, _noted(getattr(generator, name), told, drawn))
        yield own


def _noted(draw, name, drawn):
    def noted(*args, **kwargs):
        if drawn is not None and not reachable.is_library(_caller(sys._getframe(1))):
            drawn.add(name)
        return draw(*args, **kwargs)

    return noted


def _caller(frame):
    """The name of the module that calls, beside those that pass a call on."""
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if not module.startswith(_PASSING_ON):
            return module
        frame = frame.f_back
    return None
