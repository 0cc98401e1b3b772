#!/usr/bin/env bash
# Installs, builds and runs every test; the sanitizer build of the unit tests first, the optimised build last, which does
# without the pure ones of these (cmake/fastserve_target.cmake).
# Usage: scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The tests on a Slurm cluster of network namespaces need root, and are skipped without.
if [ "$(id -u)" -eq 0 ]; then scripts/install_dependencies.sh --with-slurm; else scripts/install_dependencies.sh; fi
jobs=$(nproc)
# What this machine cannot run is only compiled, and that in a hurry; with sanitizers not even that.
unused=
[ -e /dev/nvidiactl ] || unused=cuda
sanitized=portable
for flag in avx2 avx_vnni avx512f avx512_vnni avx512_bf16; do
  isa=$(tr -d _ <<<"${flag%f}")
  if ! grep -qw "$flag" /proc/cpuinfo; then
    unused+=";$isa"
  elif [[ $isa == avx2 || $isa == avx512vnni ]]; then
    sanitized+=";$isa"
  fi
done
# A compiler cache, where there is one, serves every checkout: no path of the checkout is in what is compiled.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
  export CCACHE_SLOPPINESS=pch_defines,time_macros
fi

echo "== format"
mapfile -t sources < <(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh')
clang-format-14 --dry-run --Werror "${sources[@]}"
mapfile -t shell < <(git ls-files '*.sh' '*.bash' '*.sbatch' .ci/run scripts/virtual_cluster)
shellcheck "${shell[@]}"

echo "== sanitizers (unit tests)"
cmake --preset asan -DFASTSERVE_ISAS="$sanitized"
cmake --build --preset asan -j "$jobs" --target unit_tests
ctest --preset asan -L unit -j "$jobs"

echo "== optimised (all but pure ones)"
cmake --preset checks -DFASTSERVE_UNUSED="${unused#;}"
cmake --build --preset checks -j "$jobs"
# Most of these wait now and then: for signs of life that do not come, for Slurm, for one another.
ctest --preset checks -j $((2 * jobs))
