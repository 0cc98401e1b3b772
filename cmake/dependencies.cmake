# Everything from outside, found once. Debian 12's package names: scripts/install_dependencies.sh.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(MPI REQUIRED COMPONENTS C)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc i18n)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
if(FASTSERVE_TESTS)
  find_package(Boost REQUIRED COMPONENTS unit_test_framework)
endif()

# yaml-cpp before 0.8 exports a bare target.
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()

# CAF >= 1.0 brings a CMake package; Debian's 0.17.6 has none.
find_package(CAF CONFIG QUIET COMPONENTS core)
if(NOT TARGET CAF::core)
  find_path(CAF_INCLUDE_DIR caf/all.hpp REQUIRED)
  find_library(CAF_CORE_LIBRARY caf_core REQUIRED)
  add_library(CAF::core UNKNOWN IMPORTED)
  set_target_properties(CAF::core PROPERTIES IMPORTED_LOCATION ${CAF_CORE_LIBRARY}
                                             INTERFACE_INCLUDE_DIRECTORIES ${CAF_INCLUDE_DIR})
  target_link_libraries(CAF::core INTERFACE Threads::Threads)
endif()

# The C interface alone: Open MPI's removed C++ bindings warn under -Wextra.
add_library(fastserve_mpi_c INTERFACE)
target_link_libraries(fastserve_mpi_c INTERFACE MPI::MPI_C)
target_compile_definitions(fastserve_mpi_c INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

# CUDA Toolkit with nvcc: found or skipped, in one line. Where FASTSERVE_HAVE_CUDA is true kernels/ has the target
# fastserve::kernels_cuda. NCCL is looked for beside it (FASTSERVE_HAVE_NCCL, NCCL_LIBRARY).
set(FASTSERVE_HAVE_CUDA FALSE)
set(FASTSERVE_HAVE_NCCL FALSE)
if(NOT FASTSERVE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
    if(NOT CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    # sm_80 runs on every GPU of its generation; sm_90 brings PTX for those to come.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    endif()
    enable_language(CUDA)
    # CMake 3.25 does not know how nvcc 13 is told.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(FASTSERVE_HAVE_CUDA TRUE)
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_LIBRARY_DIR}/../../..
                 PATH_SUFFIXES lib lib64)
    if(NCCL_LIBRARY)
      set(FASTSERVE_HAVE_NCCL TRUE)
    endif()
    message(STATUS "CUDA ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(FASTSERVE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FASTSERVE_CUDA=ON, but the CUDA Toolkit with nvcc was not found")
  else()
    message(STATUS "CUDA skipped: no CUDA Toolkit with nvcc on this machine")
  endif()
else()
  message(STATUS "CUDA skipped: FASTSERVE_CUDA=OFF")
endif()
