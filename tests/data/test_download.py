"""Downloading LibriSpeech: a server on this machine that does what servers do."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import importlib.util
import io
import re
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from espnet_kd.bin import download_librispeech
from espnet_kd.data import download, librispeech_parts
from espnet_kd.data.librispeech_parts import PARTS, Part

PART = "dev-clean"


def make_archive(part=PART, files=6):
    """Return a .tar.gz as openslr's: `files` members of noise under LibriSpeech/<part>."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        names = [f"LibriSpeech/{part}/1/2/1-2-{n:04d}.flac" for n in range(files)]
        for n, name in enumerate(["LibriSpeech/README.TXT", *names]):
            info = tarfile.TarInfo(name)
            info.size = 50_000
            noise = np.random.default_rng(n).bytes(info.size)
            tar.addfile(info, io.BytesIO(noise))
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """A server with ranges. `state` says how it misbehaves and keeps what was asked for."""
    content = make_archive()
    state = SimpleNamespace(content=content, asked=[], cut_at=[], ranges=True, missing=set(),
                            redirect="", shift=0, drip=0.0)  # fmt: skip

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append((self.path, self.headers.get("Range")))
            if any(self.path.startswith(prefix) for prefix in state.missing):
                self.send_error(404)
                return
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            start = 0
            if state.ranges and self.headers.get("Range"):
                start = int(re.match(r"bytes=(\d+)-$", self.headers["Range"])[1])
                start += state.shift
                self.send_response(206)
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                start -= state.shift
            else:
                self.send_response(200)
            rest = state.content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            while state.drip:
                self.wfile.write(b"x")
                time.sleep(state.drip)
            # Promises all of it, and closes after a part.
            self.wfile.write(rest[: state.cut_at.pop(0)] if state.cut_at else rest)

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the client has hung up
                super().handle()

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(PARTS, PART, Part(12, len(content), checksum, 6, None))
    monkeypatch.setattr(download, "PAUSE", 0.001)
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def fetch(cli, server, tmp_path):
    def run(*options, mirror=server.url):
        return cli("download_librispeech", "--out", tmp_path / "d", "--parts", "dev_clean",
                   "--mirror", mirror, *options)  # fmt: skip

    return run


def unpacked(tmp_path):
    return sorted(str(p.relative_to(tmp_path / "d")) for p in (tmp_path / "d").rglob("*.*"))


WHOLE = ["LibriSpeech/README.TXT"]
WHOLE += [f"LibriSpeech/dev-clean/1/2/1-2-{n:04d}.flac" for n in range(6)]


def test_a_cut_connection_goes_on_where_it_stopped(fetch, server, tmp_path):
    server.cut_at = [100_000, 0, 50_001]
    code, err = fetch()
    assert code == 0, err
    ranges = [range_ for _, range_ in server.asked]
    assert ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=150001-"]
    assert server.asked[0][0] == "/12/dev-clean.tar.gz"
    assert unpacked(tmp_path) == WHOLE  # no archive, no folder of the work
    first = np.random.default_rng(1).bytes(50_000)
    assert (tmp_path / "d" / WHOLE[1]).read_bytes() == first
    code, err = fetch()
    assert code == 0 and len(server.asked) == 4  # nothing is fetched again


