/* Instruction sets beyond the baseline that our own loops may use.
 *
 * The environment variable SINTRA_CPU=baseline hides them all, so that every variant of a loop can
 * be tested on one machine and a suspicious result can be computed again the plain way. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stdbool.h>

bool cpu_has_avx2(void); /* false on other architectures */

/* A function that is compiled for several processors, one of which is chosen when the program is
 * loaded: for loops over the compiler's own vectors, whose results do not depend on the choice. The
 * choosing runs before the address sanitizer is ready. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CPU_CLONES
#endif

#endif
