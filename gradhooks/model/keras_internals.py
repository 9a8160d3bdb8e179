"""The one place that touches names Keras keeps to itself.

A future Keras may rename any of them; then `require` says which one is missing
and what needs it, and nothing else in gradhooks has to be searched.
"""

import collections
import functools

from gradhooks.isolation import threads


def require(owner, name, purpose):
    """Returns `getattr(owner, name)`, or says clearly that this Keras no longer has it.

    Raises:
        RuntimeError: If the attribute is missing.
    """
    try:
        return getattr(owner, name)
    except AttributeError as cause:
        import keras

        raise RuntimeError(
            f"gradhooks needs a name inside Keras to {purpose}, and this version does not have it. "
            f"Received: keras=={keras.__version__}, missing {name!r} on {owner!r}. Expected Keras 3.12 or a "
            "release tested with this version of gradhooks. Try upgrading gradhooks."
        ) from cause


def layers_of(model):
    """Returns the model and every layer that Keras or a plain attribute of a layer leads to, each once."""
    import keras

    kind = keras.layers.Layer
    found, seen = [], set()
    queue = collections.deque([model, *require(model, "_flatten_layers", "list the layers")()])
    while queue:
        layer = queue.popleft()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        found.append(layer)
        # Some packages keep layers where Keras does not look, so their dtype policy would be
        # missed.
        for value in list(vars(layer).values()):
            if isinstance(value, kind):
                queue.append(value)
            elif isinstance(value, (list, tuple, dict)):
                members = value.values() if isinstance(value, dict) else value
                queue.extend(member for member in members if isinstance(member, kind))
    return found


def are_parts_built(model):
    """Whether a model that was never called as a whole has trainable weights, and no layer that would make more."""
    from keras.src.utils import python_utils

    makes_weights = [
        not layer.built and not python_utils.is_default(layer.build)
        for layer in layers_of(model)[1:]
    ]
    return bool(model.trainable_variables) and not any(makes_weights)


def dtype_of(tensor):
    """Returns the dtype of a tensor as Keras spells it, for example `"float32"`."""
    import keras

    return keras.backend.standardize_dtype(tensor.dtype)


def is_complex(variable):
    """Whether a Keras variable holds complex numbers."""
    return str(variable._dtype).startswith("complex")


def path_of(owner):
    """Returns the path of a layer, or its name before it is built; the names of the losses in a compiled loss."""
    import keras

    if isinstance(owner, keras.layers.Layer):
        return getattr(owner, "path", None) or owner.name
    names = [
        _name_of_loss(loss) for loss in keras.tree.flatten(owner._user_loss) if loss is not None
    ]
    return f"the loss {', '.join(dict.fromkeys(names))}"


def _name_of_loss(loss):
    while isinstance(loss, functools.partial):
        loss = loss.func
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__


def compile_loss(model):
    """Returns the container of the losses given to `compile()`; None without one."""
    return getattr(model, "_compile_loss", None)


def fresh_compile_loss(model, y):
    """Returns a stand-in for the compiled loss, so that the user's container is never built or changed.

    The container builds its inner losses, and metrics for them, at its first
    call, which may not have come yet.
    """
    container = compile_loss(model)
    if container is None:
        return None
    if container.built:
        # Not copy.copy: Keras objects copy themselves through their configuration, which this one
        # has not.
        standin = object.__new__(type(container))
        vars(standin).update(vars(container))
        # Plain tuples, so that replacing the dtype of an entry's loss is all that is ever done to
        # them.
        standin._flat_losses = list(container._flat_losses)
        return standin
    arguments = [
        require(container, f"_user_{name}", "evaluate the compiled loss")
        for name in ("loss", "loss_weights")
    ]
    standin = type(container)(*arguments, output_names=container.output_names)
    outputs = getattr(model, "_outputs_struct", None)
    if outputs is not None and y is not None:
        # Several outputs bring metric variables, which must not be made inside a trace. A container
        # that cannot be built from specifications alone builds itself at its first call instead.
        try:
            standin.build(y, outputs)
        except (ValueError, TypeError, KeyError, AttributeError):
            standin = type(container)(*arguments, output_names=container.output_names)
    return standin


def losses_in(container):
    """Returns the loss objects of a container, the container itself first."""
    import keras

    if container is None:
        return []
    given = [
        loss
        for loss in keras.tree.flatten(container._user_loss)
        if isinstance(loss, keras.losses.Loss)
    ]
    inner = [entry.loss for entry in container._flat_losses or ()]
    return list({id(loss): loss for loss in [container, *given, *inner]}.values())


def metrics_of(model, container):
    """Returns every metric that computing the loss may update, also inside other metrics."""
    found, queue = {}, [*model.metrics, *(container.metrics if container is not None else ())]
    while queue:
        metric = queue.pop()
        if id(metric) not in found:
            found[id(metric)] = metric
            queue.extend(getattr(metric, "_metrics", ()))
    return list(found.values())


def has_own_compute_loss(model):
    """Whether the model overrides `compute_loss`."""
    import keras

    return type(model).compute_loss is not keras.Model.compute_loss


def has_own_train_step(model):
    """Whether the model overrides `train_step`."""
    import keras

    return type(model).train_step is not keras.Model.train_step


