"""The web page: what is in its folder, and what a browser hears with it."""

import errno
import json
import os
import shutil

import pytest

from espnet_kd.bin.demo_page import main
from espnet_kd.device.demo_folder import RUNTIME_FILES, write_demo
from espnet_kd.device.recogniser import Listener, Recogniser
from espnet_kd.errors import UserError
from tests.device import browser

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


DROP_TWICE = """(async () => {
    const file = new File([await (await fetch('a.wav')).arrayBuffer()], 'a.wav');
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    for (let i = 0; i < 2; i++) document.ondrop({ preventDefault() {}, dataTransfer });
    const busy = () => document.getElementById('file').disabled;
    do await new Promise(then => setTimeout(then, 20)); while (busy());
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.device.tone_model import write_tone_model

    return write_tone_model(tmp_path_factory.mktemp("tone") / "model")


@pytest.fixture
def runtime(tmp_path):
    (tmp_path / "runtime").mkdir()
    for name in RUNTIME_FILES:
        (tmp_path / "runtime" / name).touch()
    return tmp_path / "runtime"


def test_the_folder_is_whole_and_renewed(folder, runtime, tmp_path):
    for _ in range(2):
        with pytest.raises(SystemExit) as e:
            main([str(folder), "--out", str(tmp_path / "page"), "--onnxruntime_web", str(runtime)])
        assert e.value.code == 0
    names = {p.relative_to(tmp_path / "page").as_posix() for p in tmp_path.glob("page/**/*.*")}
    assert {"index.html", "app.js", "model/encoder.onnx", "model/tokens.txt"} < names
    assert {f"onnxruntime/{name}" for name in RUNTIME_FILES} < names


def test_a_page_that_is_half_renewed_has_no_model(folder, runtime, tmp_path, monkeypatch):
    write_demo(folder, tmp_path / "page", runtime)

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OSError):
        write_demo(folder, tmp_path / "page", runtime)
    assert not (tmp_path / "page/model/model.json").exists()


def test_what_npm_says_is_passed_on(folder, tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\n[ "$3" = --silent ] || echo "404 Not Found" >&2\nexit 1\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match="npm pack onnxruntime-web@.* failed: 404 Not Found; or"):
        write_demo(folder, tmp_path / "page")


def test_a_folder_of_somebody_else_is_left_alone(folder, runtime, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has other files in it; name a new folder"):
        write_demo(folder, runtime, runtime)
    (runtime / RUNTIME_FILES[0]).unlink()
    with pytest.raises(UserError, match="no such file; expected it of onnxruntime-web@"):
        write_demo(folder, tmp_path / "page", runtime)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="npm is not installed"):
        write_demo(folder, tmp_path / "page")


@pytest.mark.skipif(browser.program() is None, reason="no browser (Debian: chromium)")
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm, which fetches onnxruntime-web")
def test_a_browser_hears_what_the_runner_hears(folder, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    from tests.device.tone_model import tones

    page = tmp_path / "page"
    try:
        write_demo(folder, page)
    except UserError as e:
        pytest.skip(f"no network: {e}")
    soundfile.write(page / "a.wav", tones("  AB CAB.." + "CBA BC"), 16000)
    audio, _ = soundfile.read(page / "a.wav", dtype="float32")
    listener = Listener(Recogniser.load(folder))
    expected = [s.text for s in listener.push(audio) + listener.end()]
    assert expected == ["AB CAB", "CBA BC"]
    hear = (
        "import('./app.js').then(async m => JSON.stringify(await m.transcribe("
        "await (await fetch('a.wav')).arrayBuffer())))"
    )
    with browser.served(page) as url, browser.opened(tmp_path / "profile") as window:
        window.open(url)
        assert json.loads(window.evaluate(hear)) == expected
        shown = window.evaluate("document.getElementById('lines').innerText")
        assert [line.split(maxsplit=1)[1] for line in shown.split("\n") if line] == expected
        assert "RTF" in window.evaluate("document.getElementById('status').textContent")
        assert window.evaluate("document.getElementById('file').disabled") is False
        window.evaluate(DROP_TWICE)
        shown = window.evaluate("document.getElementById('lines').innerText")
        assert [line.split(maxsplit=1)[1] for line in shown.split("\n") if line] == expected
        mixed = "import('./features.js').then(m => Array.from(m.mono([[NaN, 3, .5], [1, 1, -1]])))"
        assert window.evaluate(mixed) == [0.5, 1, -0.25]
