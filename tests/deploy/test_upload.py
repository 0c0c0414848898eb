"""What would be sent to the hub, with a module that stands for `huggingface_hub`."""

import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from tests.deploy.local_hub import LocalHub
from tests.patience import PATIENCE

ARCHIVE = "exp/kd_s/packed/kd_s.zip"


class Hub:
    """Remembers what it was asked to do."""

    def __init__(self, refuse=None):
        self.refuse, self.repos, self.files = refuse, [], {}

    def create_repo(self, repo_id, *, repo_type, exist_ok):
        assert repo_type == "model" and exist_ok
        if self.refuse:
            raise self.refuse
        self.repos.append(repo_id)
        return f"hub:{repo_id}"

    def upload_folder(self, *, repo_id, repo_type, folder_path, commit_message):
        assert repo_id in self.repos and repo_type == "model" and commit_message
        root = Path(folder_path)
        self.files = {
            str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()
        }


@pytest.fixture
def here(packed, monkeypatch):
    monkeypatch.chdir(packed)


def use(monkeypatch, hub):
    module = types.ModuleType("huggingface_hub")
    module.HfApi = lambda: hub
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


def upload(run, *words, archive=ARCHIVE, repo="me/digits"):
    return run("upload_model", "--archive", archive, "--repo", repo, *words)


def test_the_content_of_the_archive_is_uploaded(here, run, monkeypatch):
    hub = use(monkeypatch, Hub())
    code, out, err = upload(run)
    assert (code, out) == (0, f"uploaded {ARCHIVE} to hub:me/digits\n"), err
    with zipfile.ZipFile(ARCHIVE) as z:
        assert hub.files == {name: z.read(name) for name in z.namelist()}
    assert "meta.yaml" in hub.files and "README.md" in hub.files  # where the hub looks


def test_a_dry_run_uploads_nothing(here, run, monkeypatch):
    hub = use(monkeypatch, Hub())
    code, out, _ = upload(run, "--dry_run")
    assert code == 0 and hub.repos == [] and out.startswith("would upload to me/digits: 6 files, ")
    assert "    exp/kd_s/config.yaml (" in out


def test_refusals_are_one_line(here, run, monkeypatch, tmp_path):
    use(monkeypatch, Hub(refuse=RuntimeError("401: who are you?\nRequest 1")))
    code, _, err = upload(run)
    assert code == 1
    assert err == (
        "upload_model: error: me/digits: the upload failed: 401: who are you? Request 1\n"
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "huggingface_hub is not installed: pip install" in upload(run)[2]
    assert "expected user/name" in upload(run, repo="digits")[2]
    assert "no such file; pack the model first" in upload(run, archive="no.zip")[2]
    (tmp_path / "x.zip").write_text("no zip")
    assert "not a zip file" in upload(run, archive=str(tmp_path / "x.zip"))[2]
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as z:
        z.writestr("a", "b")
    assert "no meta.yaml" in upload(run, "--dry_run", archive=str(tmp_path / "y.zip"))[2]


def test_the_real_client_uploads_it_to_a_local_hub(here):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is installed by who uploads")
    words = ["-m", "espnet_kd.bin.upload_model", "--archive", ARCHIVE, "--repo", "me/digits"]
    with LocalHub() as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_token", "HOME": "."}
        env.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HOME="hf")
        env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, *words], env=env, capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"uploaded {ARCHIVE} to {hub.address}/me/digits\n"
    assert hub.created["name"] == "digits" and hub.created.get("type", "model") == "model"
    with zipfile.ZipFile(ARCHIVE) as z:
        assert hub.files == {name: z.read(name) for name in z.namelist()}
    assert any(request.startswith("PUT /store/") for request in hub.asked)  # the weights
