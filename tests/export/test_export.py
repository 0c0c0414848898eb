"""Exported graphs compute what the model computes, in all formats; what cannot be is refused."""

import dataclasses
import importlib.util
import os

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from onnx import helper, numpy_helper

from espnet_kd.bin import export
from espnet_kd.deploy.artifact import of_exported
from espnet_kd.deploy.runtime import runtime_class
from espnet_kd.device.description import GRAPHS, read_description
from espnet_kd.device.networks import OnnxNetworks
from espnet_kd.device.recogniser import Listener, Pauses, Recogniser
from espnet_kd.errors import UserError
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.exportable_model import Reference, load_exportable
from espnet_kd.espnet.greedy import emissions
from espnet_kd.export import formats, parity
from espnet_kd.export.folder import parts, trace_all, write_folder
from espnet_kd.export.parity import (
    Utterance,
    Utterances,
    at_least_a_word,
    compare,
    encode_chunks,
    too_far,
)
from espnet_kd.export.sensitivity import Lost, Paths, choose, lost
from espnet_kd.scoring.counts import Counts
from espnet_kd.students.grid import Grid, grid_of
from tests.espnet.tiny import tiny_config
from tests.export.conftest import CHUNKS, write_talkative


@pytest.fixture(scope="module")
def utterances(sounds):
    return [Utterance(sound, ["A", "B"]) for sound in sounds]


@pytest.mark.parametrize("kind", ["lstm", "stateless", "averaged"])
def test_float32_says_what_the_model_says(kind, graphs, utterances, tmp_path):
    source = graphs[kind].source
    out = tmp_path / "float32"
    assert write_folder(graphs[kind], "float32", out) == read_description(out)
    reference = Reference(source, CHUNKS)
    figures = compare({"float32": out}, reference, utterances)["float32"].summary()
    assert figures["encoder_difference"] < 1e-4 * figures["encoder_scale"]
    assert figures["features_difference"] < 1e-3
    assert figures["equal_transcripts"] == 1
    assert figures["wer"] == figures["wer_torch"] is not None
    assert too_far("float32", figures, 0) is None
    labels = [reference.run(utterance.samples)[2] for utterance in utterances]
    assert len({label for row in labels for label in row}) > 2  # more than one that is always so


def test_tokens_are_emitted_at_the_frames_of_the_model(graphs, sounds, tmp_path):
    """In the chunks of the export; and no frame is there before it is said to be, or later."""
    source, out = graphs["lstm"].source, tmp_path / "float32"
    write_folder(graphs["lstm"], "float32", out)
    runtime = runtime_class("onnx").load(of_exported(out), ["--beam_size", "3"])
    for sound, emitted in zip(sounds, runtime.emit(sounds)):
        feats, length = source.model.frontend(
            torch.from_numpy(sound)[None], torch.tensor([len(sound)])
        )
        if source.model.normalize is not None:
            feats, _ = source.model.normalize(feats, length)
        enc, t_len = encode(source.model.encoder, feats, length, *CHUNKS)
        with torch.no_grad():
            [text] = emissions(source.model, enc, t_len)
        assert emitted.frames == text.frames and len(text.frames) > 3
    assert runtime.emit([sounds[0][:500]]) == [None]
    listener, come, heard = Listener(Recogniser.load(out), Pauses(0.0, 0.0, 0.0)), [], 0
    for piece in np.split(sounds[0], 800):  # of 40 samples
        heard += len(piece)
        listener.push(piece)
        come += [heard] * (listener._frames - len(come))
    assert len(come) >= 40
    for frame, samples in enumerate(come):
        assert 0 <= samples - 16000 * runtime.timing.ready(frame, 10**9) < 40


