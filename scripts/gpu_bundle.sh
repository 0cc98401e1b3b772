#!/usr/bin/env bash
# Packs a build into one archive that runs on a machine with a GPU and its driver, but without Open MPI, CAF and the
# other libraries: programs, those libraries, the demo model and the tests' data. CUDA's own libraries stay out.
# Usage: scripts/gpu_bundle.sh [BUILD] [ARCHIVE]        build-cuda and build-gpu-bundle.tar.xz unless told otherwise
# There:  tar xf build-gpu-bundle.tar.xz && gpu-bundle/run fastserve bench ...
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-cuda}
archive=${2:-build-gpu-bundle.tar.xz}
if [ ! -x "$build/fastserve" ]; then
  echo "gpu_bundle.sh: no $build/fastserve; build it with: cmake --preset cuda && cmake --build --preset cuda" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/gpu-bundle
mkdir -p "$root/bin" "$root/lib" "$root/share"

programs=("$build/fastserve")
for name in test_cuda test_cuda_models test_cuda_shard bench_cuda; do
  if [ -x "$build/tests/$name" ]; then programs+=("$build/tests/$name"); fi
done
for program in "${programs[@]}"; do
  strip -o "$root/bin/$(basename "$program")" "$program"
done

# libraries FILE...: what they load, less the C library, whose version must be the machine's, and CUDA.
libraries() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -vE '/(libc|libm|libpthread|libdl|librt|libcuda|libcudart|libcublas|libcublasLt|libnccl|libnvrtc)\.so'
}
plugins=$(ompi_info --path pkglibdir --parsable | sed 's/.*://')
for folder in "$plugins/openmpi3" "$plugins/openmpi"; do
  if [ -d "$folder" ]; then plugins=$folder; fi
done
mkdir -p "$root/lib/openmpi"
cp "$plugins"/mca_*.so "$root/lib/openmpi/"
# Fabrics and resource managers bring libraries of their own; a job of one rank uses none of them.
rm -f "$root"/lib/openmpi/mca_*{ofi,ucx,psm,psm2,openib,usnic,portals4,tm,slurm,gridengine,alps,lsf,monitoring}*
# mpirun, for several ranks on one machine.
cp "$(readlink -f "$(command -v mpirun)")" "$root/bin/mpirun"
mkdir -p "$root/share/openmpi"
cp "$(dirname "$(ompi_info --path pkgdatadir --parsable | sed 's/.*://')")"/openmpi/*.txt "$root/share/openmpi/"
mapfile -t needed < <(libraries "${programs[@]}" "$root/bin/mpirun" "$root"/lib/openmpi/*.so)
for library in "${needed[@]}"; do cp -L "$library" "$root/lib/"; done

cp -r models/demo tests/data/models "$root/share/"
cat >"$root/run" <<'END'
#!/bin/sh
# run PROGRAM ARGUMENTS: a program of this bundle, as a job of one rank. run mpirun ...: `run` stands for its programs.
here=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OPAL_PREFIX="$here" OPAL_DATADIR="$here/share" OMPI_MCA_mca_base_component_path="$here/lib/openmpi" OMPI_MCA_btl=self,vader,tcp
if [ -z "${OMPI_COMM_WORLD_SIZE:-}" ] && [ "$program" != mpirun ]; then export OMPI_MCA_ess_singleton_isolated=1; fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec "$here/bin/$program" "$@"
END
chmod +x "$root/run"
XZ_OPT=${XZ_OPT:--2} tar -C "$work" -cJf "$archive" gpu-bundle
echo "$archive: $(du -h "$archive" | cut -f1), ${#programs[@]} programs, ${#needed[@]} libraries"
