#!/usr/bin/env bash
# Is going down in steps better than going down at once? One teacher; with each seed every
# path to the same size, with the same number of updates; one table over all seeds.
#
#   DIGITS=/path/to/digits ./evidence.sh                 # everything
#   DIGITS=/path/to/digits ./evidence.sh --seeds "1"     # a part; the rest is recognised later
cd "$(dirname "$0")" || exit 1
exec scripts/evidence.sh --stats exp/asr_stats_raw_en_char "$@"
