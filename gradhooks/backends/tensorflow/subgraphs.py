"""Parts of a traced graph: what depends on which variables, inserted into another graph.

Moving one parameter changes only what is downstream of its variable. A graph
is cut so that this part can be evaluated again and again beside one evaluation
of the rest.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow import nodes as graph_nodes
from gradhooks.backends.tensorflow.nodes import find_needed, inputs_of, owner_of
from gradhooks.backends.tensorflow.work import bytes_of, work_of

# Constants up to this many bytes are copied into each subgraph; larger ones are handed over. A free
# choice that changes cost only: a copy of a small constant costs less than one more loop input.
_SMALL_CONSTANT = 4096
# Operations that TensorFlow marks as stateful although they give the same each time.
_REPEATABLE = (
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
    """The part of a graph that leads to some outputs, and how it depends on variables.

    Args:
        graph: A `FuncGraph`.
        outputs: The tensors of the graph that are wanted.
        roots: The tensors of the graph that hold the variables, one each.

    Attributes:
        bytes: Size of all that one evaluation computes, as far as shapes are known.
    """

    def __init__(self, graph, outputs, roots):
        definition = graph.as_graph_def()
        self.outputs = [tensor.name for tensor in outputs]
        self.roots = [tensor.name for tensor in roots]
        # Nothing is upstream of what is handed in: the variables, and the inputs of the graph.
        self._ends = set(map(owner_of, self.roots))
        self._ends |= {tensor.op.name for tensor in graph.inputs}
        by_name = graph_nodes.index_nodes(definition.node)
        self._nodes = find_needed(by_name, self.output_nodes(), self._ends)
        self._versions = definition.versions
        self._library = graph_nodes.restrict_library(definition.library, self._nodes)
        self._reaching = {}
        self._dependence = self._find_dependence(graph)
        self._work = np.array([work_of(graph, node) for node in self._nodes])
        self.bytes = int(sum(bytes_of(graph, node) for node in self._nodes))

    def _find_dependence(self, graph):
        """Finds which nodes must be computed again when a variable moves.

        A node that may give another result each time is taken to depend on
        every variable. So it is computed in every evaluation, and a loss that
        cannot be repeated is detected.

        Returns:
            bool, shape (nodes, variables).
        """
        count = len(self.roots)
        # One bit per variable, in an integer per node: networks have thousands of each.
        bits = {owner_of(name): 1 << k for k, name in enumerate(self.roots)}
        all_variables = (1 << count) - 1
        for node in self._nodes:
            if node.name in bits:
                continue
            own = 0 if _is_repeatable(graph, node) else all_variables
            for name in inputs_of(node):
                own |= bits.get(owner_of(name), 0)
            bits[node.name] = own
        width = max(1, -(-count // 8))  # in bytes
        rows = [bits[node.name].to_bytes(width, "little") for node in self._nodes]
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(self._nodes), width)
        unpacked = np.unpackbits(table, axis=1, bitorder="little")
        return unpacked[:, :count].astype(bool)

    def __len__(self):
        return len(self._nodes)

    def moving_nodes(self):
        """Returns the names of the nodes that depend on any variable."""
        return [node.name for node in self._select(self._dependence.any(1))]

    def nodes(self):
        """Returns the nodes, each before those that use it."""
        return self._nodes

    def root_nodes(self):
        """Returns the names of the nodes that hold the variables: a set."""
        return set(map(owner_of, self.roots))

    def find_dependence(self, names):
        """Returns which variables nodes depend on, taken together: bool, shape (variables,).

        Args:
            names: Names of nodes; those that do not lead to the outputs are left out.
        """
        is_named = [node.name in names for node in self._nodes]
        return self._dependence[np.array(is_named, bool)].any(0)

    def find_reaching(self, output, closed=frozenset()):
        """Returns the names of the nodes that lead to an output: a set.

        Args:
            output: Name of the node that computes the output.
            closed: Names of nodes that no way may pass.
        """
        if not closed and output in self._reaching:
            return self._reaching[output]
        reaching = set()
        queue = [] if output in closed else [output]
        by_name = graph_nodes.index_nodes(self._nodes)
        while queue:
            name = queue.pop()
            if name in reaching or name in closed or name not in by_name:
                continue
            reaching.add(name)
            queue += map(owner_of, inputs_of(by_name[name]))
        if not closed:
            self._reaching[output] = reaching
        return reaching

    def functions(self):
        """Returns the functions that are called, by name."""
        return graph_nodes.functions_by_name(self._library)

    def output_nodes(self):
        """Returns the names of the nodes that compute the outputs."""
        return list(map(owner_of, self.outputs))

    def model_work(self, first):
        """Models the work of moving one parameter of the variables `first <= v < last`.

        Returns:
            float64, shape (variables + 1,): for every `last`, in multiplications.
        """
        depends = self._dependence[:, first:]
        count = len(self.roots)
        # The first of the variables on which a node depends; `count` where there is none.
        earliest = np.where(depends.any(1), depends.argmax(1), count)
        by_earliest = np.bincount(earliest, self._work, count + 1)
        return np.concatenate([np.zeros(first + 1), np.cumsum(by_earliest[: count - first])])

    def downstream(self, first, last):
        """Returns the `Subgraph` that changes when the variables `first <= v < last` move."""
        return self._subgraph(self._select(self._dependence[:, first:last].any(1)))

    def everything(self):
        """Returns the `Subgraph` that computes the outputs."""
        return self._subgraph(self._nodes)

    def upstream(self, subgraphs):
        """Returns the `Subgraph` that computes, with nothing moved, what others require."""
        wanted = set()
        for subgraph in subgraphs:
            wanted.update(map(owner_of, self.required_by(subgraph)))
        by_name = graph_nodes.index_nodes(self._nodes)
        return self._subgraph(find_needed(by_name, wanted, self._ends))

    def required_by(self, subgraph):
        """Returns the names of the tensors that give all outputs together with a subgraph."""
        inside = graph_nodes.names_of(subgraph.nodes)
        outside = [name for name in self.outputs if owner_of(name) not in inside]
        return [*subgraph.inputs, *outside]

    def insert(self, subgraph, given, wanted):
        """Inserts a subgraph into the default graph.

        Args:
            subgraph: A `Subgraph`.
            given: Tensors of the default graph by name, for all of `subgraph.inputs`.
            wanted: Names of tensors.

        Returns:
            The wanted tensors. Those that the subgraph does not compute are
            returned as they are given.
        """
        inside = graph_nodes.names_of(subgraph.nodes)
        own = [name for name in wanted if owner_of(name) in inside]
        tensors = tf.graph_util.import_graph_def(
            self._define(subgraph.nodes),
            input_map={name: given[name] for name in subgraph.inputs},
            return_elements=[_rename(name, inside) for name in own],
            name="part",
        )
        computed = dict(zip(own, tensors, strict=True))
        results = []
        for name in wanted:
            results.append(computed[name] if name in computed else given[name])
        return results

    def _select(self, mask):
        """The nodes where a mask of shape (nodes,) holds."""
        return [node for node, is_in in zip(self._nodes, mask, strict=True) if is_in]

    def _subgraph(self, nodes):
        """The `Subgraph` of some nodes, without what is handed in and with the small constants."""
        inside = graph_nodes.names_of(nodes) - self._ends
        taken = set()
        for node in nodes:
            if node.name in inside:
                taken.update(map(owner_of, inputs_of(node)))
        for node in self._nodes:
            if node.name in taken and _is_small_constant(node):
                inside.add(node.name)

        members = tuple(node for node in self._nodes if node.name in inside)
        inputs = {}  # in order, each once
        for node in members:
            for name in inputs_of(node):
                if owner_of(name) not in inside:
                    inputs[name] = None
        return Subgraph(members, tuple(inputs))

    def _define(self, nodes):
        """Returns a `GraphDef` of some nodes, each under another name."""
        inside = graph_nodes.names_of(nodes)
        definition = tf.compat.v1.GraphDef(versions=self._versions)
        definition.library.CopyFrom(self._library)
        for node in nodes:
            copy = definition.node.add()
            copy.CopyFrom(node)
            copy.name = _rename(node.name, inside)
            del copy.input[:]
            for name in node.input:
                # Nothing here writes, so an order with respect to nodes outside has no effect.
                if name.startswith("^") and name[1:] not in inside:
                    continue
                copy.input.append(_rename(name, inside))
            if "_class" in copy.attr:
                del copy.attr["_class"]
        return definition


def _is_repeatable(graph, node):
    """Whether an operation gives the same result each time."""
    if node.op in _REPEATABLE:
        return True
    return not graph.get_operation_by_name(node.name).op_def.is_stateful


def _is_small_constant(node):
    return node.op == "Const" and node.attr["value"].ByteSize() <= _SMALL_CONSTANT


def _rename(name, inside):
    """Returns the name of a node or tensor in the copy, if its node is inside.

    TensorFlow may call results `name_0`, which must not be the name of another
    node.
    """
    control = "^" if name.startswith("^") else ""
    owner, colon, number = name.removeprefix("^").partition(":")
    return f"{control}{owner}_n{colon}{number}" if owner in inside else name
