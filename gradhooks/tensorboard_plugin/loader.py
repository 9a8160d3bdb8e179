"""The entry point for TensorBoard: makes the plugin, or leaves it out if that fails."""

import logging

from tensorboard.plugins import base_plugin

_log = logging.getLogger("gradhooks")


class GradhooksLoader(base_plugin.TBLoader):
    """Loads the plugin; an error in it never stops TensorBoard."""

    def load(self, context):
        """Returns the plugin; None, with a warning, if it cannot be imported or made."""
        try:
            from gradhooks.tensorboard_plugin.plugin import GradhooksPlugin

            return GradhooksPlugin(context)
        # Whatever is broken here, TensorBoard must go on without the tab.
        except Exception as error:
            _log.warning("The Gradient Check tab is left out: %s: %s", type(error).__name__, error)
            return None
