"""Student derivation: counts, sizes for a target, and what is inherited."""

import dataclasses
from argparse import Namespace
from copy import deepcopy

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.spec.named_sizes import read_sizes
from espnet_kd.students.axes import axis_roles
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of, config_of
from tests.espnet.tiny import build, tiny_config


def sizes(config):
    n_mels = config["frontend_conf"]["n_mels"]
    return architecture_of(config, n_mels, len(config["token_list"]))


def variants():
    yield "lstm", tiny_config()
    config = tiny_config()
    config["decoder_conf"] = {
        "rnn_type": "gru",
        "num_layers": 2,
        "embed_size": 8,
        "hidden_size": 16,
    }
    config["encoder_conf"]["input_conf"]["subsampling_factor"] = 6
    yield "gru, two layers, subsampling 6", config
    config = tiny_config(decoder="stateless", decoder_conf={"embed_size": 12})
    config["encoder_conf"]["input_conf"]["subsampling_factor"] = 2
    config["joint_network_conf"]["lin_dec_bias"] = False
    yield "stateless, subsampling 2", config
    config = tiny_config(model_conf={"auxiliary_ctc_weight": 0.3, "auxiliary_lm_loss_weight": 0.1})
    config["encoder_conf"]["main_conf"]["dynamic_chunk_training"] = False
    yield "full context, both auxiliary heads", config
    config = tiny_config()
    config["encoder_conf"]["input_conf"] = {
        "vgg_like": True,
        "subsampling_factor": 6,
        "conv_size": [4, 6],
    }
    yield "vgg, subsampling 6", config


VARIANTS = list(variants())


@pytest.mark.parametrize("config", [c for _, c in VARIANTS], ids=[n for n, _ in VARIANTS])
def test_the_count_is_exact(config):
    model = build(config)
    count = sizes(config).count()
    for part in ("encoder", "decoder", "joint_network"):
        built = sum(p.numel() for p in getattr(model, part).parameters())
        assert count[part] == built, part


@pytest.mark.parametrize("config", [c for _, c in VARIANTS], ids=[n for n, _ in VARIANTS])
def test_every_parameter_has_known_axes(config):
    layers = config["decoder_conf"].get("num_layers", 1) if config["decoder"] == "rnn" else 0
    for name, p in build(config).named_parameters():
        roles = axis_roles(name, p.dim(), layers)
        assert roles is not None and len(roles) == p.dim(), name


@pytest.mark.parametrize("config", [c for _, c in VARIANTS], ids=[n for n, _ in VARIANTS])
@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.35])
def test_a_derived_student_can_be_built_and_loaded(config, fraction):
    teacher, model = sizes(config), build(config)
    student = teacher.shrink_to(int(fraction * teacher.params), "plan")
    assert 0.6 * fraction * teacher.params < student.params <= fraction * teacher.params
    kept = spaced_blocks(teacher.num_blocks, student.num_blocks)
    state = inherit(model.state_dict(), teacher, student, kept)
    small = {**config, **config_of(student, config, kept)}
    built = build(small)
    built.load_state_dict(state)  # strict: names and shapes
    assert sizes(small) == student


def forward(model, x):
    with torch.no_grad():
        model.encoder.dynamic_chunk_training = False
        enc, _ = model.eval().encoder(x, torch.tensor([x.size(1)]))
        model.decoder.set_device(enc.device)
        dec = model.decoder(torch.tensor([[0, 3, 4]]))
        return model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))


def test_with_nothing_removed_the_student_is_its_teacher_bit_for_bit():
    config = tiny_config()
    teacher, model = sizes(config), build(config)
    state = inherit(model.state_dict(), teacher, teacher, [0, 1, 2, 3])
    copy = build(config, seed=5)
    copy.load_state_dict(state)
    x = torch.randn(1, 80, 20)
    assert torch.equal(forward(model, x), forward(copy, x))


def test_depth_alone_leaves_out_blocks_and_nothing_else():
    config = tiny_config()
    teacher, model = sizes(config), build(config)
    student = dataclasses.replace(teacher, num_blocks=2)
    kept = spaced_blocks(4, 2)
    small = {**config, **config_of(student, config, kept)}
    shallow = build(small, seed=5)
    shallow.load_state_dict(inherit(model.state_dict(), teacher, student, kept))
    blocks = model.encoder.encoders.blocks
    model.encoder.encoders.blocks = torch.nn.ModuleList(blocks[i] for i in kept)
    x = torch.randn(1, 80, 20)
    assert torch.equal(forward(model, x), forward(shallow, x))