def test_what_an_earlier_run_left_is_the_beginning(fetch, server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{PART}.tar.gz.part").write_bytes(server.content[:70_000])
    assert fetch("--keep_archives", "true")[0] == 0
    assert [range_ for _, range_ in server.asked] == ["bytes=70000-"]
    assert (tmp_path / "d" / f"{PART}.tar.gz").read_bytes() == server.content


def test_a_server_without_ranges_starts_again(fetch, server, tmp_path):
    server.ranges, server.cut_at = False, [200_000]
    assert fetch()[0] == 0
    assert unpacked(tmp_path) == WHOLE


def test_the_next_mirror_is_tried(ok, server, tmp_path, monkeypatch):
    server.missing = {"/one"}
    mirrors = {"main": f"{server.url}/one", "us": f"{server.url}/two"}
    monkeypatch.setattr(download_librispeech, "MIRRORS", mirrors)
    ok("download_librispeech", "--out", tmp_path / "d", "--parts", PART)
    assert [path for path, _ in server.asked] == [
        "/one/12/dev-clean.tar.gz", "/two/12/dev-clean.tar.gz"
    ]  # fmt: skip
    assert unpacked(tmp_path) == WHOLE


@pytest.fixture
def part(tmp_path, server):
    """What an earlier run left: the first 250,000 bytes."""
    path = tmp_path / "d" / f"{PART}.tar.gz.part"
    path.parent.mkdir()
    path.write_bytes(server.content[:250_000])
    return path


@pytest.mark.parametrize("cut", [0, 100, 200_000, 249_999])
def test_a_server_without_ranges_never_shortens_what_is_there(cut, fetch, server, part):
    server.ranges, server.cut_at = False, [cut] * 100
    assert "cannot be downloaded" in one_line(*fetch())
    assert part.read_bytes() == server.content[:250_000]
    server.cut_at = [260_000, 255_000]  # the second brings nothing new
    assert fetch("--keep_archives", "true")[0] == 0
    assert part.with_suffix("").read_bytes() == server.content


def test_a_server_that_begins_or_leads_elsewhere_is_left(fetch, server, part):
    server.shift = 7
    assert "sends bytes from 250007 on, not from 250000 on" in one_line(*fetch())
    for server.redirect, words in (
        ("/12/dev-clean.tar.gz", "infinite loop"),
        ("file:///etc/hostname", "not allowed"),
        ("http://[::1/", "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999/", "cannot be downloaded"),
    ):
        assert words in one_line(*fetch())
    assert part.read_bytes() == server.content[:250_000]


def test_tries_are_bounded_over_all_mirrors(cli, server, tmp_path, monkeypatch):
    mirrors = {"main": f"{server.url}/one", "us": f"{server.url}/two"}
    monkeypatch.setattr(download_librispeech, "MIRRORS", mirrors)
    server.cut_at = 60 * [1]  # each of them brings something
    line = one_line(*cli("download_librispeech", "--out", tmp_path / "d", "--parts", PART))
    assert "cannot be downloaded" in line
    assert len(server.asked) <= download.ATTEMPTS


def test_a_server_that_is_too_slow_is_left(fetch, server, monkeypatch):
    monkeypatch.setattr(download, "WINDOW", 0.02)
    server.drip = 0.01
    assert re.search(r"\d kB/s is too slow; run the same", one_line(*fetch()))
    server.drip = 0.0


@pytest.mark.parametrize(
    "mirror",
    ["http://[::1", "http://", "https:///12", "httpfoo", "ftp://host/a", "http://host:port",
     "http://host:0/", "http://host:99999", "http://a b/", "http://host/?12", "http://h\u00f6st"],
)  # fmt: skip
def test_a_mirror_that_is_no_address(mirror, fetch, server):
    line = one_line(*fetch(mirror=mirror))
    assert f"--mirror '{mirror}' is neither an address (http://" in line


def test_two_at_once(fetch, server, part):
    with open(part, "ab") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert "dev-clean.tar.gz.part: another process is fetching it" in one_line(*fetch())
    assert part.read_bytes() == server.content[:250_000] and not server.asked
    assert fetch()[0] == 0


def test_more_than_there_can_be(fetch, server, part):
    part.write_bytes(server.content + b"<html>")
    assert fetch("--keep_archives", "true")[0] == 0
    assert not server.asked and part.with_suffix("").read_bytes() == server.content


def one_line(code, err):
    lines = [line for line in err.splitlines() if not line.startswith("[progress]")]
    assert code == 1 and len(lines) == 1, err
    assert lines[0].startswith("download_librispeech: error: ")
    return lines[0]


def test_a_wrong_checksum_leaves_nothing(fetch, server, tmp_path):
    server.content = server.content[:-1] + b"x"
    assert "sha256 checksum" in one_line(*fetch())
    assert unpacked(tmp_path) == []


def test_an_archive_of_the_user_is_used_and_never_removed(fetch, server, tmp_path):
    (tmp_path / "d").mkdir()
    archive = tmp_path / "d" / f"{PART}.tar.gz"
    archive.write_bytes(server.content[:-1])
    assert "checksum" in one_line(*fetch())
    assert archive.exists()
    archive.write_bytes(server.content)
    assert fetch()[0] == 0
    assert archive.exists() and not server.asked


def test_no_space_is_said_before_anything_is_fetched(fetch, server, monkeypatch):
    usage = SimpleNamespace(free=len(server.content))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    line = one_line(*fetch())
    assert "0.0 GB are free, downloading dev-clean needs" in line and "--download_dir" in line
    assert not server.asked


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda s: s.missing.add("/"), "HTTP Error 404"),
        (lambda s: setattr(s, "content", b"<html>log in</html>"), "another file, of 19 bytes"),
        (lambda s: s.cut_at.extend([1000] + 9 * [0]), "the connection was closed; run the same"),
    ],
)
def test_a_server_that_does_not_have_it(spoil, words, fetch, server):
    spoil(server)
    line = one_line(*fetch())
    assert "dev-clean.tar.gz.part cannot be downloaded" in line and words in line
    assert "LIBRISPEECH=DIR" in line


