/* Instruction sets beyond the baseline that our own loops may use.
 *
 * The environment variable SINTRA_CPU=baseline hides them all, so that every variant of a loop can
 * be tested on one machine and a suspicious result can be computed again the plain way. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stdbool.h>

bool cpu_has_avx2(void); /* false on other architectures */

#endif
