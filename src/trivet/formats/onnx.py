"""ONNX graphs, run by ONNX Runtime.

A graph reads all columns as one tensor [rows, columns], or each column as a tensor [rows, 1].
The classes of a classifier are noted in the file's metadata, and a ZipMap at its end, which
makes a Python dict of every row, is taken off, when the model is saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import InvalidModel, MissingExtra, ModelError, PredictionError
from trivet.formats import Predictor, Signature, Spec
from trivet.formats._arrays import Matrix, arrange, numbers
from trivet.formats._kinds import is_a
from trivet.formats._loose import Loose
from trivet.formats._outputs import Array, Classification, classifier_schema, regression_schema
from trivet.schema import Field, Schema

if TYPE_CHECKING:
    import onnx

EXTRA = "onnx"
LIBRARIES = ("onnxruntime",)

_FILE = "model.onnx"
_CLASSES = "trivet.classes"

#: ONNX Runtime's name of a tensor's type to ours; NumPy's is the same but for text.
_TENSORS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
#: The same by the element type of a ModelProto.
_ELEMENTS = {1: "float32", 11: "float64", 7: "int64", 6: "int32", 9: "bool", 8: "string"}


def recognises(model: object) -> bool:
    """Say whether it is a ModelProto or the path of an .onnx file."""
    if isinstance(model, Path):
        return model.suffix == ".onnx"
    return any(
        k.__name__ == "ModelProto" and k.__module__.startswith("onnx") for k in type(model).__mro__
    )


def signature(model: object) -> Signature:
    """Read the schemas off a graph; one tensor of all columns does not tell their names."""
    proto = _proto(model)
    known = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in known]
    columns = [_field(value) for value in inputs if len(inputs) > 1 or _width(value) == 1]
    classes = _classes(proto)
    if classes is not None:
        outputs = classifier_schema(classes)
    elif len(proto.graph.output) > 1:
        outputs = Schema(_field(value) for value in proto.graph.output)
    else:
        value = proto.graph.output[0]
        kind = _field(value).type
        floats = kind.startswith("float")
        outputs = (
            regression_schema(_width(value) or 1)
            if floats
            else Schema([Field(name="label", type=kind)])
        )
    return Signature(Schema(columns) if columns else None, outputs)


def write(model: object, directory: Path) -> str:
    """Write the graph, with a note of its classes and without a ZipMap."""
    import onnx  # noqa: PLC0415 - needed to save a model, not to run it

    proto = onnx.ModelProto()
    proto.CopyFrom(_proto(model))
    classes = _classes(proto)
    if classes is not None:
        _unzip(proto, len(classes))
        proto.metadata_props.add(key=_CLASSES, value=json.dumps(classes))
    onnx.save(proto, directory / _FILE)
    return _FILE


def read(artifact: Path, spec: Spec) -> Predictor:
    """Open a session on the graph.

    Raises:
        InvalidModel: It is no ONNX graph, or does not fit the inputs or outputs.
        MissingExtra: ONNX Runtime is not installed.
    """
    session = _session(artifact, spec.threads)
    feed = _feed(session, spec.inputs, str(artifact))
    answer = _answer(session, spec.outputs, str(artifact))
    names = [value.name for value in session.get_outputs()]

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        with np.errstate(over="ignore"):  # what a graph's float32 cannot hold is infinity to it
            fed = feed(batch)
        return answer(session.run(names, fed), batch.num_rows)

    return Predictor(predict, parallel=True)


def runs_code(artifact: Path) -> bool:
    """Say no: a graph holds ONNX's own operators only."""
    return False


def _proto(model: object) -> onnx.ModelProto:
    try:
        import onnx  # noqa: PLC0415 - needed to save a model, not to run it
    except ImportError as error:
        raise ModelError("saving an ONNX model needs the package onnx: pip install onnx") from error
    if not isinstance(model, Path):
        assert is_a(model, f"{type(model).__module__}.ModelProto")
        return model  # type: ignore[return-value]
    try:
        return onnx.load(model)
    except Exception as error:  # protobuf's and onnx's own
        raise InvalidModel(f"{model}: no ONNX model: {error}") from error


