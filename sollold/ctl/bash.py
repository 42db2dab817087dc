"""The completion script for bash."""

from __future__ import annotations

from click.shell_completion import BashComplete

# Bash takes a colon for the end of a word, and names of models have one: the pieces are put
# together for the program, and of what it offers only the part after the last colon goes back.
_SOURCE = r"""%(complete_func)s() {
    local IFS=$'\n'
    local response completion type value piece trimmed prefix
    local rest=$COMP_LINE
    local index last=-1 cword=0
    local -a words=()

    for ((index = 0; index < ${#COMP_WORDS[@]}; index++)); do
        piece=${COMP_WORDS[index]}
        trimmed=${rest#"${rest%%%%[![:space:]]*}"}
        if ((last >= 0)) && [[ $trimmed == "$rest" && -n $piece ]] &&
            [[ $piece == :* || ${words[last]} == *: ]]; then
            words[last]+=$piece
        else
            words+=("$piece")
            last=$((last + 1))
        fi
        rest=${trimmed#"$piece"}
        if ((index == COMP_CWORD)); then
            # The word is still under way where the colon is followed by nothing.
            if [[ -z $piece && $COMP_LINE == *: ]] && ((last > 0)); then
                unset "words[last]"
                last=$((last - 1))
            fi
            cword=$last
        fi
    done

    prefix=
    if [[ $COMP_WORDBREAKS == *:* && ${words[cword]} == *:* ]]; then
        prefix=${words[cword]%%"${words[cword]##*:}"}
    fi
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$cword %(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$prefix"}")
        fi
    done

    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


class ColonBash(BashComplete):
    """Completion in bash that knows words with colons."""

    source_template = _SOURCE