def test_any_batch_chunk_and_left_context(graphs, sources, tmp_path):
    source, model = sources["lstm"], sources["lstm"].model
    write_folder(graphs["lstm"], "float32", tmp_path / "model")
    path = str(tmp_path / "model" / GRAPHS[0])
    session = onnxruntime.InferenceSession(path)
    torch.manual_seed(0)
    feats = torch.randn(3, 71, source.front["n_mels"])  # 17 encoder frames
    for chunk, left in ((1, 3), (5, 7), (17, 1)):
        enc, _ = encode(model.encoder, feats, torch.tensor([71] * 3), chunk, left)
        expected = model.joint_network.lin_enc(enc).numpy()
        states = {
            "att": np.zeros((2, 3, left, 16), np.float32),
            "conv": np.zeros((2, 3, 16, 4), np.float32),
            "processed": np.zeros(3, np.int64),
        }
        frames = []
        for start in range(0, 17, chunk):
            end = min(start + chunk, 17)
            x = feats[:, 4 * start : 4 * end + 3].numpy()
            y, *after = session.run(None, {"x": x, **states})
            states = dict(zip(states, after))
            frames.append(y)
        assert np.abs(np.concatenate(frames, 1) - expected).max() < 1e-5
        assert states["processed"].tolist() == [17] * 3


def test_fewer_bytes_nearly_the_same(graphs, sounds, tmp_path):
    folders = {form: tmp_path / form for form in formats.CONVERT}
    for form, folder in folders.items():
        write_folder(graphs["lstm"], form, folder)
    reference = Reference(graphs["lstm"].source, CHUNKS)
    feats, y, _ = reference.run(sounds[0])
    sizes, noise = [], []
    for folder in folders.values():
        networks = OnnxNetworks(folder)
        error = encode_chunks(networks, feats) - y
        noise.append(10 * np.log10((y**2).mean() / (error**2).mean()))
        sizes.append(sum((folder / name).stat().st_size for name in GRAPHS))
    assert sizes[0] > sizes[1] > sizes[2]  # int4 has a scale for 32 weights, of matrices of 16
    # Its weights are random and its frames amplified: trained models of this size lose less.
    assert noise[0] > 90 > noise[1] > 40 > noise[2] > 0 and noise[3] > 0


