#!/usr/bin/env bash
# Stage 1 of a corpus that --corpus does not read: write data/<set>/{wav.scp,text,utt2spk} here.
echo "run.sh: error: name your corpus with --corpus (./run.sh --help), or write local/data.sh" >&2
exit 1
