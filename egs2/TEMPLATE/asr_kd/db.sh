# shellcheck shell=bash disable=SC2034
# Where the corpora are, one variable each, as in ESPnet's db.sh. Sourced by local/data.sh.
# Set one here or in the environment; `downloads` is a folder inside the recipe.

LIBRISPEECH="${LIBRISPEECH:-}"
MINI_SPEECH="${MINI_SPEECH:-downloads}"
DIGITS="${DIGITS:-}"
MBOSHI="${MBOSHI:-}"
