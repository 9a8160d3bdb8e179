"""The Gradient Check tab of TensorBoard: reports out of its data provider, pages into the browser.

Runs in TensorBoard's process, where neither Keras nor a framework need be
installed. TensorBoard imports this package at every start, so that nothing is
imported here.
"""