def test_a_matrix_that_is_kept_stays_float(graphs):
    model = graphs["lstm"].models[GRAPHS[0]]
    sizes = [
        formats.converted(model, "int8", keep).ByteSize()
        for keep in ([], ["embed.output"], formats.matrices(model))
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_matrix_that_is_kept_in_int4_has_bytes(graphs):
    model = graphs["lstm"].models[GRAPHS[0]]
    every = formats.matrices(model)
    kinds = [
        [node.op_type for node in formats.converted(model, "int4", keep).graph.node]
        for keep in ([], every[:3], every)
    ]
    of_bytes = [of.count("MatMulInteger") for of in kinds]
    assert of_bytes == [0, 3, len(every)]
    assert [of.count("MatMulNBits") for of in kinds] == [len(every) - n for n in of_bytes]
    int8 = formats.converted(model, "int8").ByteSize()
    assert formats.converted(model, "int4", every).ByteSize() == pytest.approx(int8, rel=0.02)


def test_sums_of_int8_do_not_overflow_on_any_processor(graphs):
    """AVX2 adds two products of an unsigned and a signed byte in 16 bits, with saturation."""
    model = formats.converted(graphs["lstm"].models[GRAPHS[0]], "int8")
    matrices = {n.input[1] for n in model.graph.node if n.op_type == "MatMulInteger"}
    largest = [
        np.abs(numpy_helper.to_array(array).astype(int)).max()
        for array in model.graph.initializer
        if array.name in matrices
    ]
    assert len(largest) == len(matrices) > 0 and min(largest) > 32
    assert 2 * 255 * max(largest) < 2**15


@pytest.mark.parametrize("grid", [Grid(8), Grid(5), Grid(4, 32), Grid(3, 16), Grid(2)])
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_grid_of_few_bits_is_kept(grid, form):
    draw = torch.Generator().manual_seed(0)
    weight = grid.round(torch.randn(6, 50, generator=draw))  # (m, n)
    kernel = grid.round(torch.randn(6, 6, 9, generator=draw))
    table = grid.round(torch.randn(70, 6, generator=draw))
    assert grid_of(weight) == grid and grid_of(torch.randn(6, 50)) is None
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="w"),
        helper.make_node("Conv", ["x_", "k"], ["z"], pads=[4, 4]),
        helper.make_node("Gather", ["t", "i"], ["r"]),
    ]
    shapes = {"x": ["B", 50], "x_": ["B", 6, "T"], "y": ["B", 6], "z": ["B", 6, "T"]}
    ports = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    ports += [helper.make_tensor_value_info("i", 7, ["B"])]
    ports += [helper.make_tensor_value_info("r", 1, ["B", 6])]
    arrays = {"w": weight.t().contiguous(), "k": kernel, "t": table}
    initial = [numpy_helper.from_array(array.numpy(), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [*ports[:2], ports[4]], [*ports[2:4], ports[5]], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    exact = formats.converted(model, form, rounded=True)
    session = onnxruntime.InferenceSession(exact.SerializeToString())
    sounds = torch.randn(2, 6, 20, generator=draw).numpy()
    labels = np.array([3, 69])
    matrix, heard, rows = session.run(
        None, {"x": np.eye(50, dtype=np.float32), "x_": sounds, "i": labels}
    )
    exactly = form == "int8" or grid.bits > 4
    np.testing.assert_allclose(matrix.T, weight.numpy(), atol=0 if exactly else 1e-6)
    expected = torch.nn.functional.conv1d(torch.from_numpy(sounds), kernel, padding=4)
    np.testing.assert_allclose(heard, expected.numpy(), atol=1e-5)
    assert np.array_equal(rows, table.numpy()[labels])
    kinds = [node.op_type for node in formats.converted(model, form, ["w"], True).graph.node]
    assert "MatMul" in kinds and "MatMulNBits" not in kinds
    kept = {
        array.data_type
        for array in formats.converted(model, form, ["w"], True).graph.initializer
        if len(array.dims) > 1 and np.prod(array.dims) >= 300
    }
    assert kept == ({1, 3} if form == "int8" else {3})


def test_a_student_of_few_bits_says_what_it_said_in_training(talkative, utterances, tmp_path):
    source = load_exportable(talkative["lstm"], "model.pth")
    with torch.no_grad():
        next(w for n, w in source.model.named_parameters() if n.endswith("pos_bias_u")).zero_()
    assert not source.rounded
    with torch.no_grad():
        for name, weight in source.model.named_parameters():
            if weight.dim() > 1 and "depthwise" not in name:
                weight.copy_(Grid(6 if "blocks" in name else 8).round(weight))
    rounded = dataclasses.replace(source)
    assert rounded.rounded
    write_folder(trace_all(rounded, CHUNKS), "int8", tmp_path / "int8")
    reference = Reference(rounded, CHUNKS)
    figures = compare({"int8": tmp_path / "int8"}, reference, utterances)["int8"].summary()
    assert too_far("float32", figures, 0) is None  # it is no further off
    write_folder(trace_all(source, CHUNKS), "float32", tmp_path / "float32")
    sizes = [(tmp_path / form / GRAPHS[0]).stat().st_size for form in ("int8", "float32")]
    assert sizes[0] < sizes[1]


def test_parts_are_those_of_blocks(graphs):
    assert list(parts(graphs["lstm"], GRAPHS[0])) == [
        "embed",
        *(
            f"blocks.{i}.{part}"
            for i in range(2)
            for part in ("feed_forward_macaron", "self_att", "conv_mod", "feed_forward")
        ),
        "project",
    ]
    assert (
        sum(map(len, parts(graphs["lstm"], GRAPHS[1]).values())) == 4
    )  # the first is in the table


def test_as_few_parts_as_needed_stay_float(graphs, utterances, monkeypatch):
    from espnet_kd.export import sensitivity

    losses = {0: 9.0, 1: 8.0, 2: 1.0}  # by number of parts that are kept
    tried = []

    def write(graphs_, form, path, keep=()):
        tried.append(list(keep))
        return write_folder(graphs_, form, path, keep)

    class Measured:
        counts = reference = ()

    monkeypatch.setattr(sensitivity, "write_folder", write)
    monkeypatch.setattr(sensitivity, "compare", lambda folders, *_: {"int8": Measured})
    monkeypatch.setattr(
        sensitivity, "lost", lambda *_: Lost(2.0, 2.0, losses.get(len(tried[-1]), 0.5), 0.0)
    )
    reference = Reference(graphs["lstm"].source, CHUNKS)
    choice = choose(graphs["lstm"], "int8", reference, utterances[1:], 1.0)
    assert len(choice.noise) == 12 and sorted(choice.noise.values()) == list(choice.noise.values())
    assert choice.keep == list(choice.noise)[:2]
    assert choice.lost == Lost(2.0, 2.0, 1.0, 0.0)


def test_words_that_change_may_cost_more_than_they_did():
    right, wrong_ = Counts.of("CCCCC"), Counts.of("SCCCC")
    before = [right] * 80 + [wrong_] * 20
    assert lost(before, before, 0.0) == Lost(4.0, 4.0, 0.0, 0.0)
    # Of ten words that changed, five became right: nothing is lost, yet little is known.
    after = [wrong_] * 5 + [right] * 75 + [right] * 5 + [wrong_] * 15
    measured = lost(after, before, 0.02)
    assert measured[:2] == (4.0, 4.0) and 0.6 < measured.most < 1.6
    assert not measured.within(2.0) and lost(before, before, 0.002).within(0.5)
    assert lost(after[:1], [right], 0.0).most == 20


def test_tokens_that_change_are_counted_along_the_path(graphs, utterances, tmp_path, monkeypatch):
    write_folder(graphs["lstm"], "float32", tmp_path / "model")
    networks = OnnxNetworks(tmp_path / "model")
    paths = Paths(networks, utterances[1:])
    assert paths.changed(networks) == 0 and paths.noise(networks) > 200
    write_folder(graphs["lstm"], "int8", tmp_path / "model")
    other = OnnxNetworks(tmp_path / "model")
    assert 0 < paths.changed(other) < 0.5 and paths.noise(other) < 120
    broken = np.full((4, 16), np.nan, np.float32)
    monkeypatch.setattr("espnet_kd.export.sensitivity.encode_chunks", lambda *_: broken)
    with pytest.raises(UserError, match="float32, on an utterance of --valid: .* NaN"):
        Paths(networks, utterances[1:])


def wrong(**changes):
    config = tiny_config()
    for path, value in changes.items():
        place, *keys = [config, *path.split("__")]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    return {k: v for k, v in config.items() if k not in ("decoder", "decoder_conf")}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"encoder_conf__main_conf__dynamic_chunk_training": False}, "dynamic_chunk_training"),
        ({"normalize": "utterance_mvn"}, "normalize: utterance_mvn needs the whole"),
        ({"token_type": "phn"}, "token_type: phn: only models of char, bpe or word"),
        ({"frontend_conf__window": "hamming"}, "frontend_conf.window"),
        ({"encoder_conf__input_conf__subsampling_factor": 2}, "subsampling_factor 4 or 6"),
    ],
)
def test_what_cannot_be_exported_is_said(changes, told, tmp_path):
    exp = write_talkative(tmp_path / "exp", "lstm", wrong(**changes))
    with pytest.raises(UserError, match=told):
        load_exportable(exp, "model.pth")


