"""Names that Keras keeps to itself, and what can be known about a model by them.

Together with `compiled_loss` and `data_adapters` this is where such names are
looked up. A future Keras may rename any of them: then `require` says which one is
missing and what needs it, and little else in gradhooks has to be searched.
"""

import collections
import contextlib
import importlib

import keras

from gradhooks.isolation import threads

# From narrow to wide.
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def require(owner, name, purpose):
    """Returns `getattr(owner, name)`, or says clearly that this Keras no longer has it.

    Args:
        owner: An object of Keras', or the name of a module that this Keras does not have.
        name: Name of an attribute.
        purpose: What gradhooks needs it for: `"list the layers"`.

    Raises:
        RuntimeError: If the attribute is missing.
    """
    try:
        return getattr(owner, name)
    except AttributeError as cause:
        raise RuntimeError(
            f"gradhooks needs a name inside Keras to {purpose}, and this version does not have "
            f"it. Received: keras=={keras.__version__}, missing {name!r} on {owner!r}. Expected "
            "Keras 3.12 or a release tested with this version of gradhooks. Try upgrading "
            "gradhooks."
        ) from cause


def private_module(name):
    """Returns a module inside Keras; its name if there is none, of which `require` then speaks.

    Args:
        name: Name of the module without `"keras.src."`.
    """
    full_name = f"keras.src.{name}"
    try:
        return importlib.import_module(full_name)
    except ImportError:
        return full_name


_backend = private_module("backend")
_config = private_module("backend.config")
_global_state = private_module("backend.common.global_state")
_name_scope = private_module("backend.common.name_scope")
_python_utils = private_module("utils.python_utils")
_stateless_scope = private_module("backend.common.stateless_scope")
_seed_generator = private_module("random.seed_generator")


def stateless_scope():
    """Returns the `keras.StatelessScope` that is open."""
    return require(_stateless_scope, "get_stateless_scope", "find the scope of a trace")()


def layers_of(model):
    """Returns the model and every layer that it leads to, each once.

    Some packages keep layers in plain attributes, where Keras does not look.
    """
    flatten_layers = require(model, "_flatten_layers", "list the layers")
    found, seen = [], set()
    queue = collections.deque([model, *flatten_layers()])
    while queue:
        layer = queue.popleft()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        found.append(layer)
        for value in list(vars(layer).values()):
            queue.extend(_layers_in(value))
    return found


def name_of_call(layer):
    """Returns the name of the method of a layer that Keras calls."""
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    return "quantized_call" if is_quantized else "call"


def _layers_in(value):
    """Returns the layers among an attribute and the members of a list, tuple or dict."""
    members = ()
    if isinstance(value, keras.layers.Layer):
        members = (value,)
    elif isinstance(value, (list, tuple)):
        members = value
    elif isinstance(value, dict):
        members = value.values()
    return [member for member in members if isinstance(member, keras.layers.Layer)]


def are_parts_built(model):
    """Returns whether a model that was never called as a whole has all of its weights.

    It has trainable weights, and no layer that would make more.
    """
    is_default = require(_python_utils, "is_default", "find layers that are not built")
    for layer in layers_of(model)[1:]:
        if not layer.built and not is_default(layer.build):
            return False
    return bool(model.trainable_variables)


def dtype_of(tensor):
    """Returns the dtype of a tensor as Keras spells it, for example `"float32"`."""
    return keras.backend.standardize_dtype(tensor.dtype)


def is_complex(variable):
    """Returns whether a Keras variable holds complex numbers."""
    return str(variable._dtype).startswith("complex")


def has_own_compute_loss(model):
    """Returns whether the model overrides `compute_loss`."""
    return type(model).compute_loss is not keras.Model.compute_loss


def has_own_train_step(model):
    """Returns whether the model overrides `train_step`."""
    return type(model).train_step is not keras.Model.train_step


