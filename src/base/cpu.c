/* Instruction sets: asked of the CPU once per process. Owns nothing but that answer. */
#include "base/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

static bool avx2;
static pthread_once_t asked = PTHREAD_ONCE_INIT;

static void ask(void)
{
    const char *wish = getenv("SINTRA_CPU");
    if (wish && strcmp(wish, "baseline") == 0)
        return;
#ifdef __x86_64__
    avx2 = __builtin_cpu_supports("avx2") != 0;
#endif
}

bool cpu_has_avx2(void)
{
    pthread_once(&asked, ask);
    return avx2;
}
