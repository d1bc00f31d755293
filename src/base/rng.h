/* Deterministic random numbers: xoshiro256** seeded by splitmix64 (Blackman & Vigna). Same stream
 * everywhere; never used for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);                    /* [0,1), 53 bits */
uint64_t rng_below(struct rng *r, uint64_t bound); /* [0,bound), unbiased */
double rng_normal(struct rng *r);
/* 26 lower-case characters: 48-bit milliseconds then random, sortable by time (ULID layout). */
void rng_id(char id[static 27]);

#endif
