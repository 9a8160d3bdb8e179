"""What TensorBoard's entry point names: makes the plugin, or leaves it out where it cannot be made."""

import logging

from tensorboard.plugins import base_plugin

_log = logging.getLogger("gradhooks")


class GradhooksLoader(base_plugin.TBLoader):
    """Loads the plugin without ever standing in TensorBoard's way."""

    def load(self, context):
        """Returns the plugin; None, with a warning, where it cannot be imported or made."""
        try:
            from gradhooks.tensorboard_plugin.plugin import GradhooksPlugin

            return GradhooksPlugin(context)
        # Whatever is broken here, people want to see their losses.
        except Exception as error:
            _log.warning("The Gradient Check tab is left out: %s: %s", type(error).__name__, error)
            return None
