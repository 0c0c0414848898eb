"""A trained transducer, frozen, that is no part of its student."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.asr_transducer.joint_network import JointNetwork
from espnet2.tasks.asr_transducer import ASRTransducerTask

import espnet_kd.espnet.averaged_decoder
import espnet_kd.espnet.cascaded_encoder  # noqa: F401 - ESPnet knows both from here on
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.mixed_precision import lstm_of_torch
from espnet_kd.espnet.offline import build_offline, renamed
from espnet_kd.espnet.whole_encoder import WholeEncoder, compare_frames, is_whole
from espnet_kd.lattice import Joint
from espnet_kd.saved import load_state
from espnet_kd.spec.teacher_kinds import check_teacher, is_offline


def load_transducer(config: str, checkpoint: str) -> ESPnetASRTransducerModel:
    """Load an ESPnet transducer and check that the two files belong together.

    One of `espnet2.asr` is loaded as a standalone one (`offline`). ESPnet itself loads with
    `strict=False`: a checkpoint of another model leaves random weights behind without a word.

    Args:
        config: The experiment's `config.yaml`.
        checkpoint: A `.pth` of the same experiment.

    Raises:
        UserError: a file is missing or unreadable, it cannot teach (`spec.teacher_kinds`), or
            parameters are missing, no numbers, or of other shapes than the config asks for.
    """
    needs = "a teacher needs a config.yaml and a .pth"
    raw_config = read_yaml(config, needs)  # before ESPnet does
    offline = is_offline(raw_config)
    if offline:
        check_teacher(raw_config, config)
    if not Path(checkpoint).is_file():
        raise UserError(f"{checkpoint}: no such file; {needs}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if offline:
                model = build_offline(raw_config)
            else:
                model, _ = ASRTransducerTask.build_model_from_file(config, None, "cpu")
    except UserError as e:
        raise UserError(f"{config}: {e}") from None
    except FileNotFoundError as e:
        raise UserError(
            f"{config}: names {e.filename}, which is not there{_where_it_begins(config, e)}"
        ) from e
    except Exception as e:  # ESPnet checks little of a config: anything may come of a wrong one
        raise UserError(
            f"{config}: not the config of {_kind(offline)}: {type(e).__name__}: {e}"
        ) from e
    state = load_state(checkpoint)
    state = renamed(state) if offline else state
    wanted = model.state_dict()
    for name in wanted:
        if name not in state:
            raise UserError(f"{checkpoint}: lacks '{name}', which {config} asks for")
        if state[name].shape != wanted[name].shape:
            raise UserError(
                f"{checkpoint}: '{name}' has shape {tuple(state[name].shape)}; {config} asks "
                f"for {tuple(wanted[name].shape)}"
            )
    # `kd_*`: what a student was distilled with and does not decode with.
    extra = [name for name in state if name not in wanted and not name.startswith("kd_")]
    if extra:
        raise UserError(f"{checkpoint}: holds '{extra[0]}', which {config} does not have")
    model.load_state_dict({name: state[name] for name in wanted})
    if is_whole(model.encoder):
        features = model.frontend.output_size() if model.frontend else raw_config["input_size"]
        model.encoder = WholeEncoder(model.encoder, features, model.encoder.output_size)
    return model


def _where_it_begins(config: str, error: FileNotFoundError) -> str:
    """Say from where a file that a config names by a relative path would be found."""
    from espnet_kd.espnet.standalone import roots_of  # which loads models by this module

    name = str(error.filename)
    if os.path.isabs(name):
        return ""
    for root in roots_of(Path(config).parent):
        if (root / name).is_file():
            return f"; it is below {root}: run this there"
    return "; run this in the folder of the recipe that made it, where its paths begin"


def _kind(offline: bool) -> str:
    if offline:
        return "an ESPnet transducer (espnet2.bin.asr_train)"
    return "a standalone ESPnet transducer (espnet2.bin.asr_transducer_train)"


class FrozenTeacher:
    """A transducer in eval mode without gradients, held outside any module tree.

    It is no `nn.Module`: a student that holds it has nothing of it in `parameters()`,
    `state_dict()`, optimizers, averages or DDP.

    Args:
        model: A trained transducer.
        name: Name for messages.
        dtype: bfloat16 halves what LOWERED takes; these parts then compute in it, too,
            whatever autocast says. The walk over the lattice stays in float32.
    """

    # The predictor, a few hundredths of a model, stays as it is: not every LSTM can.
    LOWERED = ("encoder", "joint_network", "ctc_lin")

    def __init__(
        self,
        model: ESPnetASRTransducerModel,
        name: str = "teacher",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.offset = 0  # frames that it makes more than the student
        self.name = name
        self.dtype = dtype
        self._lower()
        for module in self.model.modules():
            # Layers of `espnet2.asr` give the name to a module of theirs.
            if hasattr(module, "attn") and not isinstance(module.attn, torch.nn.Module):
                module.register_forward_hook(_forget_attention)

    def apply(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Move or cast the teacher as its student is; what was lowered stays so."""
        self.model._apply(fn)
        self._lower()

    def _lower(self) -> None:
        if self.dtype != torch.float32:
            for part in self.LOWERED:
                getattr(self.model, part, torch.nn.Identity()).to(self.dtype)

    def check_fits(self, student: ESPnetASRTransducerModel) -> None:
        """Refuse a student whose lattice differs.

        Raises:
            UserError: token lists, subsampling or front ends differ.
        """
        for i, (a, b) in enumerate(zip(self.model.token_list, student.token_list)):
            if a != b:
                raise UserError(
                    f"token lists differ: token {i} is '{a}' for the {self.name}, '{b}' for "
                    "the student"
                )
        if len(self.model.token_list) != len(student.token_list):
            raise UserError(
                f"token lists differ: the {self.name} has {len(self.model.token_list)} tokens, "
                f"the student {len(student.token_list)}"
            )
        if isinstance(self.model.encoder, WholeEncoder):
            apart = compare_frames(self.model.encoder, student.encoder)
            if apart.offset is None:
                raise UserError(f"subsampling differs: the {self.name} makes {apart.example}")
            self.offset = apart.offset
        else:
            self._check_subsampling(student)
        fronts = [front_end(m) for m in (self.model, student)]
        for key in fronts[0]:
            if fronts[0][key] != fronts[1].get(key):
                raise UserError(
                    f"front ends differ: {key} is {fronts[0][key]} for the {self.name}, "
                    f"{fronts[1].get(key)} for the student"
                )

    def _check_subsampling(self, student: ESPnetASRTransducerModel) -> None:
        factors = [m.encoder.embed.subsampling_factor for m in (self.model, student)]
        vgg = [m.encoder.embed.vgg_like for m in (self.model, student)]
        if factors[0] != factors[1] or vgg[0] != vgg[1]:
            raise UserError(
                f"subsampling differs: {self.name} {factors[0]} (vgg_like {vgg[0]}), student "
                f"{factors[1]} (vgg_like {vgg[1]}); both must make the same frames"
            )

    @torch.no_grad()
    def encode(
        self, feats: torch.Tensor, feats_len: torch.Tensor, chunk_size: Optional[int]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Run the teacher's encoder.

        Args:
            feats: Features before normalisation; they are left as they are. (B, T_in, F)
            feats_len: (B,)
            chunk_size: Encoder frames a chunk; None: full context, which those that hear
                whole utterances have in any case.

        Returns:
            Encoder output (B, T, D) and its lengths (B,), the student's frames: where it makes
            a constant number more or fewer, half of them are left out, or repeated, at each end,
            as convolutions without padding lose them; an odd one at the end.
        """
        model = self.model
        if model.training:
            raise RuntimeError("the teacher was put into training mode")
        if not model.encoder.dynamic_chunk_training:
            chunk_size = None
        if model.normalize is not None:
            feats, feats_len = model.normalize(feats.clone(), feats_len)  # writes in place
        with self._precision(feats):
            feats = feats.to(self._dtype_of(feats))
            enc, t_len = encode(model.encoder, feats, feats_len, chunk_size)  # (B, T, D)
        if self.offset == 0:
            return enc, t_len
        wanted = t_len - self.offset  # (B,)
        frame = torch.arange(int(wanted.max()), device=enc.device)  # (T,)
        frame = (frame + int(self.offset / 2)).clamp_min(0)  # (T,)
        frame = frame[None].minimum(t_len[:, None] - 1)  # (B, T)
        return enc.gather(1, frame[..., None].expand(-1, -1, enc.size(2))), wanted

    @torch.no_grad()
    def joint(
        self,
        feats: torch.Tensor,
        feats_len: torch.Tensor,
        decoder_in: torch.Tensor,
        chunk_size: Optional[int],
    ) -> "TeacherOutput":
        """Run the teacher up to its joint network.

        Args:
            feats: Features before normalisation; they are left as they are. (B, T_in, F)
            feats_len: (B,)
            decoder_in: Labels with a blank before them. (B, U + 1)
            chunk_size: Encoder frames a chunk; None: full context.

        Returns:
            What students learn from.
        """
        model = self.model
        enc, t_len = self.encode(feats, feats_len, chunk_size)  # (B, T, D)
        with self._precision(feats):
            model.decoder.set_device(enc.device)
            dec = model.decoder(decoder_in)  # (B, U + 1, D)
            dec = dec.to(self._dtype_of(dec))
            ctc = model.ctc_lin(enc) if model.use_auxiliary_ctc else None  # (B, T, V)
            joint = project(model.joint_network, enc, dec)
        return TeacherOutput(joint, t_len, enc, ctc)

    @contextlib.contextmanager
    def _precision(self, x: torch.Tensor) -> Iterator[None]:
        """Whatever autocast says, a lowered teacher computes as it is."""
        if self.dtype == torch.float32:
            yield
            return
        device = x.device.type
        with lstm_of_torch(device), torch.autocast(device, enabled=False):
            yield

    def _dtype_of(self, x: torch.Tensor) -> torch.dtype:
        return x.dtype if self.dtype == torch.float32 else self.dtype


def _forget_attention(module: Any, *_: Any) -> None:
    """ESPnet keeps each block's attention weights, (B, heads, T, T), for plots."""
    module.attn = None


class TeacherOutput(NamedTuple):
    """Outputs of a teacher for a batch.

    Attributes:
        joint: Joint network with its projected inputs.
        t_len: Frames. (B,)
        enc: Encoder output. (B, T, D)
        ctc: Logits of the CTC head, if it has one. (B, T, V)
    """

    joint: Joint
    t_len: torch.Tensor
    enc: torch.Tensor
    ctc: Optional[torch.Tensor]


def project(network: JointNetwork, enc: torch.Tensor, dec: torch.Tensor) -> Joint:
    """Apply the projections of ESPnet's joint network, not its output layer.

    Args:
        network: ESPnet's joint network.
        enc: Encoder output. (B, T, D)
        dec: Predictor output. (B, U + 1, D)
    """
    enc, dec = network.lin_enc(enc), network.lin_dec(dec)
    activation = network.joint_activation
    return Joint(
        enc,
        dec,
        # Under autocast the projections are half precision: so is the output layer then.
        network.lin_out.weight.to(enc.dtype),
        network.lin_out.bias.to(enc.dtype),
        None if isinstance(activation, torch.nn.Tanh) else activation,
    )


def front_end(model: ESPnetASRTransducerModel) -> dict:
    """Return what decides which features a model hears."""
    front = model.frontend
    if front is None:
        return {"frontend": None}
    options = {"frontend": type(front).__name__, "features": front.output_size()}
    stft = getattr(front, "stft", None)
    for key in ("n_fft", "win_length", "hop_length", "window"):
        if stft is not None:
            options[key] = getattr(stft, key, None)
    logmel = getattr(front, "logmel", None)
    if logmel is not None:
        options.update(getattr(logmel, "mel_options", {}))
    return options