def silence_feed_forward_and_joint(model):
    for block in model.encoder.encoders.blocks:
        for part in (block.feed_forward, block.feed_forward_macaron):
            for i in range(1, 24, 2):
                part.w_1.weight[i] = part.w_1.bias[i] = 0
                part.w_2.weight[:, i] = 0
    joint = model.joint_network
    for i in range(0, 16, 2):
        joint.lin_enc.weight[i] = joint.lin_enc.bias[i] = 0
        joint.lin_dec.weight[i] = joint.lin_dec.bias[i] = 0
        joint.lin_out.weight[:, i] = 0
    return {"linear_size": 12, "joint_size": 8}


def silence_predictor(model):
    """In each layer other units, in all gates."""
    readers = [layer.weight_ih_l0 for layer in model.decoder.rnn[1:]]
    readers.append(model.joint_network.lin_dec.weight)
    for n, (layer, reader) in enumerate(zip(model.decoder.rnn, readers)):
        for i in range(n % 2, 16, 2):
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                getattr(layer, name)[i::16] = 0  # unit i of every gate
            layer.weight_hh_l0[:, i] = 0
            reader[:, i] = 0
    return {"decoder_size": 8}


def silence_front_end(model):
    first, second = model.encoder.embed.conv[0], model.encoder.embed.conv[2]
    output = model.encoder.embed.output
    bins = output.in_features // 8
    for i in (0, 2, 3, 6):
        first.weight[i] = first.bias[i] = 0
        second.weight[:, i] = 0
    for i in (0, 1, 4, 7):
        second.weight[i] = second.bias[i] = 0
        output.weight[:, i * bins : (i + 1) * bins] = 0
    return {"conv_size": 4}


LSTM, GRU = VARIANTS[0][1], VARIANTS[1][1]


@pytest.mark.parametrize(
    "silence, config",
    [
        (silence_feed_forward_and_joint, LSTM),
        (silence_predictor, LSTM),
        (silence_predictor, GRU),
        (silence_front_end, LSTM),
        (silence_front_end, GRU),  # subsampling by 6: other bins
    ],
)
def test_units_that_do_nothing_are_cut_first(silence, config):
    """Silence half of the units of a kind: without them nothing changes."""
    teacher, model = sizes(config), build(config)
    with torch.no_grad():
        student = dataclasses.replace(teacher, **silence(model))
    small = {**config, **config_of(student, config, [0, 1, 2, 3])}
    cut = build(small, seed=5)
    cut.load_state_dict(inherit(model.state_dict(), teacher, student, [0, 1, 2, 3]))
    x = torch.randn(1, 80, 20)
    torch.testing.assert_close(forward(cut, x), forward(model, x), rtol=1e-5, atol=1e-6)


def test_channels_of_a_convolution_keep_value_and_gate():
    """Of a module whose other channels do nothing, a narrower student keeps what it says."""
    config = tiny_config()
    teacher, model = sizes(config), build(config)
    kept, silent = [0, 3, 4, 5, 9, 10, 14, 15], [0, 1, 4, 6, 7, 11, 12, 15]
    gone = [i for i in range(16) if i not in kept]
    with torch.no_grad():
        model.encoder.embed.output.weight[kept] *= 100  # these of the residual stream stay
        for block in model.encoder.encoders.blocks:
            module = block.conv_mod
            module.pointwise_conv1.weight[:, gone] = 0
            for i in silent:
                module.pointwise_conv1.weight[i::16] = 0  # value and gate
                module.depthwise_conv.weight[i] = module.depthwise_conv.bias[i] = 0
                module.pointwise_conv2.weight[:, i] = 0
            module.norm.running_mean.normal_(std=0.1)
            module.norm.running_var.uniform_(0.5, 1.5)
    student = dataclasses.replace(teacher, hidden_size=8)
    cut = build({**config, **config_of(student, config, [0, 1, 2, 3])}, seed=5)
    cut.load_state_dict(inherit(model.state_dict(), teacher, student, [0, 1, 2, 3]))
    x = torch.randn(1, 30, 16)
    for b in range(4):
        mine, theirs = (m.eval().encoder.encoders.blocks[b].conv_mod for m in (cut, model))
        got, want = mine(x[..., kept])[0], theirs(x)[0][..., kept]
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width, pairs", [(8, [0, 2, 4, 6]), (12, [0, 1, 2, 4, 5, 6])])
def test_positions_keep_their_frequencies(width, pairs):
    """Sines and cosines of the teacher that turn as fast as the student's, or next faster."""
    config = tiny_config()
    teacher, model = sizes(config), build(config)
    turns = [10000 ** (-2 * i / 16) for i in range(8)]  # radians a frame
    for n, pair in enumerate(pairs):
        own = 10000 ** (-2 * n / width)
        assert turns[pair] > 0.999 * own > turns[pair + 1]
    columns = [2 * pair + k for pair in pairs for k in range(2)]
    state = model.state_dict()
    for b in range(4):  # every weight names its column
        state[f"encoder.encoders.blocks.{b}.self_att.linear_pos.weight"][:] = torch.arange(16.0)
    found = inherit(state, teacher, dataclasses.replace(teacher, hidden_size=width), [0, 1, 2, 3])
    for b in range(4):
        weight = found[f"encoder.encoders.blocks.{b}.self_att.linear_pos.weight"]
        assert weight.tolist() == [columns] * width


