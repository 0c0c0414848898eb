"""Every option of ESPnet's asr.sh is taken, ignored with a line, or refused with a reason."""

import pytest

from espnet_kd.run.espnet_options import RULES, judge
from espnet_kd.run.options import OPTIONS

# Of egs2/TEMPLATE/asr1/asr.sh, each with its default there; and values that are refused.
OF_ESPNET = """
stage=1 stop_stage=10000 skip_stages= skip_data_prep=false skip_train=false skip_eval=false
skip_packing=true skip_upload=true skip_upload_hf=true eval_valid_set=false ngpu=1 num_nodes=1
nj=32 inference_nj=32 gpu_inference=false dumpdir=dump expdir=exp python=python3 debug=false
use_lightning=false local_data_opts= post_process_local_data_opts= auxiliary_data_tags=
speed_perturb_factors= feats_type=raw audio_format=flac multi_columns_input_wav_scp=false
multi_columns_output_wav_scp=false fs=16k min_wav_duration=0.1 max_wav_duration=20 token_type=bpe
nbpe=30 bpemode=unigram oov=<unk> blank=<blank> sos_eos=<sos/eos> bpe_input_sentence_size=100000000
bpe_nlsyms= bpe_char_cover=1.0 hugging_face_model_name_or_path= use_ngram=false ngram_exp=
ngram_num=3 use_lm=true lm_tag= lm_exp= lm_stats_dir= lm_config= lm_args= use_word_lm=false
num_splits_lm=1 word_vocab_size=10000 use_prompt=false use_lang_prompt=false use_nlp_prompt=false
asr_task=asr asr_tag= asr_exp= asr_stats_dir= asr_config= asr_args= pretrained_model=
ignore_init_mismatch=false feats_normalize=global_mvn num_splits_asr=1 num_ref=1 num_inf=
sot_asr=false hf_repo= use_k2=false k2_ctc_decoding=true use_nbest_rescoring=true num_paths=1000
nll_batch_size=100 k2_config=./conf/decode_asr_transformer_with_k2.yaml use_streaming=false
use_maskctc=false batch_size=1 inference_tag= inference_config= inference_args=
inference_lm=valid.loss.ave.pth inference_ngram=3gram.bin inference_asr_model=valid.acc.ave.pth
download_model= train_set= valid_set= test_sets= bpe_train_text= lm_train_text= lm_dev_text=
lm_test_text= nlsyms_txt=none cleaner=none hyp_cleaner=none g2p=none lang=noinfo score_opts=
local_score_opts= asr_speech_fold_length=800 asr_text_fold_length=150 lm_fold_length=150
"""
VALUES = {name: option.default for name, option in OPTIONS.items()}
DEFAULTS = dict(word.split("=", 1) for word in OF_ESPNET.split())
# Whose default there stands for what this recipe does not do, or does otherwise.
REFUSED = {"use_lm": "--inference_args", "asr_task": "espnet2.bin.asr_transducer_train"}


@pytest.mark.parametrize("name", DEFAULTS)
def test_it_is_known(name):
    if name in OPTIONS:
        return  # taken: it means the same
    verdict = judge([(name, DEFAULTS[name])], VALUES)
    if name in REFUSED:
        assert len(verdict.problems) == 1 and REFUSED[name] in verdict.problems[0]
        return
    assert not verdict.problems and bool(verdict.ignored) != bool(verdict.taken)
    # Any other value changes something, is ignored by its nature, or is refused with a reason.
    rule = RULES[name]
    other = judge([(name, "another value")], VALUES)
    assert (rule.harmless is None) == bool(other.ignored)
    if rule.harmless is not None:
        assert len(other.problems) == 1 and len(other.problems[0]) > len(name) + 20


def test_no_option_is_ours_and_has_a_rule():
    assert not OPTIONS.keys() & RULES.keys()


@pytest.mark.parametrize(
    "name, value, taken",
    [
        ("skip_data_prep", "true", {"skip_stages": "7 1 2 3 4 5"}),
        ("skip_train", "true", {"skip_stages": "7 10 11 16"}),
        ("skip_eval", "true", {"skip_stages": "7 12 13 17 18 19 21 22"}),
        ("skip_packing", "true", {"skip_stages": "7 18"}),
        ("skip-upload", "true", {"skip_stages": "7 18 19"}),
        ("eval_valid_set", "true", {"test_sets": "dev a"}),
        ("pretrained_model", __file__, {"asr_args": f"--max_epoch 1 --init_param {__file__}"}),
        (
            "ignore_init_mismatch",
            "true",
            {"asr_args": "--max_epoch 1 --ignore_init_mismatch true"},
        ),
    ],
)
def test_what_is_taken(name, value, taken):
    own = {"skip_stages": "7", "valid_set": "dev", "test_sets": "a dev",
           "asr_args": "--max_epoch 1"}  # fmt: skip
    assert judge([(name, value)], {**VALUES, **own}).taken == taken


def test_a_teacher_of_espnet2_asr_is_of_that_task():
    verdict = judge([("asr_task", "asr")], {**VALUES, "teacher_exp": "exp/asr_x"})
    assert verdict.ignored == ["--asr_task asr"] and not verdict.problems


def test_two_of_them_add_up():
    verdict = judge([("skip_train", "true"), ("skip_eval", "true")], VALUES)
    assert verdict.taken == {"skip_stages": "10 11 16 12 13 17 18 19 21 22"}


@pytest.mark.parametrize(
    "name, hint",
    [
        ("stge", "stage"),
        ("lm_confg", ""),
        ("asr_conf", "asr_config"),
        ("inference_njobs", "inference_nj"),
        ("k2_confg", ""),
    ],
)
def test_no_other_family_is_suggested(name, hint):
    (line,) = judge([(name, "x")], VALUES).problems
    assert ("did you mean" in line) == bool(hint) and (not hint or f"'--{hint}'" in line)
