# One static library a folder. Each sees its own folder and those it links, and nothing else:
# the only include directory it exports holds one link, to the folder itself, so that
# #include "scheduler/queue.hpp" does not compile in a target that does not link scheduler.

set(_fastserve_warnings -Wall -Wextra)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND _fastserve_warnings -Wno-restrict)  # wrong about std::string + char: GCC bug 105651
endif()
if(FASTSERVE_WERROR)
  list(APPEND _fastserve_warnings -Werror)
endif()

# With -DCMAKE_UNITY_BUILD=ON, as scripts/test.sh has it, the libraries compile a dozen sources at a time, in two thirds of
# the time.
set(CMAKE_UNITY_BUILD_BATCH_SIZE 12)

# Warnings and sanitizers, for every target of ours.
function(fastserve_options target)
  target_compile_options(${target} PRIVATE ${_fastserve_warnings})
  if(FASTSERVE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FASTSERVE_SANITIZE} -fno-omit-frame-pointer
                                             -fno-sanitize-recover=undefined)
    # What these find the address sanitizer finds, too, or the machine; they are half of the time to compile.
    target_compile_options(${target} PRIVATE -fno-sanitize=null,object-size,vptr,pointer-overflow)
    target_link_options(${target} PRIVATE -fsanitize=${FASTSERVE_SANITIZE})
    target_compile_definitions(${target} PRIVATE FASTSERVE_SANITIZED)
  endif()
endfunction()

# fastserve_library(<folder> SOURCES ... LINK ...)
function(fastserve_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  set(tree ${CMAKE_BINARY_DIR}/include/${folder})
  file(MAKE_DIRECTORY ${tree})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${folder} ${tree}/${folder} SYMBOLIC)
  add_library(fastserve_${folder} STATIC ${ARG_SOURCES})
  add_library(fastserve::${folder} ALIAS fastserve_${folder})
  target_include_directories(fastserve_${folder} PUBLIC ${tree})
  target_link_libraries(fastserve_${folder} PUBLIC ${ARG_LINK})
  fastserve_options(fastserve_${folder})
  if(folder MATCHES "^(actors|launch|mpi)$")
    # They wait more than they compute, and take a fifth longer to compile with -O3.
    target_compile_options(fastserve_${folder} PRIVATE $<$<CONFIG:Release>:-O2>)
  endif()
endfunction()

# What the sanitizer build builds: the test programs that need no launcher.
add_custom_target(unit_tests)

# What every test is compiled with. What is tested is compiled as it is shipped; the checks themselves need no more than
# -O1, and compile in two thirds of the time.
function(fastserve_test_options target)
  target_compile_definitions(${target} PRIVATE BOOST_TEST_DYN_LINK
    FASTSERVE_TEST_DATA="tests/data"
    FASTSERVE_SHARED_DATA="../shared/data"
    FASTSERVE_SOURCE_DIR=".")
  # With the flags that some libraries bring, or the precompiled headers would serve only their tests.
  target_link_libraries(${target} PRIVATE Threads::Threads OpenMP::OpenMP_CXX)
  fastserve_options(${target})
  set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1> $<$<CONFIG:Debug>:-O0>)
  if(FASTSERVE_SANITIZE)
    target_compile_options(${target} PRIVATE -g0)  # a sixth of the time to compile them
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # The same bug under other names: a precompiled header is no system header.
    target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-stringop-overflow)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # a compiler cache understands precompiled headers by it
  endif()
endfunction()

# fastserve_program(<name> SOURCES ... LINK ...): a program in tests/ that is no test, as a bench, or is started by one.
function(fastserve_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  fastserve_options(${name})
endfunction()

# fastserve_test_bodies(<name> SOURCES ... LINK ...): tests that several programs link, each for a device of its own.
function(fastserve_test_bodies name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} Boost::unit_test_framework)
  fastserve_test_options(${name})
  target_precompile_headers(${name} REUSE_FROM fastserve_test_headers)
endfunction()

# fastserve_test(<name> SOURCES ... LINK ... [RANKS 1 2 3 4] [LABELS ...] [TIMEOUT seconds] [OWN_MAIN] [PURE])
# A Boost.Test program in tests/, with Boost's main() unless it brings one. With RANKS it runs once under mpirun for each
# count. Tests run in the source folder and name their data from there, so that a compiler cache serves every checkout.
# PURE: neither kernels nor threads are in what it tests, and under sanitizers it does all that it does without
# (tests/support/sanitized.hpp), so it need not be built again with optimisation: scripts/test.sh does without
# (FASTSERVE_PURE_TESTS=OFF).
function(fastserve_test name)
  cmake_parse_arguments(ARG "OWN_MAIN;PURE" "TIMEOUT" "SOURCES;LINK;RANKS;LABELS" ${ARGN})
  if(ARG_PURE AND NOT FASTSERVE_PURE_TESTS)
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} Boost::unit_test_framework)
  fastserve_test_options(${name})
  target_precompile_headers(${name} REUSE_FROM fastserve_test_headers)
  if(NOT ARG_OWN_MAIN)
    target_link_libraries(${name} PRIVATE fastserve_test_main)
  endif()
  if(ARG_RANKS)
    foreach(n IN LISTS ARG_RANKS)
      set(processors 2)
      if(n EQUAL 1)
        set(processors 1)
      endif()
      add_test(NAME ${name}_np${n} COMMAND ${CMAKE_SOURCE_DIR}/scripts/mpirun_here.sh ${n} $<TARGET_FILE:${name}>
               WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
      set_tests_properties(${name}_np${n} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "mpi;${ARG_LABELS}"
                                                     SKIP_RETURN_CODE 77 PROCESSORS ${processors})
    endforeach()
  else()
    add_dependencies(unit_tests ${name})
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "unit;${ARG_LABELS}"
                                            ENVIRONMENT OMP_WAIT_POLICY=passive
                                            SKIP_RETURN_CODE 77)
  endif()
endfunction()
