# Compiler settings shared by every target: C17, GNU source, the house's warnings, sanitizers.
option(BERTH_WERROR "Warnings are errors (presets and CI)" OFF)
option(BERTH_FUZZ "Build libFuzzer targets (clang)" OFF)
option(BERTH_COVERAGE "gcov counters" OFF)
set(BERTH_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=")

add_library(berth_flags INTERFACE)
target_compile_features(berth_flags INTERFACE c_std_17)
target_compile_definitions(berth_flags INTERFACE _GNU_SOURCE)
target_compile_options(berth_flags INTERFACE
    -fno-strict-aliasing -fno-omit-frame-pointer -fstack-protector-strong
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wundef -Wvla -Wformat=2 -Wcast-qual -Wnull-dereference -Wimplicit-fallthrough
    # ##__VA_ARGS__, statement expressions and cleanup attributes are house style.
    $<$<C_COMPILER_ID:Clang>:-Wno-gnu-zero-variadic-macro-arguments
        -Wno-gnu-statement-expression -Wno-gnu-auto-type>
    $<$<C_COMPILER_ID:GNU>:-Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wno-pedantic>)
if(BERTH_WERROR)
    target_compile_options(berth_flags INTERFACE -Werror)
endif()
if(BERTH_SANITIZE)
    # GCC's null-dereference analysis misfires on sanitizer-instrumented code.
    target_compile_options(berth_flags INTERFACE -fsanitize=${BERTH_SANITIZE}
        -fno-sanitize-recover=all
        $<$<C_COMPILER_ID:GNU>:-Wno-null-dereference>
        $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_options(berth_flags INTERFACE -fsanitize=${BERTH_SANITIZE})
    if(BERTH_SANITIZE MATCHES thread)
        # Fences order us against a guest, whom the sanitizer does not see anyway.
        target_compile_options(berth_flags INTERFACE $<$<C_COMPILER_ID:GNU>:-Wno-tsan>)
    endif()
endif()
if(BERTH_FUZZ)
    target_compile_options(berth_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(BERTH_COVERAGE)
    target_compile_options(berth_flags INTERFACE --coverage)
    target_link_options(berth_flags INTERFACE --coverage)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    # What these find depends on what the optimiser inlined; the debug builds run them unoptimised.
    target_compile_options(berth_flags INTERFACE -D_FORTIFY_SOURCE=2 -Wno-null-dereference
        $<$<C_COMPILER_ID:GNU>:-Wno-dangling-pointer -Wno-format-truncation -Wno-maybe-uninitialized>)
endif()
find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# Hundreds of test programs are linked: gold needs half the time of the default linker.
if(NOT CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    include(CheckLinkerFlag)
    check_linker_flag(C -fuse-ld=gold BERTH_HAVE_GOLD)
    if(BERTH_HAVE_GOLD)
        target_link_options(berth_flags INTERFACE -fuse-ld=gold)
    endif()
endif()
