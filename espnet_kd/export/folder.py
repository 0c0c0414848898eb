"""The exported folder of a model and format: graphs, tokens, `model.json`."""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Collection, Dict, Iterator, NamedTuple, Optional

import torch

from espnet_kd.device.description import GRAPHS, RECORD, TOKENS, Description, write_description
from espnet_kd.errors import UserError
from espnet_kd.export import formats, tracing
from espnet_kd.export.exportable import Chunks, Exportable

if TYPE_CHECKING:  # it comes with an extra
    import onnx


class Graphs(NamedTuple):
    """A model as graphs of floats, with what they are from.

    Attributes:
        source: The model.
        chunks: Chunks of the model.
        models: Graphs by file name.
        modules: The modules that they were traced from, by file name.
    """

    source: Exportable
    chunks: Chunks
    models: "Dict[str, onnx.ModelProto]"
    modules: Dict[str, torch.nn.Module]


def trace_all(source: Exportable, chunks: Chunks) -> Graphs:
    """Trace the three modules of a model."""
    about = dataclasses.asdict(_description(source, chunks, "float32", {}))
    facts = {k: v for k, v in about.items() if k not in ("bytes", "parity", "format", "source")}
    traced = (
        tracing.encoder(source, chunks.left_context),
        tracing.predictor(source),
        tracing.joiner(source),
    )
    models, modules = {}, {}
    for name, what in zip(GRAPHS, traced):
        models[name] = tracing.traced(what, facts if name == GRAPHS[0] else {})
        formats.name_weights(models[name], what.module)
        modules[name] = what.module
    return Graphs(source, chunks, models, modules)


def check_place(out: Path) -> None:
    """Refuse to replace what is no exported folder.

    Raises:
        UserError: `out` is something else.
    """
    if (
        out.exists()
        and not (out / RECORD.file).is_file()
        and (not out.is_dir() or any(out.iterdir()))
    ):
        raise UserError(
            f"{out}: there is something else than an exported model; name another --out"
        )


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of another as a whole, if the block succeeds.

    What exports that were killed have left is removed.

    Args:
        out: The folder to be; one of that name is replaced.

    Raises:
        UserError: see `check_place`.
    """
    check_place(out)
    out = out.resolve()  # a link stays one
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{out.name}.*.tmp"):
        if not _runs(left.name.split(".")[-2]):
            shutil.rmtree(left, ignore_errors=True)
    trial = out.parent / f".{out.name}.{os.getpid()}.tmp"
    trial.mkdir()
    try:
        yield trial
        shutil.rmtree(out, ignore_errors=True)
        os.replace(trial, out)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _runs(process: str) -> bool:
    """Tell whether a process of that number, not this one, runs."""
    if not process.isdecimal() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_folder(graphs: Graphs, form: str, out: Path, keep: Collection[str] = ()) -> Description:
    """Write the folder of a format; one of that name is replaced as a whole.

    Args:
        graphs: The model.
        form: One of `device.description.FORMATS`.
        out: The folder.
        keep: Parts whose matrices stay float, or int8 in int4, see `parts`.

    Raises:
        UserError: see `check_place`.
    """
    with new_folder(out) as folder:
        return write_files(graphs, form, folder, keep)


def write_files(graphs: Graphs, form: str, folder: Path, keep: Collection[str]) -> Description:
    """Write the files of a format into a folder; see `write_folder`."""
    for name, model in graphs.models.items():
        kept = [n for part, nodes in parts(graphs, name).items() if part in keep for n in nodes]
        (folder / name).write_bytes(
            formats.converted(model, form, kept, graphs.source.rounded).SerializeToString(
                deterministic=True
            )
        )
    with open(folder / TOKENS, "w", encoding="utf-8") as f:
        f.writelines(f"{token} {i}\n" for i, token in enumerate(graphs.source.tokens))
    sizes = {name: (folder / name).stat().st_size for name in (*GRAPHS, TOKENS)}
    description = _description(graphs.source, graphs.chunks, form, sizes)
    write_description(folder, description)
    return description


def parts(graphs: Graphs, name: str) -> Dict[str, "list[str]"]:
    """Group the products of a graph: one for each module of a block, and what is beside them.

    Args:
        graphs: The model.
        name: File name of the graph.

    Returns:
        Names of the products of each part.
    """
    groups: Dict[str, "list[str]"] = {}
    for product in formats.matrices(graphs.models[name]):
        words = product.split(".")
        part = ".".join(words[:3]) if words[0] == "blocks" else words[0]
        part = part if name == GRAPHS[0] else name.removesuffix(".onnx")
        groups.setdefault(part, []).append(product)
    return groups


def _description(
    source: Exportable, chunks: Chunks, form: str, sizes: Dict[str, int]
) -> Description:
    return Description(
        format=form,
        subsampling=source.subsampling,
        chunk_size=chunks.chunk_size,
        left_context=chunks.left_context,
        states=tracing.state_shapes(source, chunks.left_context),
        token_type=source.token_type,
        predictor=source.predictor,
        source=source.source,
        bytes=sizes,
        **source.front,
    )


def with_parity(
    folder: Path, description: Description, figures: Dict[str, Optional[float]], beyond: str
) -> None:
    """Add to a folder's `model.json` what a comparison says of it."""
    write_description(folder, dataclasses.replace(description, parity=figures, beyond=beyond))
