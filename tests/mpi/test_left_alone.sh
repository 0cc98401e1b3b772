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
PATH="$work:$PATH" timeout 50 "$here/scripts/mpirun_here.sh" --survive 2 true
code=$?
echo "exit code $code after $((SECONDS - begin)) s"
[ "$code" -ne 0 ] && [ "$code" -ne 124 ]
