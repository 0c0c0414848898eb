"""A folder that is a web page: it transcribes in the browser, with onnxruntime-web."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import List, Optional

from espnet_kd.device.description import GRAPHS, RECORD, TOKENS, check_files, read_description
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_path

PAGE = Path(__file__).parent / "page"
RUNTIME = "onnxruntime-web@1.30.0"  # of Microsoft, MIT; the version that was tested
# Of its 30 files those that run graphs on the CPU.
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)


def write_demo(model: Path, out: Path, runtime: Optional[Path] = None) -> List[Path]:
    """Write the page with a model and onnxruntime-web.

    Args:
        model: Exported folder.
        out: Folder to write: a new or empty one, or such a page, which is renewed.
        runtime: Folder with onnxruntime-web's files; None: npm fetches them.

    Returns:
        The files of the folder.

    Raises:
        UserError: the model is damaged, the folder is another's, or npm fails.
    """
    check_files(model, read_description(model))
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder; name another")
    ours = (out / "capture.js").is_file()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise UserError(f"{out}: has other files in it; name a new folder")
    with tempfile.TemporaryDirectory() as scratch:
        runtime = runtime or fetch_runtime(Path(scratch))
        sources = {path.name: path for path in sorted(PAGE.iterdir()) if path.is_file()}
        for name in (*GRAPHS, TOKENS, RECORD.file):
            sources[f"model/{name}"] = model / name
        for name in RUNTIME_FILES:
            sources[f"onnxruntime/{name}"] = runtime / name
            if not (runtime / name).is_file():
                raise UserError(f"{runtime / name}: no such file; expected it of {RUNTIME}")
        # A page that is half renewed has no model, rather than parts of two; it comes last.
        (out / "model" / RECORD.file).unlink(missing_ok=True)
        sources[f"model/{RECORD.file}"] = sources.pop(f"model/{RECORD.file}")
        for name, source in sources.items():
            with atomic_path(out / name) as tmp:
                shutil.copyfile(source, tmp)
    return [out / name for name in sources]


def fetch_runtime(folder: Path) -> Path:
    """Fetch onnxruntime-web with npm.

    Args:
        folder: Folder for it.

    Returns:
        The folder with its files.

    Raises:
        UserError: there is no npm, or it fails.
    """
    command = ["npm", "pack", RUNTIME, "--loglevel=error", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise UserError(
            "npm is not installed; install Node.js, or name a folder with onnxruntime-web's "
            "files: --onnxruntime_web"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{' '.join(command[:3])}: no answer within 10 minutes") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        reason = " ".join((done.stderr or done.stdout).split())[-300:]
        raise UserError(
            f"{' '.join(command[:3])} failed: {reason}; or name a folder with its files: "
            "--onnxruntime_web"
        )
    with tarfile.open(archives[0]) as archive:
        for name in RUNTIME_FILES:
            try:
                content = archive.extractfile(f"package/dist/{name}")
            except KeyError:
                content = None
            if content is None:
                raise UserError(f"{RUNTIME}: npm's archive has no dist/{name}")
            with content, open(folder / name, "wb") as f:
                shutil.copyfileobj(content, f)
    return folder