def test_no_server(fetch):
    assert "cannot be downloaded" in one_line(*fetch(mirror="http://127.0.0.1:1"))
    assert "(did you mean 'us'?)" in one_line(*fetch(mirror="uss"))


def test_unpacking_goes_on_after_a_kill(fetch, server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{PART}.tar.gz").write_bytes(server.content)
    half = tmp_path / "d" / f".unpack-{PART}" / "LibriSpeech" / PART / "1" / "2"
    half.mkdir(parents=True)
    (half / "1-2-0000.flac").write_bytes(np.random.default_rng(1).bytes(50_000))
    (half / "1-2-0001.flac").write_bytes(b"broken off")
    before = (half / "1-2-0000.flac").stat().st_ino, (half / "1-2-0000.flac").stat().st_mtime_ns
    assert fetch()[0] == 0
    done = tmp_path / "d" / "LibriSpeech" / PART / "1" / "2"
    after = (done / "1-2-0000.flac").stat()
    assert (after.st_ino, after.st_mtime_ns) == before
    assert (done / "1-2-0001.flac").read_bytes() == np.random.default_rng(2).bytes(50_000)


def test_unpacking_does_not_trust_a_length(fetch, server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{PART}.tar.gz").write_bytes(server.content)
    name = tmp_path / "d" / f".unpack-{PART}" / WHOLE[1]
    name.parent.mkdir(parents=True)
    name.write_bytes(bytes(50_000))  # as a power cut leaves it
    assert fetch()[0] == 0
    assert (tmp_path / "d" / WHOLE[1]).read_bytes() == np.random.default_rng(1).bytes(50_000)


@pytest.mark.parametrize(
    "content, words",
    [
        (lambda good: good[:-8] + b"\0\0\0\0" + good[-4:], "broken archive (CRC check failed"),
        (lambda good: good[:200_000], "broken archive ("),
        (lambda good: gzip.compress(b"no tar"), "broken archive ("),
        (lambda good: make_archive("dev-other"), "holds no LibriSpeech/dev-clean"),
    ],
)
def test_a_broken_archive_makes_no_part(content, words, fetch, server, tmp_path, monkeypatch):
    broken = content(server.content)
    checksum = "md5:" + hashlib.md5(broken).hexdigest()
    monkeypatch.setitem(PARTS, PART, Part(12, len(broken), checksum, 6, None))
    server.content = broken
    assert words in one_line(*fetch())
    assert not (tmp_path / "d" / "LibriSpeech").exists()


def test_space_is_the_most_that_lies_there_at_once(tmp_path):
    def space(*parts, keep=False):
        return download_librispeech.space_needed(tmp_path, parts, keep) / 1e9

    three = ("train-clean-100", "train-clean-360", "train-other-500")
    # The largest archive beside all that is unpacked; with archives kept, everything twice.
    assert space(*three) == pytest.approx(60.03 * 1.05 + 30.59, abs=0.01)
    assert space(*three, keep=True) == pytest.approx(60.03 * 2.05, abs=0.01)
    (tmp_path / "train-clean-100.tar.gz").write_bytes(b"the user's")
    assert space("train-clean-100") == pytest.approx(6.387 * 1.05, abs=0.01)
    # A run that was ended while it unpacked has left a part of it, at most all.
    half = tmp_path / ".unpack-train-clean-100" / "LibriSpeech" / "big"
    half.parent.mkdir(parents=True)
    for written, left in ((2e9, 6.387 * 1.05 - 2), (8e9, 0)):
        with open(half, "wb") as f:
            f.truncate(int(written))  # takes no room
        assert space("train-clean-100") == pytest.approx(left, abs=0.01)


def test_known_parts():
    train = [PARTS[name] for name in ("train-clean-100", "train-clean-360", "train-other-500")]
    assert sum(part.utterances for part in train) == 281_241
    assert sum(part.hours for part in train) == pytest.approx(961, abs=1)
    for name, part in PARTS.items():
        digits = {"sha256": 64, "md5": 32}[part.checksum.split(":")[0]]
        assert re.fullmatch(rf"\w+:[0-9a-f]{{{digits}}}", part.checksum), name


def test_checksums_are_torchaudio_s():
    spec = importlib.util.find_spec("torchaudio")
    if spec is None:
        pytest.skip("torchaudio is not installed")
    source = Path(spec.submodule_search_locations[0], "datasets", "librispeech.py").read_text()
    known = re.findall(r"resources/12/([\w-]+)\.tar\.gz\": \"(\w{64})\"", source)
    assert len(known) == 7
    for name, digest in known:
        assert PARTS[name].checksum == f"sha256:{digest}"


def test_missing_utterances_and_chapters_are_named(tmp_path, caplog):
    (tmp_path / "CHAPTERS.TXT").write_text(
        "; ID |READER|MINUTES| SUBSET\n"
        "7 | 1 | 2.5 | dev-clean | 1\n8 | 1 | 2.5 | dev-clean | 1\n9 | 1 | 2 | test-clean | 1\n"
    )
    librispeech_parts.warn_if_incomplete(tmp_path, "dev-clean", 2700, 5.38, {"7"})
    for words in ("2700 utterances (5.38 h) found", "2703 utterances (5.39 h)", "3 missing",
                  "among them 1 chapters (8);",
                  "--stage 1 --stop_stage 1 --force true"):  # fmt: skip
        assert words in caplog.text
    caplog.clear()
    librispeech_parts.warn_if_incomplete(tmp_path, "dev-clean", 2703, 5.39, {"7"})
    librispeech_parts.warn_if_incomplete(tmp_path, "my-own", 1, 0.1, {"7"})
    assert not caplog.text


def test_a_subset_on_purpose_is_a_warning(make_corpus, ok, tmp_path, caplog):
    corpus = make_corpus(4, name="train-clean-100")
    ok("prepare_librispeech", "--corpus", corpus, "--set", "train_clean_100",
       "--out", tmp_path / "train")  # fmt: skip
    assert "train-clean-100: 4 utterances (0.00 h) found, LibriSpeech has 28539" in caplog.text