def test_command_line(talkative, tmp_path, capsys):
    words = ["--exp", str(talkative["lstm"]), "--checkpoint", "model.pth", "--format", "float32"]
    words += ["int8", "--out", str(tmp_path), "--decoding_window", "160", "--left_context", "8"]
    with pytest.raises(SystemExit) as end:
        export.main(words)
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert "100.0 % of 2 transcripts equal" in lines[0]
    described = read_description(tmp_path / "int8")
    assert described.format == "int8" and described.source.model == "lstm"
    assert described.parity["wer"] is None and not described.beyond
    assert described.bytes["encoder.onnx"] == (tmp_path / "int8/encoder.onnx").stat().st_size


def test_what_is_beyond_the_margin_is_told_by_whoever_loads_it(
    talkative, tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.setattr(parity, "too_far", lambda *_: "WER is 9 points higher")
    words = ["--exp", str(talkative["stateless"]), "--checkpoint", "model.pth", "--out"]
    with pytest.raises(SystemExit) as end:
        export.main([*words, str(tmp_path)])
    assert end.value.code == 3
    assert "float32: beyond the margin: WER is 9" in capsys.readouterr().out
    Recogniser.load(tmp_path / "float32")
    assert "was beyond the margin when exported: WER is 9 points higher" in caplog.text


def test_beyond_the_margin():
    figures = {"encoder_difference": 0.01, "encoder_scale": 5.0, "equal_transcripts": 1.0}
    figures.update(wer=3.0, wer_torch=2.0, words=1000.0)
    assert "2.0e-03 of its largest number off" in too_far("float32", figures, 0.5)
    assert "WER is 1.00 points higher, 0.5 are allowed" in too_far("int8", figures, 0.5)
    assert too_far("int8", figures, 1.0) is None


def test_one_word_of_a_handful_is_within_any_margin():
    figures = {"encoder_difference": 0.0, "encoder_scale": 5.0, "equal_transcripts": 0.9}
    figures.update(wer=100 * 8 / 26, wer_torch=100 * 7 / 26, words=26.0)
    assert too_far("int8", figures, 0.5) is None
    figures.update(wer=100 * 9 / 26)
    assert "WER is 7.69 points higher" in too_far("int8", figures, 0.5)
    assert at_least_a_word(0.5, 0) == 0.5


def test_something_else_is_not_overwritten(graphs, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / "encoder.onnx").write_text("")  # of another program
    with pytest.raises(UserError, match="something else than an exported model"):
        write_folder(graphs["lstm"], "float32", tmp_path)


def test_what_could_not_be_written_is_told_first(talkative, tmp_path, capsys, monkeypatch):
    (tmp_path / "int8").mkdir()
    (tmp_path / "int8/thesis.tex").write_text("")
    words = ["--exp", str(talkative["lstm"]), "--checkpoint", "model.pth", "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        export.main([*words, "--format", "float32", "int8"])
    assert "int8: there is something else" in capsys.readouterr().err
    assert not (tmp_path / "float32").exists()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx_ir" else find(name)
    )
    with pytest.raises(SystemExit):
        export.main([*words, "--format", "int4"])
    assert "onnx_ir is not installed; install it: pip" in capsys.readouterr().err


def test_what_a_killed_export_left_is_removed(graphs, tmp_path):
    (tmp_path / ".int8.999999999.tmp").mkdir()
    (tmp_path / ".int8.999999999.tmp/encoder.onnx").write_text("")
    (tmp_path / f".int8.{os.getppid()}.tmp").mkdir()  # of one that runs
    write_folder(graphs["stateless"], "int8", tmp_path / "int8")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"int8", f".int8.{os.getppid()}.tmp"}


