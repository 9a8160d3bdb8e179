"""Parts of a traced graph: what depends on which parameters, put into another graph.

Moving one parameter changes only what lies above it. A graph is cut so that
this much can be evaluated again and again beside one evaluation of the rest.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.graphs import functions_of

# Constants up to this many bytes are copied into each part; larger ones are handed over.
_SMALL = 4096
# Modelled work of an operation that runs a function, a loop above all: more than anything beside
# it.
_CALL = 1e9
# Operations that count as stateful and yet give the same whenever they are asked.
_STEADY = (
    "ReadVariableOp",
    "ResourceGather",
    "LookupTableFindV2",
    "HashTableV2",
    "Assert",
    "Placeholder",
)


@dataclasses.dataclass(frozen=True)
class Subgraph:
    """Some nodes of a graph.

    Args:
        nodes: The nodes, each before those that use it.
        inputs: Names of the tensors that they take from outside.
    """

    nodes: tuple
    inputs: tuple[str, ...]


class ForwardGraph:
    """The part of a graph that leads to some outputs, and how it depends on parameters.

    Args:
        graph: A `FuncGraph`.
        outputs: Its tensors that are wanted.
        roots: Its tensors that hold the parameters, one each.
    """

    def __init__(self, graph, outputs, roots):
        definition = graph.as_graph_def()
        self.outputs = [tensor.name for tensor in outputs]
        self.roots = [tensor.name for tensor in roots]
        by_name = {node.name: node for node in definition.node}
        # What is handed in: parameters, and the inputs of the graph.
        self._ends = {_owner(name) for name in self.roots} | {
            tensor.op.name for tensor in graph.inputs
        }
        self._nodes = _needed(by_name, map(_owner, self.outputs), self._ends)
        self._versions, self._functions = (
            definition.versions,
            _reachable(self._nodes, definition.library),
        )
        self._dependence = self._find_dependence(graph)
        self._work = np.array([_work(graph, node) for node in self._nodes])

    def _find_dependence(self, graph):
        """bool, shape (nodes, parameters): whether the node must be computed again when the parameter moves.

        What may answer otherwise each time is computed each time, so that an
        evaluation which cannot be repeated shows as one.
        """
        depends = {_owner(name): 1 << k for k, name in enumerate(self.roots)}
        everything = (1 << len(self.roots)) - 1
        for node in self._nodes:
            if node.name not in depends:
                depends[node.name] = everything if _is_moody(graph, node) else 0
                for name in _inputs(node):
                    depends[node.name] |= depends.get(_owner(name), 0)
        width = max(1, -(-len(self.roots) // 8))
        packed = b"".join(depends[node.name].to_bytes(width, "little") for node in self._nodes)
        bits = np.frombuffer(packed, np.uint8).reshape(len(self._nodes), width)
        return np.unpackbits(bits, axis=1, bitorder="little")[:, : len(self.roots)].astype(bool)

    def __len__(self):
        return len(self._nodes)

    def moving(self):
        """Returns the names of the nodes that depend on any parameter."""
        moves = self._dependence.any(1)
        return [node.name for node, is_moving in zip(self._nodes, moves, strict=True) if is_moving]

    def functions(self):
        """Returns the functions that are called, by name."""
        return {function.signature.name: function for function in self._functions.function}

    def output_names(self):
        """Returns the names of the nodes that compute the outputs."""
        return [_owner(name) for name in self.outputs]

    def definition(self):
        """Returns all of it as a `GraphDef`."""
        return self._definition(self._nodes)

    def work(self, first):
        """Models the work of moving the parameters `first <= v < b`: float64, shape (parameters + 1,), for every b."""
        depends = self._dependence[:, first:]
        count = len(self.roots)
        beginning = np.where(depends.any(1), depends.argmax(1), count)
        begun = np.cumsum(np.bincount(beginning, self._work, count + 1)[: count - first])
        return np.concatenate([np.zeros(first + 1), begun])

    def above(self, first, last):
        """Returns the `Part` that changes when the parameters `first <= v < last` move."""
        changes = self._dependence[:, first:last].any(1)
        return self._part([node for node, is_in in zip(self._nodes, changes, strict=True) if is_in])

    def below(self, parts):
        """Returns the `Part` that computes, with nothing moved, what other parts take from outside or leave alone."""
        wanted = {name for part in parts for name in self.taken_by(part)}
        by_name = {node.name: node for node in self._nodes}
        return self._part(_needed(by_name, map(_owner, wanted), self._ends))

    def taken_by(self, part):
        """Returns the names of the tensors that must be known beside a part to know all outputs."""
        inside = {node.name for node in part.nodes}
        return [*part.inputs, *(name for name in self.outputs if _owner(name) not in inside)]

    def _part(self, nodes):
        inside = {node.name for node in nodes} - self._ends
        constants = {
            n.name for n in self._nodes if n.op == "Const" and n.attr["value"].ByteSize() <= _SMALL
        }
        inside |= constants & {
            _owner(name) for node in nodes if node.name in inside for name in _inputs(node)
        }
        chosen = tuple(node for node in self._nodes if node.name in inside)
        taken = dict.fromkeys(
            name for node in chosen for name in _inputs(node) if _owner(name) not in inside
        )
        return Subgraph(chosen, tuple(taken))

    def put(self, part, given, wanted):
        """Puts a part into the default graph.

        Args:
            part: A `Part`.
            given: Tensors of the default graph by name, for all of `part.inputs`.
            wanted: Names of tensors.

        Returns:
            The wanted tensors; those that the part does not compute as they are given.
        """
        inside = {node.name for node in part.nodes}
        own = [name for name in wanted if _owner(name) in inside]
        found = tf.graph_util.import_graph_def(
            self._definition(part.nodes),
            input_map={name: given[name] for name in part.inputs},
            return_elements=[_renamed(name, inside) for name in own],
            name="part",
        )
        computed = dict(zip(own, found, strict=True))
        return [computed[name] if name in computed else given[name] for name in wanted]

    def _definition(self, nodes):
        inside = {node.name for node in nodes}
        definition = tf.compat.v1.GraphDef(versions=self._versions)
        definition.library.CopyFrom(self._functions)
        for node in nodes:
            copy = definition.node.add()
            copy.CopyFrom(node)
            copy.name = _renamed(node.name, inside)
            # Nothing here writes, so an order that reaches beyond the part orders nothing.
            kept = [name for name in node.input if not name.startswith("^") or name[1:] in inside]
            copy.input[:] = [_renamed(name, inside) for name in kept]
            if "_class" in copy.attr:
                del copy.attr["_class"]
        return definition


def _is_moody(graph, node):
    """Whether an operation may answer otherwise when asked again."""
    return node.op not in _STEADY and graph.get_operation_by_name(node.name).op_def.is_stateful


def _renamed(name, inside):
    """The name in the copy: TensorFlow calls results `name_0`, which must not be the name of another node."""
    control, bare = ("^", name[1:]) if name.startswith("^") else ("", name)
    owner, colon, number = bare.partition(":")
    return f"{control}{owner}_n{colon}{number}" if owner in inside else name


def _owner(name):
    """Name of the node that computes a tensor."""
    return name.partition(":")[0]


def _inputs(node):
    """Names of the tensors that a node takes, each as `node:number`."""
    return [name if ":" in name else f"{name}:0" for name in node.input if not name.startswith("^")]


def _needed(by_name, wanted, ends):
    """Returns the nodes that some nodes need, themselves included, in their order; nothing below `ends`."""
    found, queue = set(), list(wanted)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            if name not in ends:
                queue += [name_of.removeprefix("^") for name_of in map(_owner, by_name[name].input)]
    return [node for name, node in by_name.items() if name in found]


def _reachable(nodes, library):
    """Returns the part of a library that some nodes use."""
    by_name = {function.signature.name: function for function in library.function}
    found, queue = {}, [name for node in nodes for name in functions_of(node)]
    while queue:
        name = queue.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            queue += [called for node in by_name[name].node_def for called in functions_of(node)]
    reachable = type(library)()
    reachable.function.extend(found.values())
    reachable.gradient.extend(g for g in library.gradient if g.function_name in found)
    return reachable


def _work(graph, node):
    """Models the work of one evaluation of a node, in multiplications."""
    if any(True for _ in functions_of(node)):
        return _CALL
    operation = graph.get_operation_by_name(node.name)
    elements = sum(_elements(tensor) for tensor in operation.outputs)
    if node.op in ("Const", "Placeholder", "Identity", "Reshape", "Shape"):
        return 0.0
    return elements * _depth(node, operation)


def _depth(node, operation):
    """How many multiplications each entry of a result takes."""
    if "Conv" in node.op and len(operation.inputs) > 1:
        shape = operation.inputs[1].shape
        if shape.is_fully_defined() and len(shape):
            return shape.num_elements() / max(1, shape[-1])
    if "MatMul" in node.op or node.op == "Einsum":
        shape = operation.inputs[0].shape
        if shape.rank and shape[-1] is not None:
            return shape[-1]
    return 1.0


def _elements(tensor):
    known = [side or 1 for side in tensor.shape] if tensor.shape.rank is not None else []
    return float(np.prod(known, dtype=np.float64))
