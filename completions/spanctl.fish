# Completion of spanctl for fish 3 or newer. Written by: make completions
function __spanctl_complete
    set -l before (commandline --current-process --cut-at-cursor --tokenize)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $before[1]
    set -e before[1]
    set -lx _SPANCTL_COMPLETE fish
    set -lx _SPANCTL_WORDS (string join \x1f -- $before "$current")
    for line in ($program 2>/dev/null </dev/null)
        if test "$line" = \tfiles
            __fish_complete_path "$current"
        else
            printf '%s\n' $line
        end
    end
end

complete --command spanctl --no-files --keep-order --arguments '(__spanctl_complete)'
