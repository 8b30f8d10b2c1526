"""ONNX files of the networks that are compared, with random weights.

Speed does not depend on what the weights are. A real file may be given instead.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes under construction, each named after what it gives."""

    def __init__(self):
        self.nodes, self.constants, self.random = [], [], np.random.default_rng(1)

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, *shape, scale=None):
        fan = np.prod(shape[1:]) if scale is None else 1
        scale = fan**-0.5 if scale is None else scale
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def add(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def save(self, file, inputs, output):
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, Path(file).stem, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, file)


def cnn(file):
    """McMahan et al. 2017: 1,663,370 parameters."""
    g = Graph()
    y = "x"
    for c, m in [(1, 32), (32, 64)]:
        y = g.add("Conv", y, g.weights(m, c, 5, 5), g.weights(m), pads=[2, 2, 2, 2])
        y = g.add("Relu", y)
        y = g.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = g.add("Flatten", y)
    y = g.add("Relu", g.add("Gemm", y, g.weights(512, 3136), g.weights(512), transB=1))
    y = g.add("Gemm", y, g.weights(10, 512), g.weights(10), transB=1)
    g.save(file, [("x", TensorProto.FLOAT, ["n", 1, 28, 28])], y)


def mobile(file):
    """Inverted residuals as in MobileNetV2 (Sandler et al. 2018), norms folded, sides of 96."""
    g = Graph()

    def conv(x, c, m, kernel, stride, groups=1, bounded=True):
        pad = kernel // 2
        weights = g.weights(m, c // groups, kernel, kernel)
        y = g.add("Conv", x, weights, g.weights(m), strides=[stride] * 2, pads=[pad] * 4, group=groups)
        bounds = [np.float32(0), np.float32(6)]
        return g.add("Clip", y, *map(g.constant, bounds)) if bounded else y

    y, c = conv("x", 3, 32, 3, 2), 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, m, times, stride in table:
        for at in range(times):
            step, wide = stride if at == 0 else 1, c * expand
            h = conv(y, c, wide, 1, 1) if expand > 1 else y
            h = conv(h, wide, wide, 3, step, groups=wide)
            h = conv(h, wide, m, 1, 1, bounded=False)
            y, c = g.add("Add", y, h) if step == 1 and c == m else h, m
    y = conv(y, c, 1280, 1, 1)
    y = g.add("Flatten", g.add("GlobalAveragePool", y))
    y = g.add("Gemm", y, g.weights(1000, 1280), g.weights(1000), transB=1)
    g.save(file, [("x", TensorProto.FLOAT, ["n", 3, 96, 96])], y)


def transformer(file, layers=6, width=384, heads=12, inner=1536, words=30522):
    """The shape of all-MiniLM-L6-v2, as PyTorch writes it."""
    g = Graph()

    def norm(x):
        axes = {"axes": [-1]}
        centred = g.add("Sub", x, g.add("ReduceMean", x, **axes))
        square = g.add("Pow", centred, g.constant(np.float32(2)))
        variance = g.add("Add", g.add("ReduceMean", square, **axes), g.constant(np.float32(1e-12)))
        y = g.add("Div", centred, g.add("Sqrt", variance))
        return g.add("Add", g.add("Mul", y, g.weights(width, scale=1)), g.weights(width, scale=1))

    def linear(x, n, m):
        return g.add("Add", g.add("MatMul", x, g.weights(n, m, scale=n**-0.5)), g.weights(m, scale=0.1))

    y = g.add("Gather", g.weights(words, width, scale=1), "tokens")
    y = norm(g.add("Add", y, g.weights(1, 128, width, scale=1)))
    split = g.constant(np.array([0, 0, heads, width // heads]))
    join = g.constant(np.array([0, 0, width]))
    for _ in range(layers):
        turned = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]
        q, k, v = [g.add("Transpose", g.add("Reshape", linear(y, width, width), split), perm=p) for p in turned]
        scores = g.add("Div", g.add("MatMul", q, k), g.constant(np.float32((width // heads) ** 0.5)))
        shares = g.add("Softmax", g.add("Add", scores, "mask"), axis=-1)
        h = g.add("Transpose", g.add("MatMul", shares, v), perm=[0, 2, 1, 3])
        y = norm(g.add("Add", linear(g.add("Reshape", h, join), width, width), y))
        h = linear(y, width, inner)
        e = g.add("Erf", g.add("Div", h, g.constant(np.float32(2**0.5))))
        e = g.add("Mul", h, g.add("Add", e, g.constant(np.float32(1))))
        h = g.add("Mul", e, g.constant(np.float32(0.5)))
        y = norm(g.add("Add", linear(h, inner, width), y))
    inputs = [("tokens", TensorProto.INT64, ["n", 128]), ("mask", TensorProto.FLOAT, ["n", 1, 1, 128])]
    g.save(file, inputs, y)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    cnn(folder / "cnn.onnx")
    mobile(folder / "mobile.onnx")
    transformer(folder / "transformer.onnx")
