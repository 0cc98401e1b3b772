#!/usr/bin/env bash
# Usage: test_left_alone.sh        mpirun_here.sh --survive with an mpirun that does not see its ranks end.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As Open MPI's when ranks leave before all have met. exec: what is left has no child.
cat >"$work/mpirun" <<'END'
#!/bin/sh
[ "${1:-}" != --version ] || exit 0
sleep 2 &
wait
exec sleep 1000
END
chmod +x "$work/mpirun"

begin=$SECONDS
PATH="$work:$PATH" timeout 50 "$here/scripts/mpirun_here.sh" --survive 2 true 2>"$work/err"
code=$?
cat "$work/err"
echo "exit code $code after $((SECONDS - begin)) s"
# What it says of an mpirun that it killed itself, and its code where the program left none.
[ "$code" -eq 1 ] && grep -q ': mpirun was killed, or hung without a living rank and was ended; run it again$' "$work/err"
