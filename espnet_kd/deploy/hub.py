"""Upload of a packed model to the Hugging Face hub."""

import importlib.util
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import List, Optional

from espnet_kd.errors import UserError


def check_repo(repo: str) -> None:
    """Check a name of the form `user/name`.

    Raises:
        UserError: it is not of that form.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise UserError(f"--repo '{repo}': expected user/name, of letters, digits, '-', '_', '.'")


def missing_for_upload() -> Optional[str]:
    """Say what an upload would fail for: no package, no login; None: nothing is known of."""
    try:
        there = importlib.util.find_spec("huggingface_hub") is not None
    except ValueError:  # a module without a spec, as a test has it
        there = True
    if not there:
        return (
            "huggingface_hub is not installed: pip install huggingface_hub; --hf_dry_run true "
            "only says what would be uploaded"
        )
    if any(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")):
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    files = [os.environ.get("HF_TOKEN_PATH") or f"{home}/token", "~/.huggingface/token"]
    if any(Path(file).expanduser().is_file() for file in files):
        return None
    return (
        "no login for the Hugging Face hub: hf auth login (or huggingface-cli login), or set "
        "HF_TOKEN; --hf_dry_run true only says what would be uploaded"
    )


def contents(archive: Path) -> List[zipfile.ZipInfo]:
    """List the files of a packed model.

    Raises:
        UserError: it is not there, or not an archive that ESPnet packed.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; pack the model first (stage 18)")
    try:
        with zipfile.ZipFile(archive) as z:
            files = z.infolist()
    except zipfile.BadZipFile as e:
        raise UserError(f"{archive}: not a zip file ({e}); pack the model again") from None
    if "meta.yaml" not in (file.filename for file in files):
        raise UserError(f"{archive}: no meta.yaml in it, so it is not a model ESPnet packed")
    return files


def upload(archive: Path, repo: str) -> str:
    """Put the content of a packed model into a model repository, as ESPnet's recipes do.

    The repository is made if it is not there, public; one that is there stays as it is. Who
    uploads is known to `huggingface_hub` (`huggingface-cli login` or `hf auth login`).

    Returns:
        The address.

    Raises:
        UserError: `huggingface_hub` is not installed, or the hub refuses.
    """
    check_repo(repo)
    contents(archive)
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            "huggingface_hub is not installed: pip install huggingface_hub, or upload the files "
            f"of {archive} yourself"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as z:
            z.extractall(folder)
        try:
            hub = huggingface_hub.HfApi()
            address = hub.create_repo(repo, repo_type="model", exist_ok=True)
            hub.upload_folder(
                repo_id=repo,
                repo_type="model",
                folder_path=folder,
                commit_message=f"Upload {archive.name}",
            )
        except Exception as e:  # its errors are those of whichever HTTP library it uses
            reason = " ".join(str(e).split()) or type(e).__name__
            raise UserError(f"{repo}: the upload failed: {reason}") from e
    return str(address)