def _width(value: onnx.ValueInfoProto) -> int | None:
    """Return the columns of a tensor, None if its shape leaves them open."""
    sizes = value.type.tensor_type.shape.dim
    return 1 if len(sizes) < 2 else sizes[1].dim_value or None


def _field(value: onnx.ValueInfoProto) -> Field:
    kind = _ELEMENTS.get(value.type.tensor_type.elem_type)
    if kind is None:
        raise InvalidModel(
            f"{value.name!r} of the graph is no tensor of numbers, booleans or strings"
        )
    return Field(name=value.name, type=kind)


def _classes(proto: onnx.ModelProto) -> list[Any] | None:
    """Return a classifier's classes, None if the graph gives no label with probabilities."""
    if len(proto.graph.output) != 2:
        return None
    label, second = proto.graph.output
    if second.type.WhichOneof("value") == "tensor_type":
        floats = (
            _field(second).type.startswith("float") and len(second.type.tensor_type.shape.dim) == 2
        )
        if not floats or _width(second) == 1 or _field(label).type.startswith("float"):
            return None
    for node in reversed(proto.graph.node):
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_") and (attribute.ints or attribute.strings):
                return list(attribute.ints) or [text.decode() for text in attribute.strings]
    return _extracted(proto) or list(range(_width(second) or 0)) or None


def _extracted(proto: onnx.ModelProto) -> list[Any]:
    """Return the constant that the label is taken from, as converters without an attribute do."""
    from onnx import numpy_helper  # noqa: PLC0415 - needed to save a model, not to run it

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    width = _width(proto.graph.output[1])
    for node in reversed(proto.graph.node):
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            values = numpy_helper.to_array(constants[node.input[0]]).ravel()
            if values.dtype.kind in "iOSU" and len(values) == width:
                return [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return []


def _unzip(proto: onnx.ModelProto, classes: int) -> None:
    from onnx import TensorProto, helper  # noqa: PLC0415 - needed to save a model, not to run it

    for node in list(proto.graph.node):
        if node.op_type == "ZipMap":
            proto.graph.node.remove(node)
            kept = helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, classes])
            proto.graph.output[1].CopyFrom(kept)


def _session(artifact: Path, threads: int) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - heavy
    except ImportError as error:
        raise MissingExtra("a model of the format 'onnx'", EXTRA) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base
        raise InvalidModel(f"{artifact}: ONNX Runtime cannot read it: {error}") from error


def _feed(session: Any, inputs: Schema, who: str) -> Callable[[pa.RecordBatch], dict[str, Array]]:
    tensors = session.get_inputs()
    for tensor in tensors:
        if tensor.type not in _TENSORS:
            raise InvalidModel(
                f"{who}: the graph reads {tensor.name!r} as {tensor.type}; use a tensor"
            )
        if tensor.shape and isinstance(tensor.shape[0], int):
            raise InvalidModel(
                f"{who}: the graph reads {tensor.shape[0]} rows at a time; export it with a "
                "dynamic first dimension"
            )
    if len(tensors) == 1 and (len(inputs) > 1 or tensors[0].shape[1:] == [1]):
        return _one_tensor(tensors[0], inputs, who)
    order = arrange([tensor.name for tensor in tensors], inputs, who)
    plan = []
    for tensor, place in zip(tensors, order, strict=True):
        kind = _TENSORS[tensor.type]
        _check(inputs.fields[place], kind, who)
        plan.append(
            (tensor.name, place, _dtype(kind), (-1, 1) if len(tensor.shape) == 2 else (-1,))
        )

    def feed(batch: pa.RecordBatch) -> dict[str, Array]:
        return {
            name: numbers(batch.column(place)).astype(dtype, copy=False).reshape(shape)
            for name, place, dtype, shape in plan
        }

    return feed


