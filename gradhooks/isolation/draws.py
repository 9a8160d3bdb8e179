"""Random numbers of a check's own: drawing them does not advance what others draw from."""

import contextlib
import random
import types

import numpy as np

from gradhooks.isolation import threads

#: The generators behind the functions of `random` and `numpy.random`, which all threads share.
GLOBAL = (random._inst, np.random.mtrand._rand)


def is_global_draw(value):
    """Whether a value is a method of one of them, which whoever holds it calls without asking a module."""
    is_method = isinstance(value, (types.MethodType, types.BuiltinMethodType))
    return is_method and any(value.__self__ is generator for generator in GLOBAL)


@contextlib.contextmanager
def own_draws():
    """While open, the calling thread draws from copies of Python's and NumPy's global generators; yields them by id."""
    python, numpy = random.Random(), np.random.RandomState()
    python.setstate(random.getstate())
    numpy.set_state(np.random.get_state(legacy=False))
    own = {id(random._inst): python, id(np.random.mtrand._rand): numpy}
    with contextlib.ExitStack() as stack:
        put = threads.Swap(stack)
        for module in (random, np.random):
            for name, value in list(vars(module).items()):
                generator = own.get(id(getattr(value, "__self__", None)))
                if generator is not None:
                    put(module, name, getattr(generator, name))
        yield own
