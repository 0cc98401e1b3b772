#!/usr/bin/env bash
# From a fresh checkout to a running console: installs, builds, and starts the demo model over two MPI ranks.
# Usage: scripts/quickstart.sh [arguments of `fastserve console`]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_dependencies.sh >&2
cmake --preset release -DFASTSERVE_TESTS=OFF >&2
cmake --build --preset release >&2
exec scripts/mpirun_here.sh --survive 2 build/fastserve console --model models/demo "$@"
