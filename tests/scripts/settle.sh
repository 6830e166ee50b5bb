#!/bin/sh
# Runs a deployment once and says what came of it; knows nothing but what docs/SCRIPTING.md tells.
# Usage: settle.sh DEPLOYMENT KEY [NAME=VALUE]...
deployment=$1 key=$2
shift 2
for parameter in "$@"; do
  set -- "$@" -p "$parameter"
  shift
done

verdict() {
  case $1 in
    0) echo "done" ;;
    1) echo "failed: look at its logs" ;;
    2) echo "usage: mend the script or the context" ;;
    3) echo "unreachable: try again later, with the same key" ;;
    4) echo "denied: ask for access" ;;
    5) echo "not found: is it deployed?" ;;
    6) echo "conflict: the key was used for something else, or is closed" ;;
    7) echo "tampered: call security" ;;
    8) echo "pending: wait again" ;;
    9) echo "unknown: wake somebody" ;;
    12) echo "cancelled or crashed" ;;
    130 | 143) echo "interrupted" ;;
    *) echo "no code of the contract: $1" ;;
  esac
  exit "$1"
}

# Trigger; 0 means accepted, and the run's id is all that is printed.
run=$(spanctl -q --no-input run "$deployment" "$@" --idempotency-key "$key" --detach -o name) ||
  verdict $?
# Wait; exits as the run did.
code=0
spanctl -q runs wait "$run" --timeout "${PATIENCE:-60s}" >/dev/null || code=$?
# Audit; what committed, committed, however the run ended.
spanctl -q audit list --flow-run "$run" --no-header --fields outcome,txn_id || verdict $?
verdict "$code"
