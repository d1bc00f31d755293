/* Deterministic random numbers: xoshiro256** and splitmix64 (Blackman & Vigna 2018, public domain
 * reference at prng.di.unimi.it), and ULID-shaped names for runs.
 *
 * The same seed gives the same stream on every machine. Normal variates therefore use their own
 * logarithm: libm's may differ in the last bit between versions and between CPUs with and without
 * FMA; sqrt is correctly rounded everywhere. Only rng_id looks at the clock and the system's
 * entropy.
 */
#include "base/rng.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/banned.h"

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

uint64_t rng_next(struct rng *r)
{
    uint64_t result = rotate(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotate(r->s[3], 45);
    return result;
}

double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
    if (bound < 2)
        return 0;
    /* Reject the first 2^64 mod bound values: the rest divides evenly. */
    uint64_t first = (0 - bound) % bound, x;
    do
        x = rng_next(r);
    while (x < first);
    return x % bound;
}

/* ln(x) for normal x > 0: x = m·2^k with m in [1/√2, √2), ln m = 2·atanh((m−1)/(m+1)) by its
 * series. */
static double natural_log(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752) {
        m *= 2;
        k--;
    }
    double t = (m - 1) / (m + 1), t2 = t * t, power = t, sum = t;
    for (int i = 3; i <= 25; i += 2) {
        power *= t2;
        sum += power / i;
    }
    return 2 * sum + k * 0.69314718055994531;
}

double rng_normal(struct rng *r)
{
    /* Marsaglia's polar method. The second variate is thrown away: the state stays four words. */
    for (;;) {
        double u = 2 * rng_unit(r) - 1, v = 2 * rng_unit(r) - 1, s = u * u + v * v;
        if (s > 0 && s < 1)
            return u * sqrt(-2 * natural_log(s) / s);
    }
}

static pthread_mutex_t id_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t id_last_ms;
static unsigned char id_random[10];

/* The next 16 id bytes: 6 of time, 10 random; within one millisecond the random part counts up. */
static void id_bytes(unsigned char bytes[16])
{
    pthread_mutex_lock(&id_lock);
    uint64_t ms = (uint64_t)clock_unix_ms();
    if (ms > id_last_ms) {
        id_last_ms = ms;
        if (getrandom(id_random, sizeof(id_random), 0) != (ssize_t)sizeof(id_random)) {
            uint64_t seed = ms ^ (uint64_t)getpid() << 40, a = splitmix(&seed);
            memcpy(id_random, &a, sizeof(a));
        }
        id_random[0] &= 0x7f; /* room to count up */
    } else {
        for (int i = 9; i >= 0 && ++id_random[i] == 0; i--)
            continue;
    }
    for (int i = 0; i < 6; i++)
        bytes[i] = (unsigned char)(id_last_ms >> (40 - 8 * i));
    memcpy(bytes + 6, id_random, sizeof(id_random));
    pthread_mutex_unlock(&id_lock);
}

void rng_id(char id[static 27])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */
    unsigned char bytes[16];
    id_bytes(bytes);
    /* 128 bits are 26 digits of 5 bits with two zero bits in front. */
    for (int i = 0; i < 26; i++) {
        unsigned value = 0;
        for (int bit = i * 5 - 2; bit < i * 5 + 3; bit++) {
            unsigned byte = bit < 0 ? 0 : bytes[bit / 8];
            unsigned set = byte >> ((7 - bit) & 7) & 1u;
            value = value << 1 | set;
        }
        id[i] = digits[value];
    }
    id[26] = 0;
}
