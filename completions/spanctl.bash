# Completion of spanctl for bash 3.2 or newer. Written by: make completions
_spanctl() {
  local answer line
  COMPREPLY=()
  answer=$(
    _SPANCTL_COMPLETE=bash _SPANCTL_LINE="${COMP_LINE:0:COMP_POINT}" \
      _SPANCTL_BREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" 2>/dev/null </dev/null
  ) || return 0
  while IFS= read -r line; do
    case $line in
      '') ;;
      $'\tfiles') compopt -o default 2>/dev/null ;;
      *) COMPREPLY+=("$line") ;;
    esac
  done <<<"$answer"
  return 0
}

# The order is that of spanctl: newest first. bash before 4.4 can't keep it.
complete -o nosort -F _spanctl spanctl 2>/dev/null || complete -F _spanctl spanctl