def batches_trained(model):
    """Returns how many batches the optimizer has seen, to continue counting where a resumed run left off."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 0
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # A sum is a number even where tf.distribute keeps a copy of the variable on every device.
    iterations = int(inner.iterations + 0)
    return iterations * (getattr(inner, "gradient_accumulation_steps", None) or 1)


def compute_loss(model, x, y, y_pred, sample_weight, training):
    """Calls `compute_loss`, also where it is overridden without the `training` argument of Keras 3.3."""
    inner = require(model, "_compute_loss", "evaluate the loss")
    return inner(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)


def forward(model, x, training):
    """Calls the model the way `train_step` does."""
    if require(model, "_call_has_training_arg", "call the model"):
        return model(x, training=training)
    return model(x)


def variables_with_regularizer(model):
    """Returns the trainable variables that have a regularizer."""
    return [v for v in model.trainable_variables if v.regularizer is not None]


def regularizers_of(model):
    """Returns the regularizers of weights and of activities, some perhaps twice."""
    of_activities = [getattr(layer, "activity_regularizer", None) for layer in layers_of(model)]
    return [
        r
        for r in [*of_activities, *(v.regularizer for v in variables_with_regularizer(model))]
        if r is not None
    ]


def weights_of(model):
    """Returns all weights and states of the layers, without metrics."""
    return list(model.variables)


def state_of(model):
    """Returns every variable that a loss evaluation may read or write and that is not a trainable weight."""
    from keras.src.backend.common import global_state

    trainable = {id(v) for v in model.trainable_variables}
    state = {
        id(v): v for v in [*model.variables, *model.metrics_variables] if id(v) not in trainable
    }
    # `keras.random` would create it when asked for it, and so draw from Python's generator; the
    # name of the attribute is a constant in newer versions of Keras only.
    seeds = global_state.get_global_attribute("global_seed_generator")
    if seeds is not None:
        state[id(seeds.state)] = seeds.state
    return list(state.values())


def backend_module(name):
    """Returns the backend's module of operations of a kind: `"numpy"`, `"nn"`, or `"random"`, in which layers draw."""
    from keras.src import backend

    return getattr(backend, name)


def draw_seed(seed):
    """Draws a seed tensor the way a random operation does, advancing its generator."""
    from keras.src.random.seed_generator import draw_seed

    return draw_seed(seed)


def is_xla(model):
    """Whether training compiles with XLA."""
    return (
        bool(getattr(model, "jit_compile", False)) if getattr(model, "compiled", False) else False
    )


def training_dtype(model):
    """Returns the narrowest float dtype in which any layer computes."""
    import keras

    order = ("float16", "bfloat16", "float32", "float64")
    dtypes = {
        layer.compute_dtype
        for layer in layers_of(model)
        if keras.backend.is_float_dtype(layer.compute_dtype)
    }
    return next((dtype for dtype in order if dtype in dtypes), "float32")


def has_noise(model):
    """Whether any layer draws random numbers."""
    return any(seed_generators(layer) for layer in layers_of(model))


def seed_generators(layer):
    """Returns the seed generators that a layer owns."""
    return list(getattr(layer, "_seed_generators", ()))


def data_adapter(x, y, sample_weight, batch_size, class_weight):
    """Returns Keras' own adapter for whatever `fit()` accepts, without shuffling."""
    from keras.src.trainers.data_adapters import get_data_adapter

    return get_data_adapter(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        shuffle=False,
        class_weight=class_weight,
    )


def whole_arrays(x, y, sample_weight, class_weight):
    """Returns arrays as they are, floats in `floatx` as Keras' adapters give them; None for what is not there."""
    import keras
    import numpy as np
    from keras.src.trainers.data_adapters import data_adapter_utils

    def converted(array):
        if array is None or not hasattr(array, "__array__"):
            return array
        array = np.asarray(array)
        return (
            array.astype(keras.config.floatx())
            if array.dtype.name.startswith(("float", "bfloat"))
            else array
        )

    x, y, sample_weight = (
        keras.tree.map_structure(converted, part) for part in (x, y, sample_weight)
    )
    if class_weight is not None:
        # Raises where there are sample weights as well, as for `fit()`.
        if sample_weight is not None:
            raise ValueError("`class_weight` and `sample_weight` cannot be given at once.")
        sample_weight = data_adapter_utils.class_weight_to_sample_weights(y, class_weight)
    return x, y, sample_weight


def answer_floatx(dtype):
    """Returns a context in which `floatx()` answers with a dtype to the checking thread."""
    from keras.src.backend import config

    return threads.answered(config.floatx, lambda: dtype)


def path_of_scopes():
    """Returns the path of the layers that are being called, such as `"model/block/dense"`."""
    from keras.src.backend.common.name_scope import current_path

    return current_path()


def layer_of_scopes():
    """Returns the innermost layer that is being called; None outside of all."""
    from keras.src.backend.common import global_state

    scopes = global_state.get_global_attribute("name_scope_stack") or ()
    return next((scope.caller for scope in reversed(scopes) if scope.caller is not None), None)


def thread_state():
    """Returns the dict in which Keras keeps what it holds for this thread: name counters, scopes, default policy."""
    from keras.src.backend.common import global_state

    return vars(global_state.GLOBAL_STATE_TRACKER)