def test_utterances_are_chosen_by_name_and_read_late(tmp_path, sounds):
    for name in "ab":
        write_set(tmp_path / name, [f"u{i}" for i in range(5)], tmp_path / "sound.wav")
    some = Utterances([tmp_path / "a", tmp_path / "b"], 16000, 2)
    assert (len(some), some.known) == (4, 10)
    with pytest.raises(UserError, match="a/wav.scp: 'u2'"):
        next(iter(some))
    soundfile.write(tmp_path / "sound.wav", sounds[0], 16000)
    assert [utterance.words for utterance in some] == [["u2"], ["u3"]] * 2
    assert [utterance.words for utterance in some[:3]] == [["u2"], ["u3"], ["u2"]]
    with pytest.raises(UserError, match="'u0' has 16000 Hz, the model 8000 Hz"):
        next(iter(Utterances([tmp_path / "a"], 8000)))


def test_some_of_strings_that_are_there_under_four_conditions_are_of_all_of_them(tmp_path, sounds):
    names = [f"s{i:03}-snr{snr}" for i in range(40) for snr in (20, 10, 5, 0)]
    write_set(tmp_path / "a", names, tmp_path / "sound.wav")
    soundfile.write(tmp_path / "sound.wav", sounds[0], 16000)
    some = Utterances([tmp_path / "a"], 16000, 40)  # every fourth would be of one
    words = [utterance.words[0].rpartition("-")[2] for utterance in some]
    assert len(words) == 40 and min(map(words.count, set(words))) >= 5 and len(set(words)) == 4