def _one_tensor(
    tensor: Any, inputs: Schema, who: str
) -> Callable[[pa.RecordBatch], dict[str, Array]]:
    width = tensor.shape[1] if len(tensor.shape) > 1 else 1
    if isinstance(width, int) and width != len(inputs):
        raise InvalidModel(f"{who}: the graph reads {width} columns, the inputs are {len(inputs)}")
    kind, name = _TENSORS[tensor.type], tensor.name
    dtype = _dtype(kind)
    for field in inputs:
        _check(field, kind, who)
    if kind.startswith("float"):
        matrix = Matrix(inputs, range(len(inputs)), {}, who)
        return lambda batch: {name: matrix(batch).astype(dtype, copy=False)}

    def stack(batch: pa.RecordBatch) -> dict[str, Array]:
        columns = [numbers(column).astype(dtype, copy=False) for column in batch.columns]
        return {name: np.stack(columns, axis=1)}

    return stack


def _dtype(kind: str) -> np.dtype[Any]:
    return np.dtype(object if kind == "string" else kind)


def _check(field: Field, kind: str, who: str) -> None:
    """Refuse a column that the tensor cannot hold.

    Raises:
        InvalidModel: It is of another kind, or may be null where only floats can say so.
    """
    floats = kind.startswith("float")
    wide = field.type in ("timestamp", "date") or (field.type == "string") != (kind == "string")
    if (
        wide
        or (field.type.startswith("float") and not floats)
        or (kind == "bool") > (field.type == "bool")
    ):
        raise InvalidModel(f"{who}: input {field.name!r} is {field.type}, the graph reads {kind}")
    if field.nullable and not floats:
        raise InvalidModel(
            f"{who}: input {field.name!r} may be null, and the graph's {kind} tensor has no room "
            "for it; fill it before, or declare it nullable = false"
        )


def _answer(session: Any, outputs: Schema, who: str) -> Callable[[list[Any], int], pa.RecordBatch]:
    noted = session.get_modelmeta().custom_metadata_map.get(_CLASSES)
    if noted is not None:
        return _classifier(json.loads(noted), outputs, who)
    tensors = session.get_outputs()
    if len(tensors) > 1:
        loose = Loose(outputs, [tensor.name for tensor in tensors], who)
        names = [tensor.name for tensor in tensors]
        return lambda given, rows: loose.batch(
            {name: array.reshape(len(array)) for name, array in zip(names, given, strict=True)},
            rows,
        )
    width = tensors[0].shape[1] if len(tensors[0].shape) > 1 else 1
    kind = _TENSORS.get(tensors[0].type, tensors[0].type)
    fits = all(kind.startswith("float") == field.type.startswith("float") for field in outputs)
    if not fits or (isinstance(width, int) and width != len(outputs)):
        raise InvalidModel(
            f"{who}: the outputs are {', '.join(f'{f.name} {f.type}' for f in outputs)}; "
            f"the model offers {width} columns of {kind}"
        )
    single = Loose(outputs, outputs.names, who)
    return lambda given, rows: single.batch(given[0], rows)


def _classifier(
    classes: list[Any], outputs: Schema, who: str
) -> Callable[[list[Any], int], pa.RecordBatch]:
    served = Classification(outputs, classes, who)
    known = pa.array(classes)

    def answer(given: list[Any], rows: int) -> pa.RecordBatch:
        labels, probabilities = given
        codes = None
        if served.wants_label:
            found = pc.index_in(
                pa.array(labels.reshape(len(labels))).cast(known.type), value_set=known
            )
            if found.null_count:
                raise PredictionError(
                    f"{who}: expected one of the classes {classes}, got another label; "
                    "convert the model again with a ZipMap, which names its classes"
                )
            codes = found.to_numpy()
        return served.batch(rows, probabilities, codes)

    return answer
