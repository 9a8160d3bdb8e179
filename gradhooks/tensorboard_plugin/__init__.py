"""The Gradient Check tab of TensorBoard: shows the reports that its data provider reads.

Runs in TensorBoard's process, where neither Keras nor a framework need be
installed. TensorBoard imports this package at every start, so it imports nothing.
"""