def write_set(folder, names, sound):
    folder.mkdir()
    for table, word in (("wav.scp", str(sound)), ("utt2spk", "s"), ("text", None)):
        lines = [f"{name} {word or name}\n" for name in names]
        (folder / table).write_text("".join(lines))


def test_a_link_to_a_folder_stays(graphs, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "float32").symlink_to("disk")
    for _ in range(2):
        write_folder(graphs["stateless"], "float32", tmp_path / "float32")
    assert (tmp_path / "float32").is_symlink() and (tmp_path / "disk/model.json").is_file()


def test_numbers_that_are_none_are_beyond_the_margin(graphs, utterances, tmp_path, monkeypatch):
    def damaged(*_):
        raise FloatingPointError

    write_folder(graphs["lstm"], "float16", tmp_path / "model")
    monkeypatch.setattr(parity, "transcribe", damaged)
    reference = Reference(graphs["lstm"].source, CHUNKS)
    figures = compare({"float16": tmp_path / "model"}, reference, utterances)["float16"].summary()
    assert too_far("float16", figures, 200) == "the encoder's output is not finite"


@pytest.mark.parametrize("kind", ["lstm", "stateless", "averaged"])
def test_streams_and_batches_hear_what_the_model_says(kind, graphs, sounds, tmp_path):
    write_folder(graphs[kind], "float32", tmp_path / "model")
    reference = Reference(graphs[kind].source, CHUNKS)
    expected = [list(reference.run(sound)[2]) for sound in sounds]
    recogniser = Recogniser.load(tmp_path / "model")
    assert [text.labels for text in recogniser.decode_many(sounds)] == expected
    for sound, labels in zip(sounds, expected):
        listener = Listener(recogniser, Pauses(0.0, 0.0, 0.0))
        for start in range(0, len(sound), 777):
            listener.push(sound[start : start + 777])
        assert listener.finish().labels == labels and labels
    beam = Recogniser.load(tmp_path / "model", 3)
    assert beam.decode_many(sounds) == [beam.decode(sound) for sound in sounds]


def test_an_utterance_of_less_than_a_frame_says_nothing(graphs, tmp_path):
    write_folder(graphs["lstm"], "float32", tmp_path / "model")
    short = [Utterance(np.full(size, 0.1, np.float32), ["A"]) for size in (400, 320)]
    reference = Reference(graphs["lstm"].source, CHUNKS)
    figures = compare({"float32": tmp_path / "model"}, reference, short)["float32"].summary()
    assert figures["equal_transcripts"] == 1 and figures["wer"] == figures["wer_torch"] == 100
