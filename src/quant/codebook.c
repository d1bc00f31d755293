/* Builds the nearest-entry lists of codebook_int.h, once per type, on first use. */
#include "quant/codebook_int.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"

#include "base/banned.h"

struct book {
    enum dtype type;
    const uint16_t *grid;
    int n_grid, bits, shells; /* shells: distinct distances in a list */
    struct codebook made;
    pthread_mutex_t lock;
    int ready;
};

#define BOOK(t, g, b, s)                                                                           \
    {                                                                                              \
        .type = (t), .grid = (g), .n_grid = sizeof(g) / sizeof *(g), .bits = (b), .shells = (s),   \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }
static struct book books[] = {
    BOOK(DT_IQ2_XXS, codebook_grid_iq2_xxs, 2, 2), BOOK(DT_IQ2_XS, codebook_grid_iq2_xs, 2, 2),
    BOOK(DT_IQ2_S, codebook_grid_iq2_s, 2, 1),     BOOK(DT_IQ3_XXS, codebook_grid_iq3_xxs, 3, 2),
    BOOK(DT_IQ3_S, codebook_grid_iq3_s, 3, 3),     BOOK(DT_IQ1_S, codebook_grid_iq1, 2, 3),
};
#undef BOOK

static struct book *book_of(enum dtype type)
{
    if (type == DT_IQ1_M) /* shares its codebook */
        type = DT_IQ1_S;
    for (size_t i = 0; i < sizeof books / sizeof *books; i++)
        if (books[i].type == type)
            return &books[i];
    return NULL;
}

/* Squared distance between two packed half points, in units of half a lattice step squared; levels
 * are 2·level + 1. */
static int half_distance(unsigned a, unsigned b, int bits, int dims)
{
    int sum = 0;
    for (int i = 0; i < dims; i++) {
        int x = (int)(a >> (bits * i)) & ((1 << bits) - 1);
        int y = (int)(b >> (bits * i)) & ((1 << bits) - 1);
        sum += 4 * (x - y) * (x - y);
    }
    return sum;
}

struct builder {
    struct book *book;
    int dims, levels;
    unsigned half_bits, half_mask;
    uint16_t *half; /* [a << half_bits | b]: distances of half points */
    uint16_t distance[2048];
    uint16_t *lists;
    size_t n, capacity;
};

static void builder_halves(struct builder *b)
{
    int half = b->dims / 2;
    unsigned size = 1u << b->half_bits;
    for (unsigned p = 0; p < size; p++)
        for (unsigned q = 0; q < size; q++)
            b->half[p << b->half_bits | q] = (uint16_t)half_distance(p, q, b->book->bits, half);
}

static int point_reachable(unsigned code, int bits, int dims, int levels)
{
    for (int i = 0; i < dims; i++)
        if ((int)((code >> (bits * i)) & ((1u << bits) - 1)) >= levels)
            return 0;
    return 1;
}

/* The smallest distance greater than `after`, or −1. */
static int next_distance(const uint16_t *distance, int n, int after)
{
    int next = INT32_MAX;
    for (int i = 0; i < n; i++)
        if (distance[i] > after && distance[i] < next)
            next = distance[i];
    return next == INT32_MAX ? -1 : next;
}

static void list_add(struct builder *b, uint16_t value)
{
    b->lists = xgrow(b->lists, &b->capacity, b->n + 1, sizeof *b->lists);
    b->lists[b->n++] = value;
}

/* Appends the list of one point; returns its offset. */
static size_t list_make(struct builder *b, unsigned code)
{
    const struct book *book = b->book;
    unsigned low = (code & b->half_mask) << b->half_bits;
    unsigned high = code >> b->half_bits << b->half_bits;
    for (int i = 0; i < book->n_grid; i++) {
        unsigned g = book->grid[i];
        b->distance[i] =
            (uint16_t)(b->half[low | (g & b->half_mask)] + b->half[high | g >> b->half_bits]);
    }
    size_t offset = b->n;
    list_add(b, 0);
    int d = -1;
    for (int shell = 0; shell < book->shells; shell++) {
        d = next_distance(b->distance, book->n_grid, d);
        if (d < 0)
            break;
        for (int i = 0; i < book->n_grid; i++)
            if (b->distance[i] == d)
                list_add(b, book->grid[i]);
    }
    b->lists[offset] = (uint16_t)(b->n - offset - 1);
    while ((b->n - offset) % CODEBOOK_GROUP)
        list_add(b, b->lists[offset + 1]);
    return offset;
}

static void book_build(struct book *book)
{
    struct builder b = {.book = book, .dims = book->bits == 2 ? 8 : 4};
    b.levels = book->bits == 2 ? 3 : 8;
    b.half_bits = (unsigned)(book->bits * b.dims / 2);
    b.half_mask = (1u << b.half_bits) - 1;
    b.half = xreallocarray(NULL, (size_t)1 << (2 * b.half_bits), sizeof *b.half);
    builder_halves(&b);
    unsigned size = 1u << (2 * b.half_bits);
    int32_t *index = xreallocarray(NULL, size, sizeof *index);
    memset(index, 0, size * sizeof *index);
    for (unsigned code = 0; code < size; code++)
        if (point_reachable(code, book->bits, b.dims, b.levels))
            index[code] = -1;
    for (int i = 0; i < book->n_grid; i++)
        index[book->grid[i]] = i;
    for (int i = 0; i < CODEBOOK_GROUP; i++)
        list_add(&b, 0);
    for (unsigned code = 0; code < size; code++)
        if (index[code] < 0)
            index[code] = -1 - (int32_t)list_make(&b, code);
    for (int i = 0; i < CODEBOOK_SLACK; i++)
        list_add(&b, 0);
    xfree(b.half);
    book->made = (struct codebook){.bits = book->bits,
                                   .dims = b.dims,
                                   .levels = b.levels,
                                   .grid = book->grid,
                                   .n_grid = book->n_grid,
                                   .index = index,
                                   .lists = b.lists};
}

void codebook_prepare(enum dtype type)
{
    struct book *book = book_of(type);
    if (book == NULL)
        return;
    pthread_mutex_lock(&book->lock);
    if (!book->ready)
        book_build(book);
    book->ready = 1;
    pthread_mutex_unlock(&book->lock);
}

const struct codebook *codebook_get(enum dtype type)
{
    struct book *book = book_of(type);
    return book != NULL && book->ready ? &book->made : NULL;
}
