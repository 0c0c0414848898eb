# shellcheck shell=bash
# Read `--name value` and `--name=value` into shell variables; to be sourced, as Kaldi's.
#
# An option is a variable that is set before this file is sourced and that the help text
# names. `help_message` is a function (then it shows the values given so far) or a variable.
# A variable that holds true or false accepts only true or false. Where `unknown_options` is an
# array, options that are none are put there as `name=value`, or `name`, and not refused.

_help() {
    if declare -F help_message >/dev/null; then
        help_message
    else
        printf '%s\n' "${help_message:-}"
    fi
}

_known_options() {
    local names name
    names=$(_help | grep -oE -e '--[A-Za-z][A-Za-z0-9_-]*' | sed -e 's/^--//' -e 's/-/_/g' | sort -u)
    # A script without a help text: every variable it has set in lower case.
    [ -n "${names}" ] || names=$(compgen -v | grep '^[a-z]' || true)
    for name in ${names}; do
        [ -z "${!name+set}" ] || echo "${name}"
    done
}

# The known name with the fewest edits, if it is near enough to be meant.
_nearest_option() {
    awk -v word="$1" '
        function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
        function edits(s, t,    i, j, d, cost) {
            for (i = 0; i <= length(s); i++) d[i, 0] = i
            for (j = 0; j <= length(t); j++) d[0, j] = j
            for (i = 1; i <= length(s); i++)
                for (j = 1; j <= length(t); j++) {
                    cost = substr(s, i, 1) != substr(t, j, 1)
                    d[i, j] = least(d[i-1, j] + 1, d[i, j-1] + 1, d[i-1, j-1] + cost)
                }
            return d[length(s), length(t)]
        }
        { n = edits(word, $1); if (best == "" || n < fewest) { best = $1; fewest = n } }
        END { if (best != "" && fewest * 2 <= length(word)) print best }'
}

_option_error() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}

_options=$(_known_options)
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h)
        _help
        exit 0
        ;;
    --*) ;;
    *) break ;;
    esac
    _name=${1#--}
    _name=${_name%%=*}
    _variable=${_name//-/_}
    if [[ $'\n'"${_options}"$'\n' != *$'\n'"${_variable}"$'\n'* ]]; then
        if declare -p unknown_options >/dev/null 2>&1; then
            _given=${1#--}
            # A value may begin with dashes, too: --lm_args "--max_epoch 3".
            if [[ "$1" != *=* && $# -ge 2 && ! "$2" =~ ^--[A-Za-z0-9_-]+(=|$) ]]; then
                _given+="=$2"
                shift
            fi
            unknown_options+=("${_given}")
            shift
            continue
        fi
        _nearest=$(_nearest_option "${_variable}" <<<"${_options}")
        [ -z "${_nearest}" ] || _nearest=" (did you mean '--${_nearest}'?)"
        _option_error "unknown option --${_name}${_nearest}; --help lists them all"
    fi
    case "$1" in
    *=*)
        _value=${1#*=}
        shift
        ;;
    *)
        [ $# -ge 2 ] || _option_error "option $1 needs a value"
        _value=$2
        shift 2
        ;;
    esac
    case "${!_variable}" in
    true | false)
        case "${_value}" in
        true | false) ;;
        *) _option_error "--${_name} must be true or false, not '${_value}'" ;;
        esac
        ;;
    esac
    printf -v "${_variable}" '%s' "${_value}"
done
unset _options _name _variable _value _nearest _given

# no_words "$@": refuse what is left, for scripts that take options alone.
no_words() {
    [ $# -eq 0 ] || _option_error "no positional arguments are taken, but '$1' was given;" \
        "values with spaces need quotes"
}
