"""A `.tflite` of dynamic-range int8 run by LiteRT, as it is or in float32 throughout; needs ai_edge_litert."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def in_float(content: bytes, instead: Mapping[int, np.ndarray] = {}) -> bytes:
    """The same graph with each int8 weight as the floats it stands for, or as what is given for it `instead`."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    for index, tensor in enumerate(graph.tensors):
        buffer = model.buffers[tensor.buffer]
        if tensor.type == schema.TensorType.INT8 and buffer.data is not None:
            stored = np.asarray(buffer.data).view(np.int8).astype(np.float32).reshape(tensor.shape)
            values = instead.get(index, (stored - tensor.quantization.zeroPoint[0]) * tensor.quantization.scale[0])
            buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    kept, source = [], {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.DEQUANTIZE:
            source[operator.outputs[0]] = operator.inputs[0]
        else:
            operator.inputs = [source.get(tensor, tensor) for tensor in operator.inputs]
            kept.append(operator)
    graph.operators = kept
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


class Running:
    """A file's graph in LiteRT: a waveform (1, N) to scores (K,) and log-mel (T, F).

    By its plain kernels, which leave the values inside to be looked at, or by the fastest that it has.
    """

    def __init__(self, content: bytes, fastest: bool = False) -> None:
        from ai_edge_litert import interpreter

        kernels = interpreter.OpResolverType
        self._interpreter = interpreter.Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=kernels.AUTO if fastest else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=not fastest,
        )
        self._interpreter.allocate_tensors()

    def __call__(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (K,) and log-mel (T, F)."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], waveform)
        self._interpreter.invoke()
        scores, log_mel = (
            self._interpreter.get_tensor(found["index"]).copy() for found in self._interpreter.get_output_details()
        )
        return scores[0], log_mel

    def value(self, tensor: int) -> np.ndarray:
        """What a tensor of a batch of one holds after a call."""
        return self._interpreter.get_tensor(tensor)[0].copy()