def test_a_causal_kernel_keeps_the_present():
    config = tiny_config()
    teacher, model = sizes(config), build(config)
    student = dataclasses.replace(teacher, kernel_size=3)
    name = "encoder.encoders.blocks.0.conv_mod.depthwise_conv.weight"
    whole = model.state_dict()[name]
    causal = inherit(model.state_dict(), teacher, student, [0, 1, 2, 3])[name]
    centred = inherit(model.state_dict(), teacher, student, [0, 1, 2, 3], causal=False)[name]
    assert torch.equal(causal, whole[..., 2:])
    assert torch.equal(centred, whole[..., 1:4])


@pytest.mark.parametrize(
    "teacher, student, blocks",
    [(12, 5, [0, 3, 6, 8, 11]), (4, 4, [0, 1, 2, 3]), (4, 2, [0, 3]), (4, 1, [3]), (3, 2, [0, 2])],
)
def test_spaced_blocks(teacher, student, blocks):
    assert spaced_blocks(teacher, student) == blocks


def test_sizes_of_the_user():
    teacher = sizes(tiny_config())
    wanted = {"encoder": {"num_blocks": 2, "hidden_size": 8}, "decoder": {"hidden_size": 8}}
    student = teacher.with_sizes(read_sizes("plan", wanted), "plan")
    assert (student.num_blocks, student.hidden_size, student.decoder_size) == (2, 8, 8)


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"encodr": {}}, r"unknown key 'encodr' \(did you mean 'encoder'\?\)"),
        ({"encoder": {"hiden_size": 8}}, "did you mean 'hidden_size'"),
        ({"encoder": {"hidden_size": 32}}, "32 is larger than the teacher's 16"),
        ({"encoder": {"num_blocks": 0}}, "whole number >= 1, found '0'"),
        ({"encoder": {"num_blocks": 1.5}}, "whole number >= 1, found '1.5'"),
        ({"encoder": {"hidden_size": 15}}, "no multiple of heads"),
        ({"encoder": {"conv_mod_kernel_size": 4}}, "must be odd"),
        ({"encoder": 3}, "expected sizes by name"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wanted, message):
    with pytest.raises(UserError, match=message):
        where = "plan: stages[0].student"
        sizes(tiny_config()).with_sizes(read_sizes(where, wanted), where)


def test_targets_out_of_reach_are_refused():
    teacher = sizes(tiny_config())
    with pytest.raises(UserError, match="no student of at most 10 parameters"):
        teacher.shrink_to(10, "plan")
    with pytest.raises(UserError, match="not fewer than the teacher's"):
        teacher.shrink_to(teacher.params, "plan")


def _changed(path, value):
    config = deepcopy(tiny_config())
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return config


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("decoder",), "rwkv", "'rwkv' cannot be cut"),
        (("encoder_conf", "main_conf", "simplified_att_score"), True, "simplified_att_score"),
        (("encoder_conf", "body_conf", 0, "block_type"), "ebranchformer", "must be 'conformer'"),
        (("encoder_conf", "body_conf"), [], "no blocks"),
    ],
)
def test_models_that_cannot_be_shrunk_are_refused(path, value, message):
    with pytest.raises(UserError, match=message):
        sizes(_changed(path, value))


def test_stock_espnet_builds_the_students_config():
    """Without our Task: what the config names is ESPnet's own."""
    from espnet2.tasks.asr_transducer import ASRTransducerTask

    config = tiny_config()
    teacher = sizes(config)
    student = teacher.shrink_to(teacher.params // 2, "plan")
    kept = spaced_blocks(teacher.num_blocks, student.num_blocks)
    small = {**config, **config_of(student, config, kept)}
    stock = ASRTransducerTask.build_model(Namespace(**deepcopy(small)))
    stock.load_state_dict(inherit(build(config).state_dict(), teacher, student, kept))
