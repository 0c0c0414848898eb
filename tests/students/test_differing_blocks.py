"""Models whose blocks differ: read, counted, cut, planned."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_kd.errors import UserError
from espnet_kd.espnet.stock import read_model, sizes_of
from espnet_kd.plan.planned_sizes import NotMeasured, sizes_of_way
from espnet_kd.spec.named_sizes import read_sizes
from espnet_kd.spec.plan import load_plan
from espnet_kd.students.allocate import allocate
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.halfway import halfway
from espnet_kd.students.importance import fitting_blocks, spaced_blocks
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of, config_of
from tests.espnet.tiny import build, tiny_config, write_experiment
from tests.recipe.toy import TRAINING, call, inside, write_yaml

UNITS, TAPS = (32, 24, 16, 24), (7, 5, 5, 3)
BLOCK = "encoder.encoders.blocks.{}."


def config(units=UNITS, taps=TAPS):
    made = tiny_config()
    (body,) = made["encoder_conf"]["body_conf"]
    made["encoder_conf"]["body_conf"] = [
        {**body, "num_blocks": 1, "linear_size": f, "conv_mod_kernel_size": k}
        for f, k in zip(units, taps)
    ]
    return made


@pytest.fixture(scope="module")
def teacher():
    model = build(config()).eval()
    return sizes_of(model, config()), model  # compares the count with what is built


def logits(model):
    with torch.no_grad():
        model.encoder.dynamic_chunk_training = False
        x = torch.randn(1, 80, 20, generator=torch.Generator().manual_seed(3))
        enc, _ = model.eval().encoder(x, torch.tensor([80]))
        model.decoder.set_device(enc.device)
        dec = model.decoder(torch.tensor([[0, 3, 4]]))
        return model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))


def named(sizes, wanted, **rest):
    return sizes.with_sizes(read_sizes("plan", {"encoder": wanted}), "plan", **rest)


def derived(model, sizes, student, kept, causal=True):
    """Build the student, its weights inherited, and compare its count."""
    small = {**config(), **config_of(student, config(), kept)}
    made = build(small, seed=5)
    made.load_state_dict(inherit(model.state_dict(), sizes, student, kept, causal))
    assert sizes_of(made, small) == student
    return made


def test_an_uncut_copy_computes_the_same_bits(teacher):
    sizes, model = teacher
    assert (sizes.linear_size, sizes.kernel_size, sizes.num_blocks) == (UNITS, TAPS, 4)
    copy = derived(model, sizes, sizes, [0, 1, 2, 3])
    assert torch.equal(logits(copy), logits(model))


def test_blocks_that_are_alike_have_a_number(teacher):
    sizes, _ = teacher
    assert sizes.with_blocks([1, 1]).linear_size == 24
    assert sizes.with_blocks([1, 3]).kernel_size == (5, 3)
    assert not sizes.with_blocks([1]).blocks_differ


def test_depth_takes_the_sizes_of_the_blocks_that_stay(teacher):
    sizes, model = teacher
    student = named(sizes, {"num_blocks": 2}, kept=lambda n: [0, 2])
    assert (student.linear_size, student.kernel_size) == ((32, 16), (7, 5))
    made = derived(model, sizes, student, [0, 2])
    whole = build(config())
    whole.load_state_dict(model.state_dict())
    blocks = whole.encoder.encoders.blocks
    whole.encoder.encoders.blocks = torch.nn.ModuleList(blocks[i] for i in (0, 2))
    assert torch.equal(logits(made), logits(whole))


@pytest.mark.parametrize("causal", [True, False])
def test_every_block_is_cut_by_its_own_sizes(teacher, causal):
    """Against a reference that names each tensor and each unit."""
    sizes, model = teacher
    units, taps, kept = (24, 16, 8), (3, 5, 3), [0, 2, 3]
    student = named(
        sizes, {"num_blocks": 3, "linear_size": list(units), "conv_mod_kernel_size": list(taps)}
    )
    assert kept == spaced_blocks(4, 3)
    got = inherit(model.state_dict(), sizes, student, kept, causal)
    want = {n: t for n, t in model.state_dict().items() if ".blocks." not in n}
    for new, old in enumerate(kept):
        block = {
            name.removeprefix(BLOCK.format(old)): t
            for name, t in model.state_dict().items()
            if name.startswith(BLOCK.format(old))
        }
        for part in ("feed_forward", "feed_forward_macaron"):
            w1, w2 = block[f"{part}.w_1.weight"].double(), block[f"{part}.w_2.weight"].double()
            score = w1.square().sum(1) + w2.square().sum(0)
            best = sorted(sorted(range(UNITS[old]), key=lambda i: -score[i])[: units[new]])
            for name in ("w_1.weight", "w_1.bias"):
                block[f"{part}.{name}"] = block[f"{part}.{name}"][best]
            block[f"{part}.w_2.weight"] = block[f"{part}.w_2.weight"][:, best]
        gone = TAPS[old] - taps[new]
        first = gone if causal else gone // 2
        kernel = block["conv_mod.depthwise_conv.weight"]
        block["conv_mod.depthwise_conv.weight"] = kernel[..., first : first + taps[new]]
        want.update({BLOCK.format(new) + name: t for name, t in block.items()})
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor), name


def padded(state, name, units, taps):
    """Return a tensor with units and taps of nothing: in a model whose blocks are alike."""
    tensor = state[name]
    if ".w_1." in name:
        short = units - tensor.size(0)
        tensor = torch.cat([tensor, tensor.new_zeros(short, *tensor.shape[1:])])
    elif name.endswith(".w_2.weight"):
        tensor = torch.nn.functional.pad(tensor, (0, units - tensor.size(1)))
    elif name.endswith("depthwise_conv.weight"):
        tensor = torch.nn.functional.pad(tensor, (taps - tensor.size(2), 0))
    return tensor


def test_width_is_cut_as_in_a_teacher_whose_blocks_are_alike(teacher):
    """What blocks lack is filled with zeros: the same channels and heads go."""
    sizes, model = teacher
    state = model.state_dict()
    alike = dataclasses.replace(sizes, linear_size=32, kernel_size=7)
    want = {name: padded(state, name, 32, 7) for name in state}
    kept, narrow = [0, 2, 3], {"hidden_size": 8, "conv_size": 4, "decoder_size": 8}
    want = inherit(want, alike, alike.with_blocks(kept).resized(**narrow), kept)
    got = inherit(state, sizes, sizes.with_blocks(kept).resized(**narrow), kept)
    assert got.keys() == want.keys()
    for name in got:
        torch.testing.assert_close(padded(got, name, 32, 7), want[name], msg=name)


@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.35])
def test_a_target_scales_every_block(teacher, fraction):
    sizes, model = teacher
    most = int(fraction * sizes.params)
    student = sizes.shrink_to(most, "plan")
    assert student.params <= most
    kept = spaced_blocks(4, student.num_blocks)
    made = derived(model, sizes, student, kept)
    assert torch.isfinite(logits(made)).all()
    for b, i in enumerate(kept):
        for axis in (a for a in sizes.axes if a.per_block):
            assert student.size_of(axis, b) <= sizes.size_of(axis, i)


@pytest.mark.parametrize("fraction", [0.7, 0.4])
@pytest.mark.parametrize("dear", ["num_blocks", "kernel", "linear"])
def test_sensitivity_shrinks_blocks_that_differ(teacher, fraction, dear):
    sizes, model = teacher

    def loss(student):
        linear, kernel = (sum(student.of_blocks(a)) for a in student.axes if a.per_block)
        prices = {"num_blocks": student.num_blocks, "kernel": kernel, "linear": linear}
        return -sum(v * (100 if k == dear else 1) for k, v in prices.items())

    most = int(fraction * sizes.params)
    student = allocate(sizes, most, loss, "plan")
    assert 0.6 * most < student.params <= most
    linear, kernel, depth = student.linear_size, student.kernel_size, student.num_blocks
    got = {"num_blocks": depth, "kernel": kernel, "linear": linear}[dear]
    assert got == {"num_blocks": 4, "kernel": TAPS, "linear": UNITS}[dear]
    derived(model, sizes, student, spaced_blocks(4, student.num_blocks))


def test_halfway_lies_between(teacher):
    sizes, model = teacher
    goal = named(sizes, {"num_blocks": 2, "linear_size": [16, 8], "hidden_size": 8})
    half = halfway(sizes, goal)
    assert goal.params < half.params <= (sizes.params * goal.params) ** 0.5
    kept = spaced_blocks(4, half.num_blocks)
    derived(model, sizes, half, kept)


def test_blocks_that_fit_are_those_nearest_to_the_preferred():
    fits = lambda b, i: (24, 24)[b] <= UNITS[i]  # noqa: E731
    assert fitting_blocks([0, 3], 4, fits) == [0, 3]
    assert fitting_blocks([1, 2], 4, fits) == [1, 3]
    assert fitting_blocks([0, 1, 2, 3], 4, lambda b, i: UNITS[i] > 16) is None


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"linear_size": 24}, "linear_size: 24 is larger than the teacher's 16 in block 2"),
        ({"linear_size": [32, 24, 17, 8]}, "17 is larger than the teacher's 16 in block 2"),
        ({"linear_size": [8, 8]}, "encoder.linear_size: 2 sizes for 4 blocks; name one size"),
        ({"conv_mod_kernel_size": [3, 3, 2, 3]}, "conv_mod_kernel_size 2 must be odd"),
        ({"linear_size": []}, "linear_size: expected a size for each block, found an empty list"),
        ({"linear_size": [8, "x"]}, r"linear_size\[1\]: expected a whole number >= 1, found 'x'"),
        ({"hidden_size": [8, 8, 8, 8]}, "hidden_size: expected a whole number >= 1"),
        ({"num_blocks": 5}, "num_blocks: 5 is larger than the teacher's 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(teacher, wanted, message):
    with pytest.raises(UserError, match=message):
        named(teacher[0], wanted)


@pytest.mark.parametrize("key, value", [("hidden_size", 8), ("heads", 4)])
def test_what_all_blocks_share_must_be_alike(key, value):
    made = config()
    made["encoder_conf"]["body_conf"][1][key] = value
    with pytest.raises(UserError, match=f"{key} differs between blocks"):
        architecture_of(made, 20, 10)


STAGES = [
    {"name": "a", "student": {"encoder": {"num_blocks": 3, "linear_size": [32, 16, 8]}}},
    {"name": "b", "student": {"encoder": {"num_blocks": 2}}, "blocks": "influence"},
]


def test_two_students_are_derived_one_from_the_other(tmp_path):
    write_experiment(tmp_path / "teacher", config())
    with inside(tmp_path):
        write_yaml("train.yaml", TRAINING)
        write_yaml("plan.yaml", {"stages": STAGES[:1] + [{**STAGES[1], "blocks": "spaced"}]})
        stages = load_plan("plan.yaml").stages
        first = read_model(Path("teacher"), "model.pth").sizes
        planned = sizes_of_way(stages, first)
        above, model = "teacher", "model.pth"
        for number, sizes in enumerate(planned, 1):
            words = ["--plan", "plan.yaml", "--stage", str(number), "--teacher_exp", above]
            words += ["--teacher_model", model, "--train_config", "train.yaml"]
            words += ["--first_teacher_exp", "teacher", "--first_teacher_model", "model.pth"]
            code, err = call("derive_student", [*words, "--out", f"s{number}"])
            assert code == 0, err
            said = json.loads(Path(f"s{number}/student.json").read_text())["sizes"]
            assert Architecture(**said) == sizes
            above, model = f"s{number}", "init.pth"
            trained = yaml.safe_load(Path(above, "student.yaml").read_text())
            write_yaml(f"{above}/config.yaml", {**tiny_config(), **trained})
        assert said["linear_size"] == [32, 8] and said["kernel_size"] == [7, 3]
        body = yaml.safe_load(Path("s2/student.yaml").read_text())["encoder_conf"]["body_conf"]
        assert [(b["linear_size"], b["conv_mod_kernel_size"]) for b in body] == [(32, 7), (8, 3)]
        write_yaml("plan.yaml", {"stages": STAGES})
        with pytest.raises(NotMeasured, match=r"stages\[1\].blocks: the sizes of 'b' are"):
            sizes_of_way(load_plan("plan.yaml").stages, first)


@pytest.mark.parametrize(
    "stage",
    [
        {"method": "retrain", "objective": "none"},
        {"method": "low_rank", "target": 0.9, "method_conf": {"by": "weight"}},
    ],
)
def test_methods_that_keep_sizes_keep_those_of_every_block(tmp_path, stage):
    write_experiment(tmp_path / "teacher", config())
    with inside(tmp_path):
        write_yaml("train.yaml", TRAINING)
        write_yaml("plan.yaml", {"stages": [stage]})
        words = ["--plan", "plan.yaml", "--stage", "1", "--teacher_exp", "teacher"]
        words += ["--teacher_model", "model.pth", "--train_config", "train.yaml"]
        code, err = call("derive_student", [*words, "--out", "out"])
        assert code == 0, err
        said = json.loads(Path("out/student.json").read_text())
        assert said["sizes"]["linear_size"] == list(UNITS) and said["kept_blocks"] == [0, 1, 2, 3]
