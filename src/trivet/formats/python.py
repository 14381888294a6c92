"""Plain Python classes: anything with `inputs`, `outputs` and `predict`.

A saved class is a folder with a copy of its source file, what its `save` wrote, and a note of
which class it is. Its constructor takes no argument, unless it has a `load`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from trivet.errors import InvalidModel, ModelError, ModelNotFound
from trivet.formats import Predictor, Signature, Spec
from trivet.formats._loose import Loose
from trivet.schema import Schema

EXTRA = "python"
LIBRARIES: tuple[str, ...] = ()

_FOLDER = "model"
_ENTRY = "entry.json"
_DATA = "data"
_MEMBERS = ("inputs", "outputs", "predict")


def recognises(model: object) -> bool:
    """Say whether it is a class with the members of a model, an instance, or "module:Class"."""
    if isinstance(model, str):
        module, colon, name = model.partition(":")
        return (
            bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))
        )
    return isinstance(getattr(model, "inputs", None), Schema) and not _lacking(model)


def signature(model: object) -> Signature:
    """Return the class's own schemas."""
    instance = _instance(model)
    return Signature(instance.inputs, instance.outputs, is_contract=True)


def write(model: object, directory: Path) -> str:
    """Copy the class's source file, and let it save its data if it has a `save`."""
    instance = _instance(model)
    source = source_file(instance)
    folder = directory / _FOLDER
    folder.mkdir()
    shutil.copyfile(source, folder / source.name)
    entry = {"module_file": source.name, "class": type(instance).__qualname__}
    (folder / _ENTRY).write_text(json.dumps(entry), encoding="utf-8")
    if hasattr(instance, "save"):
        (folder / _DATA).mkdir()
        instance.save(folder / _DATA)
    return _FOLDER


def read(artifact: Path, spec: Spec) -> Predictor:
    """Import the copied source file and make the instance.

    Raises:
        InvalidModel: The folder is incomplete, or its code raises.
    """
    try:
        entry = json.loads((artifact / _ENTRY).read_text(encoding="utf-8"))
        source, name = artifact / entry["module_file"], str(entry["class"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(
            f"{artifact / _ENTRY}: cannot be read: {error}; save the model again"
        ) from error
    try:
        found: Any = _import_file(source)
        for part in name.split("."):
            found = getattr(found, part)
        instance = found.load(artifact / _DATA) if hasattr(found, "load") else found()
    except Exception as error:  # the user's code: anything may come
        raise InvalidModel(
            f"{source}: cannot load {name}: {type(error).__name__}: {error}"
        ) from error
    return predictor(instance, spec)


def runs_code(artifact: Path) -> bool:
    """Say yes: the artifact is code."""
    return True


def from_reference(reference: str) -> Any:
    """Import "module:Class" and make an instance.

    Raises:
        ModelNotFound: There is no such module or class.
        InvalidModel: The module or constructor raises, or the class lacks a member of a model.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InvalidModel(f"{reference}: importing {module_name} fails: {error}") from error
        raise ModelNotFound(
            f"no module {module_name!r} for the model {reference!r}; "
            "is its folder on the Python path?"
        ) from error
    except Exception as error:
        raise InvalidModel(f"{reference}: importing {module_name} fails: {error!r}") from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(classes) or 'no class'}"
        raise ModelNotFound(f"{module.__file__} has no class {name!r}; {hint}")
    return _instance(found)


def source_file(instance: object) -> Path:
    """Return the file that an instance's class was written in.

    Raises:
        ModelError: It was defined in an interactive session.
    """
    kind = instance if isinstance(instance, type) else type(instance)
    try:
        path = Path(inspect.getfile(kind))
    except (TypeError, OSError):
        path = Path()
    if not path.is_file():
        raise ModelError(
            f"class {kind.__qualname__} was defined in an interactive session, so its code "
            "cannot be saved; put it in a file of its own and import it"
        )
    return path


def predictor(instance: Any, spec: Spec) -> Predictor:
    """Return an instance's `transform` and `predict` as a predictor with the outputs of a spec.

    Raises:
        InvalidModel: It lacks a member, or declares other columns than the spec.
    """
    name = type(instance).__qualname__
    _check_members(instance, name)
    answers = Loose(spec.outputs, instance.outputs.names, f"class {name}")
    transform = getattr(instance, "transform", None)

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        given = instance.predict(batch if transform is None else transform(batch))
        return answers.batch(given, batch.num_rows)

    return Predictor(predict, parallel=bool(getattr(instance, "parallel", False)))


def _instance(model: Any) -> Any:
    """Return the instance that an object of the kinds in `recognises` stands for."""
    if isinstance(model, str):
        return from_reference(model)
    if not isinstance(model, type):
        return model
    _check_members(model, model.__qualname__)
    try:
        return model()
    except Exception as error:
        raise InvalidModel(
            f"{model.__qualname__}() raises {type(error).__name__}: {error}"
        ) from error


def _lacking(model: object) -> list[str]:
    return [member for member in _MEMBERS if not hasattr(model, member)]


def _check_members(model: object, name: str) -> None:
    lacking = _lacking(model)
    if lacking:
        raise InvalidModel(
            f"class {name} lacks {', '.join(lacking)}; a model has {', '.join(_MEMBERS)}"
        )
    for member in _MEMBERS[:2]:
        if not isinstance(getattr(model, member), Schema):
            raise InvalidModel(
                f"class {name}: {member} is no trivet.Schema; write Schema([Field(...), ...])"
            )


def _import_file(source: Path) -> Any:
    # Two versions of a model have files of the same name: the path makes the module's name unique.
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    name = f"_trivet_model_{digest}_{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
