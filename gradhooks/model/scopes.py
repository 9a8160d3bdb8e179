"""Names of TensorFlow's scopes, which are those of layers, but for numbers."""


def name_layers(place, layers):
    """Returns the place of an operation with the names of layers as they are.

    TensorFlow appends a number to the name of a scope that it has seen before.

    Args:
        place: Names of scopes, separated by slashes: `"model/dense_1_1"`.
        layers: The layers of the model.
    """
    names = {layer.name for layer in layers}
    parts = []
    for part in place.split("/"):
        base = part.rpartition("_")[0]
        is_numbered = part not in names and base in names
        parts.append(base if is_numbered else part)
    return "/".join(parts)
