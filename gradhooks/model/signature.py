"""What must stay the same about a model for its traced oracle to stay valid."""

from gradhooks.model import compiled_loss, keras_internals


def signature(model):
    """Returns the weights, the compiled loss and the mode of each layer, to be compared by `==`."""
    layers = []
    for layer in keras_internals.layers_of(model):
        layers.append((id(layer), layer.trainable, layer.dtype_policy.name))
    return (
        tuple(id(v) for v in model.trainable_variables),
        tuple(id(v) for v in keras_internals.weights_of(model)),
        # The loss itself, since an id may be given out again. Variables compare by value, and the
        # oracle keeps them.
        compiled_loss.compile_loss(model),
        tuple(layers),
    )
