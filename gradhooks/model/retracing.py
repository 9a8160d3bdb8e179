"""Tracing a model several times in a row, to find out whether it is the same function each time."""

from gradhooks.numerics import determinism

# How often. A counter that wraps around may look the same in a single new trace.
_TRACES = 2


def trace_anew(tracer, promote):
    """Returns the gradient programs of new traces, one after the other.

    Code that counts its calls goes on counting from one trace to the next.

    Args:
        tracer: A `tracing.Tracer`.
        promote: Function that makes the context of the trace; None for the
            model's own precision.
    """

    def trace():
        return tracer.gradients(promote)

    with tracer.untouched() as belongings:
        try:
            return belongings.run(lambda: [trace() for _ in range(_TRACES)])
        except Exception:
            # Code that kept a tensor of the first trace cannot use it in the second.
            programs = []
            for _ in range(_TRACES):
                belongings.restore()
                programs.append(belongings.run(trace))
            return programs


def computes_alike(tracer, promote, layout, point, first, tolerance):
    """Returns whether the model's code, traced anew, computes the same gradient.

    Args:
        tracer: A `tracing.Tracer`.
        promote: As for `trace_anew`.
        layout: The `Layout` of the parameters.
        point: float64, shape (P,).
        first: The gradient there in the trace in use, per term name.
        tolerance: Relative difference, per variable, that still counts as the same.
    """
    state, tensors = tracer.present_state(), tracer.tensors
    gradients = [program(point, state, tensors) for program in trace_anew(tracer, promote)]
    for values in gradients:
        again = dict(zip(first, values, strict=True))
        if determinism.gradient_jitter(layout, first, again, tolerance):
            return False
    return True


def compute_loss(tracer, promote, point):
    """Returns the loss at a point as the model's code computes it now; None if it cannot be traced.

    Args:
        tracer: A `tracing.Tracer`.
        promote: As for `trace_anew`.
        point: float64, shape (P,).
    """
    try:
        with tracer.untouched() as belongings:
            program = belongings.run(lambda: tracer.gradients(promote))
            return program.evaluate(point, tracer.present_state(), tracer.tensors)[0][0]
    except Exception:
        return None  # what was traced before stands
