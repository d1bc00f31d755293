/* String → uint64 hash map: open addressing with linear probing, at most 3/4 full.
 *
 * Owns copies of the keys (one arena). Keys come from files that strangers wrote, so the hash is
 * SipHash-1-3 (Aumasson & Bernstein 2012) under a key drawn once per process: nobody can prepare a
 * million names that collide. The order of slots is never visible, so results stay deterministic.
 */
#include "base/map.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/banned.h"

struct map_slot {
    const char *key; /* NULL = free */
    size_t key_len;
    uint64_t hash, value;
};

static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void draw_key(void)
{
    if (getrandom(sip_key, sizeof(sip_key), GRND_NONBLOCK) != (ssize_t)sizeof(sip_key)) {
        sip_key[0] = (uint64_t)clock_unix_ms();
        sip_key[1] = (uint64_t)(uintptr_t)&sip_key;
    }
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

static uint64_t sip_hash(const char *key, size_t n)
{
    pthread_once(&sip_once, draw_key);
    uint64_t v[4] = {0x736f6d6570736575u ^ sip_key[0], 0x646f72616e646f6du ^ sip_key[1],
                     0x6c7967656e657261u ^ sip_key[0], 0x7465646279746573u ^ sip_key[1]};
    uint64_t word;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, key + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    if (n > i)
        memcpy(&word, key + i, n - i);
    word |= (uint64_t)n << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot that holds the key, or the free slot where it belongs. Needs a free slot to exist. */
static struct map_slot *find(const struct map *m, const char *key, size_t n, uint64_t hash)
{
    size_t i = (size_t)hash & (m->capacity - 1);
    for (;; i = (i + 1) & (m->capacity - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->key ||
            (s->hash == hash && s->key_len == n && (n == 0 || memcmp(s->key, key, n) == 0)))
            return s;
    }
}

static void grow(struct map *m)
{
    struct map old = *m;
    m->capacity = old.capacity ? old.capacity * 2 : 16;
    m->slots = xcalloc(m->capacity, sizeof(*m->slots));
    for (size_t i = 0; i < old.capacity; i++) {
        const struct map_slot *s = &old.slots[i];
        if (s->key)
            *find(m, s->key, s->key_len, s->hash) = *s;
    }
    xfree(old.slots);
}

/* The slot of a key, made when absent; *fresh tells which. */
static struct map_slot *claim(struct map *m, const char *key, size_t n, bool *fresh)
{
    if (m->count >= m->capacity / 4 * 3)
        grow(m);
    uint64_t hash = sip_hash(key, n);
    struct map_slot *s = find(m, key, n, hash);
    *fresh = !s->key;
    if (*fresh) {
        char *copy = arena_alloc(&m->keys, n + 1); /* by length: keys may hold NUL bytes */
        if (n > 0)
            memcpy(copy, key, n);
        *s = (struct map_slot){.key = copy, .key_len = n, .hash = hash};
        m->count++;
    }
    return s;
}

bool map_add(struct map *m, const char *key, size_t key_len, uint64_t value)
{
    bool fresh;
    struct map_slot *s = claim(m, key, key_len, &fresh);
    if (fresh)
        s->value = value;
    return fresh;
}

void map_set(struct map *m, const char *key, size_t key_len, uint64_t value)
{
    bool fresh;
    claim(m, key, key_len, &fresh)->value = value;
}

bool map_get(const struct map *m, const char *key, size_t key_len, uint64_t *value)
{
    if (m->count == 0)
        return false;
    const struct map_slot *s = find(m, key, key_len, sip_hash(key, key_len));
    if (s->key && value)
        *value = s->value;
    return s->key != NULL;
}

bool map_get_str(const struct map *m, const char *key, uint64_t *value)
{
    return map_get(m, key, strlen(key), value);
}

void map_release(struct map *m)
{
    xfree(m->slots);
    arena_release(&m->keys);
    *m = (struct map){0};
}