def batches_trained(model):
    """Returns how many batches the optimizer has seen; a resumed run goes on counting there."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 0
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # A sum is a number even where tf.distribute keeps a copy of the variable on every device.
    iterations = int(inner.iterations + 0)
    return iterations * (getattr(inner, "gradient_accumulation_steps", None) or 1)


def compute_loss(model, x, y, y_pred, sample_weight, training):
    """Returns what `compute_loss` returns.

    It may be overridden without the `training` argument, as in Keras 3.3.
    """
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
    """Returns the regularizers of activities and of weights, some perhaps twice."""
    regularizers = [getattr(layer, "activity_regularizer", None) for layer in layers_of(model)]
    regularizers += [variable.regularizer for variable in variables_with_regularizer(model)]
    return [regularizer for regularizer in regularizers if regularizer is not None]


def trained_weights(model):
    """Returns the trainable variables that a gradient trains.

    Keras overwrites some variables with what stands for their gradient, such as
    the scales of float8; they are no weights.
    """
    weights = []
    for variable in model.trainable_variables:
        if not getattr(variable, "overwrite_with_gradient", False):
            weights.append(variable)
    return weights


def weights_of(model):
    """Returns all weights and states of the layers, without metrics."""
    return list(model.variables)


def state_of(model):
    """Returns the variables, beside the trained weights, that a loss may read or write."""
    trainable = {id(v) for v in trained_weights(model)}
    state = {}
    for variable in [*model.variables, *model.metrics_variables]:
        if id(variable) not in trainable:
            state[id(variable)] = variable
    seeds = global_seeds()
    if seeds is not None:
        state[id(seeds.state)] = seeds.state
    return list(state.values())


def global_seeds():
    """Returns the generator of what draws without one of its own; None before something has."""
    # Not by `keras.random`, which would create it, and so draw from Python's generator. Newer
    # versions of Keras have a constant for the name.
    return _get_global_attribute("global_seed_generator")


def make_global_seeds():
    """Returns the same, made as `keras.random` makes it if nothing has drawn yet."""
    make = require(
        private_module("random.seed_generator"), "global_seed_generator", "seed what draws"
    )
    return make()


def _get_global_attribute(name):
    get = require(_global_state, "get_global_attribute", "find the state of a thread")
    return get(name)


def backend_module(name):
    """Returns the backend's module of operations of a kind.

    Args:
        name: `"numpy"`, `"nn"`, or `"random"`, in which layers draw.
    """
    return getattr(_backend, name)


def draw_seed(seed):
    """Draws a seed tensor the way a random operation does, advancing its generator."""
    draw = require(_seed_generator, "draw_seed", "draw the same noise as training")
    return draw(seed)


def is_xla(model):
    """Returns whether training compiles with XLA."""
    is_compiled = getattr(model, "compiled", False)
    return bool(is_compiled and getattr(model, "jit_compile", False))


@contextlib.contextmanager
def keep_float64():
    """While open, operations on float64 give float64, also where Keras has them give float32."""
    module, name = private_module("backend.common.dtypes"), "BIT64_TO_BIT32_DTYPE"
    demoted = require(module, name, "compute in float64")
    if demoted["float64"] == "float64":
        yield
        return
    setattr(module, name, _DemotedDtypes(demoted))
    try:
        yield
    finally:
        setattr(module, name, demoted)


class _DemotedDtypes(dict):
    """The dtypes that Keras replaces by narrower ones: in the checking thread no floats."""

    def get(self, dtype, default=None):
        """Returns the dtype that takes the place of another one."""
        is_kept = dtype in ("float64", "complex128") and threads.is_checking()
        return dtype if is_kept else super().get(dtype, default)


def training_dtype(model):
    """Returns the narrowest float dtype in which any layer computes; `"float32"` if none does."""
    dtypes = {layer.compute_dtype for layer in layers_of(model)}
    for dtype in _FLOATS:
        if dtype in dtypes:
            return dtype
    return "float32"


def seed_generators(layer):
    """Returns the seed generators that a layer owns."""
    return list(getattr(layer, "_seed_generators", ()))


def patch_floatx(dtype):
    """Returns a context in which `floatx()` is a dtype for the checking thread."""
    floatx = require(_config, "floatx", "trace in float64")
    return threads.patch_function(floatx, lambda: dtype)


def path_of_scopes():
    """Returns the path of the layers that are being called, such as `"model/block/dense"`."""
    current_path = require(_name_scope, "current_path", "name the place of a random draw")
    return current_path()


def layer_of_scopes():
    """Returns the innermost layer that is being called; None outside of all."""
    scopes = _get_global_attribute("name_scope_stack") or ()
    for scope in reversed(scopes):
        if scope.caller is not None:
            return scope.caller
    return None


def thread_state():
    """Returns the dict in which Keras keeps what it holds for this thread.

    Name counters, scopes, the default dtype policy and the like.
    """
    tracker = require(_global_state, "GLOBAL_STATE_TRACKER", "restore the state of a thread")
    return vars(tracker)
