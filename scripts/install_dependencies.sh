#!/usr/bin/env bash
# Installs what the build needs, on Debian and Ubuntu; elsewhere prints the names that Spack knows it by.
# Usage: scripts/install_dependencies.sh [--with-slurm]
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config git
  libopenmpi-dev openmpi-bin
  libcaf-dev
  libyaml-cpp-dev
  libboost-test-dev
  libcli11-dev
  nlohmann-json3-dev
  libspdlog-dev
  libsentencepiece-dev
  libpcre2-dev libicu-dev
)
# Used by scripts/test.sh alone.
packages+=(clang-format-14 shellcheck)
# For scripts/virtual_cluster and the tests on it.
if [ "${1:-}" = --with-slurm ]; then packages+=(slurm-wlm munge iproute2 util-linux procps); fi

if ! command -v apt-get >/dev/null; then
  cat >&2 <<'TEXT'
This machine has no apt-get. With Spack:
  spack install gcc@12: cmake ninja pkgconf openmpi actor-framework yaml-cpp boost+test cli11 nlohmann-json \
                spdlog sentencepiece pcre2+jit icu4c
then `spack load` the same names and run cmake as in README.md.
TEXT
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then missing+=("$package"); fi
done
if ((${#missing[@]} == 0)); then
  echo "Dependencies: all ${#packages[@]} packages are installed."
  exit 0
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
echo "Dependencies: installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "Dependencies: installed."
