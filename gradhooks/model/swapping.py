"""Attributes of Keras objects, replaced for a while and put back."""


def replace(owner, name, value):
    """Sets an attribute without Keras' tracking, which would refuse or record it."""
    object.__setattr__(owner, name, value)


class Swap:
    """Replaces attributes for a while; an ExitStack puts them back.

    Args:
        stack: The `contextlib.ExitStack` that ends the while.
    """

    def __init__(self, stack):
        self._stack = stack

    def __call__(self, owner, name, value):
        """Sets the attribute until the stack closes."""
        if name in vars(owner):
            self._stack.callback(replace, owner, name, vars(owner)[name])
        else:
            self._stack.callback(object.__delattr__, owner, name)
        replace(owner, name, value)
