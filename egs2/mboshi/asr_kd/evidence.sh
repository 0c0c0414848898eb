#!/usr/bin/env bash
# The experiments of README.md: a teacher; for each arm of conf/arms.txt and each seed its paths;
# one table an arm over all seeds.
#
#   MBOSHI=/path/to/checkout ./evidence.sh                            # everything
#   MBOSHI=/path/to/checkout ./evidence.sh --arms thin --seeds "1"    # a part
cd "$(dirname "$0")" || exit 1
exec scripts/evidence.sh --stats exp/asr_stats_raw_mb_word "$@"
