# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the variables
# What `asr_kd.sh --help` says: stages, and options with the values that they have.

help_message() {
    echo "Usage: ${0##*/} --train_set <name> --valid_set <name> --test_sets \"<names>\" [options]"
    echo
    echo "Stages (numbers as in ESPnet's asr.sh, but pack and upload, its 14 and 15, are 18 and 19):"
    local k
    for k in "${!stage_titles[@]}"; do
        printf '    %2d  %s\n' "${k}" "${stage_titles[k]}"
    done
    cat <<END

Options, with the values they have now:
    # General
    --stage          # First stage to run (${stage}).
    --stop_stage     # Last stage to run (${stop_stage}).
    --skip_stages    # Stages to leave out, e.g. "2 4" (${skip_stages}).
    --force          # Redo finished work of the stages asked for (${force}).
    --ngpu           # GPUs of a machine for training, 0: CPU (${ngpu}).
    --num_nodes      # Machines for training (${num_nodes}).
    --nj             # Parallel jobs of data preparation and statistics (${nj}).
    --inference_nj   # Parallel jobs of decoding, over all test sets (${inference_nj}).
    --gpu_inference  # Decode on a GPU (${gpu_inference}).
    --train_threads  # Threads of a training on the CPU (default: 1, for more lose time
                     # where others compute; try more on cores that are free; 4 of a
                     # scheduler) (${train_threads}).
    --dumpdir        # Directory of the formatted audio (${dumpdir}).
    --expdir         # Directory of the experiments (${expdir}).
    --python         # Python that runs the commands (${python}).
    --seed           # Seed of the trainings (default: the one in their configs) (${seed}).

    # Data
    --corpus                 # File or folder of a corpus, read by stage 1 in the place
                             # of local/data.sh; sets that it lacks are split off (${corpus}).
    --data                   # Kind of it: csv, tsv, jsonl, folder (sounds with a .txt
                             # beside each) or kaldi (also an ESPnet dump); none: guess
                             # (${data}).
    --local_data_opts        # Options of local/data.sh; values with spaces in single
                             # quotes (${local_data_opts}).
    --speed_perturb_factors  # E.g. "0.9 1.0 1.1"; none: no perturbation (${speed_perturb_factors}).
    --audio_format           # flac or wav (${audio_format}).
    --fs                     # Sampling rate (${fs}).
    --resample               # Convert other sampling rates instead of refusing them
                             # (${resample}).
    --max_bad_share          # Share of a set's utterances that may be unusable (${max_bad_share}).
    --text_symbols           # Markup in transcripts, such as <noise>: refuse, remove,
                             # or keep, which spells it out (${text_symbols}).
    --cleaner                # Of transcripts, as in ESPnet (tacotron, jaconv,
                             # vietnamese, korean_cleaner, whisper_en, whisper_basic),
                             # or a function of yours, module:function; all sets are
                             # learnt and scored so (${cleaner}).
    --nlsyms_txt             # File of words taken out of them, such as <noise> (${nlsyms_txt}).
    --min_wav_duration       # Shortest utterance to train on, in seconds (${min_wav_duration}).
    --max_wav_duration       # Longest utterance to train on, in seconds (${max_wav_duration}).
    --max_dropped_share      # Share of a training set's utterances, or hours, that
                             # these two, or hard labels, may leave out (${max_dropped_share}).
    --train_set              # Name of the training set (${train_set}).
    --valid_set              # Name of the validation set (${valid_set}).
    --test_sets              # Names of the test sets (${test_sets}).
    --unlabelled_sets        # Sets without transcripts that stages of the plan are
                             # trained on (label_set) (${unlabelled_sets}).
    --lang                   # Language, part of directory names (${lang}).

    # Tokens
    --token_type  # char, bpe or word (${token_type}).
    --nbpe        # Number of BPE tokens (${nbpe}).
    --bpemode     # unigram or bpe (${bpemode}).
    --bpe_char_cover  # Share of the characters that BPE tokens cover (${bpe_char_cover}).
    --bpe_nlsyms  # Words that are BPE tokens as they are: a,b or a file (${bpe_nlsyms}).
    --bpe_train_text  # Kaldi text that BPE tokens are made of, none: the training set's
                      # (${bpe_train_text}).
    --token_dir   # Directory of the token list (${token_dir}).
    --max_unk_share  # Share of a training or validation set's characters that the
                     # tokens may not be able to write (${max_unk_share}).

    # Teacher
    --asr_config              # Training config (${asr_config}).
    --asr_args                # More options of its training; they overrule the config
                              # (${asr_args}).
    --asr_tag                 # Name of its directory, exp/asr_<tag> (${asr_tag}).
    --asr_exp                 # Its directory; overrules --asr_tag (${asr_exp}).
    --asr_stats_dir           # Directory of the statistics (${asr_stats_dir}).
    --feats_normalize         # global_mvn or utterance_mvn (${feats_normalize}).
    --asr_speech_fold_length  # fold_length of speech, for batch_type folded (${asr_speech_fold_length}).
    --asr_text_fold_length    # fold_length of text, for batch_type folded (${asr_text_fold_length}).
    --teacher_exp             # Take the transducer of this ESPnet experiment, train
                              # none (${teacher_exp}).
    --teacher_model           # Its checkpoint, a file of that directory (${teacher_model}).

    # Compression
    --compression_config      # Plan of the compression stages (${compression_config}).
    --student_config          # Training config of the students
                              # (${student_config}).
    --paths                   # "progressive scratch one_shot inherited": also
                              # baselines of the same size (${paths}).
    --paths_at                # Stages of the plan at whose sizes, none: the last (${paths_at}).
    --paths_epochs            # Their epochs: "sum" of all stages up to their size,
                              # "own" of the stage of their size, "own+2" two
                              # more (${paths_epochs}).
    --ablate                  # Add the ablations of espnet_kd/plan/baselines.py
                              # (${ablate}).
    --compression_stage       # First student to run, counted over all paths (${compression_stage}).
    --stop_compression_stage  # Last student to run (${stop_compression_stage}).
    --kd_args                 # More options of the students' training (${kd_args}).
    --kd_tag                  # Students are exp/<tag>_<name in the plan> (${kd_tag}).
    --use_teacher_cache       # Run each teacher once, not in every epoch (${use_teacher_cache}).
    --cache_band              # Labels a frame that the cache keeps, 0: all (${cache_band}).

    # Decoding and report
    --inference_config     # Decoding config (${inference_config}).
    --inference_args       # More options of decoding; they overrule the config (${inference_args}).
    --inference_tag        # Name of the directory of its results (${inference_tag}).
    --inference_asr_model  # Checkpoint to decode with and to distil from
                           # (${inference_asr_model}).
    --use_streaming        # Decode chunk by chunk (${use_streaming}).
    --decoding             # aligned: in batches, chunks as in training, no frame
                           # dropped; stock: ESPnet's own, one utterance after the
                           # other (${decoding}).
    --stock_wer            # With aligned chunks: decode the test sets as ESPnet does,
                           # too, so that the report and the cards have that WER as
                           # well (${stock_wer}).
    --decoding_windows     # Milliseconds of audio of a chunk, e.g. "320 640 1280":
                           # with aligned chunks, decode the test sets in each, too (${decoding_windows}).
    --report_note          # A sentence for the head of the report (${report_note}).
    --train_watts          # Watts that the machine takes while training, by a meter:
                           # the report has the kWh of each training (${train_watts}).
    --local_score_opts     # Options of local/score.sh, which, if there is one, is run
                           # with each scored experiment as its last word (${local_score_opts}).
    --robustness           # Conditions, e.g. conf/robustness.yaml, in which stage 22
                           # decodes the test sets, too (${robustness}).

    # Pack and upload
    --pack_models     # Models to pack, by their names in the report, none: all (${pack_models}).
    --model_license   # Licence that the model cards name, e.g. cc-by-4.0 (${model_license}).
    --model_datasets  # Training data, by its names on the Hugging Face hub (${model_datasets}).
    --hf_repo         # Upload each model to the hub as <hf_repo>_<name>: user/name (${hf_repo}).
    --hf_dry_run      # Only say what would be uploaded (${hf_dry_run}).

    # Devices
    --export_formats  # Of float32 float16 int8 int4, none: no export (${export_formats}).
    --export_models   # Models to export, by their names in the report, none: the last
                      # student of the plan (${export_models}).
    --export_utterances  # An export is compared on at most so many of each set, 0: all
                         # (${export_utterances}).
END
}
