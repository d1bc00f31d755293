/* propose(history) → recipe. Knows nothing of tensors: groups are rows with bytes and predicted KL
 * per type.
 *
 * The built-in proposer: first the stock mixes that can fit, best first; then the additive optimum
 * of a multi-choice knapsack (groups × types, exact bytes) under the byte limit; then, trial by
 * trial, the optimum under sensitivities corrected by what was measured, and single groups moved up
 * or down a type around the best measured candidate, until nothing helps, targets are met or the
 * budget is spent; where the limit is low, also without some blocks (drops.c). With only an
 * accuracy target the byte limit itself is searched; without targets
 * a ladder of limits is measured, which is the Pareto front.
 * To write another proposer: fill struct proposer; `next` must depend on its arguments alone, so
 * that a resumed run goes the same way. */
#ifndef SEARCH_SEARCH_H
#define SEARCH_SEARCH_H

#include "base/json.h"
#include "base/stat.h"
#include "measure/measure.h"
#include "probe/probe.h"
#include "recipe/recipe.h"

/* Constraints and goal. 0 = not asked. All that are asked must hold. */
struct targets {
    uint64_t size_max;   /* bytes of the file */
    double bpw_max;      /* file bytes*8/parameters */
    uint64_t memory_max; /* weights + KV + compute at context */
    uint32_t context;
    double tps_min;
    double latency_ms_max; /* time to first token */
    double accuracy_min;   /* top-1 agreement 0..1 */
};
bool targets_any(const struct targets *t);
/* Only accuracy is asked: the smallest candidate that has it is wanted. */
bool targets_accuracy_only(const struct targets *t);
/* Is speed or memory asked, so that every candidate's must be measured? */
bool targets_need_speed(const struct targets *t);
json_t *targets_json_new(const struct targets *t);
void targets_from_json(struct targets *t, const json_t *doc);
/* Does a measured candidate meet them? `why` (may be NULL) gets the first that fails as a
 * phrase. */
enum { TARGETS_WHY_MAX = 160 };
bool targets_met(const struct targets *t, uint64_t bytes, uint64_t parameters,
                 const struct score *s, char *why);
/* How far a candidate is from meeting them: Σ of log ratios over those that fail; 0 = met. */
double targets_distance(const struct targets *t, uint64_t bytes, uint64_t parameters,
                        const struct score *s);

/* One candidate that was tried, as search sees it. */
struct trial {
    char key[65]; /* trial_key of the recipe */
    struct recipe recipe;
    /* Per group, DT_NONE where it has no one type: its block is dropped; NULL for foreign recipes.
     * xfree. */
    enum dtype *group_types;
    uint64_t bytes;
    struct score score;
    double *window_kld; /* (n_windows) mean KL of each window, for paired comparison; xfree */
    size_t n_windows;
    double predicted_kld; /* NaN = none */
    double cache_kld;     /* what the types of its KV cache cost alone, part of its score */
    bool stock;
    bool failed;            /* could not be made or measured; never proposed again */
    const char *stock_name; /* static */
    char *reason;           /* why it was proposed; NULL = not known; xfree */
    char *error;            /* what went wrong when it failed; NULL = nothing; xfree */
};
struct trials {
    struct trial *items;
    size_t n, capacity;
};
void trial_release(struct trial *t);
void trials_release(struct trials *t);
/* Appends; what *t owns belongs to the list afterwards. */
void trials_add(struct trials *l, const struct trial *t);
/* SHA-256 of the recipe's canonical JSON. */
void trial_key(const struct recipe *r, char key[static 65]);
/* Paired difference a − b of the mean KL over the same windows; NaN without windows in common. */
struct stat_mean trial_paired(const struct trial *a, const struct trial *b);
/* Indices of the Pareto front over (bytes, kld_mean), ascending bytes; returns count. */
size_t trials_front(const struct trials *t, size_t *indices);
/* Best by the goal: lowest KL among those that meet all targets; with only an accuracy target the
 * smallest that meets it; without targets the knee of the front. −1 when none meets. */
int trials_best(const struct trials *t, const struct targets *targets, uint64_t parameters);
/* As trials_best, among the stock mixes. */
int trials_best_stock(const struct trials *t, const struct targets *targets, uint64_t parameters);
/* When none meets: the nearest, then the lowest KL. −1 when nothing was measured. */
int trials_nearest(const struct trials *t, const struct targets *targets, uint64_t parameters);

/* Multi-choice knapsack: one type per group, Σbytes ≤ limit, minimal Σ predicted KL. Exact where
 * the sizes have a common divisor that cuts the range into at most 2^16 steps (fewer for very many
 * groups), else sizes are rounded up to such a grid and a greedy pass spends the bytes that are
 * left. types (n_groups) out; kld and bytes may be NULL. ERR_INFEASIBLE when even the smallest does
 * not fit. */
int allocate(const struct probe_table *t, uint64_t bytes_limit, enum dtype *types, double *kld,
             uint64_t *bytes, struct err *e);
/* The whole frontier from one table of the same dynamic programme: the optimum for each of n byte
 * limits, which may come in any order. Each allocation's types are xfree'd by the caller; types
 * NULL = even the smallest does not fit that limit. */
struct allocation {
    enum dtype *types; /* (n_groups) */
    uint64_t bytes;
    double kld;
};
int allocate_frontier(const struct probe_table *t, const uint64_t *limits, size_t n,
                      struct allocation *out, struct err *e);

/* What a choice costs in time: milliseconds that each group takes in each type, per generated token
 * and until the first token of a prompt. Both (n_groups, SEARCH_TYPES), NaN = not known; NULL =
 * nothing is known. A maximum limits the Σ; 0 = no limit. */
enum { SEARCH_TYPES = 64 }; /* above every id of a type that a GGUF file has */
struct search_time {
    const double *ms;
    double ms_max;
    const double *first_ms;
    double first_max;
};
/* Is any time limited? */
bool search_time_limits(const struct search_time *s);
/* Does a choice keep what is limited? */
bool search_time_keeps(const struct search_time *s, const enum dtype *types, size_t n_groups);
/* Σ of a choice, DT_NONE taking no time; NaN when a type's is not known, or nothing is. */
double search_ms(const struct search_time *s, const enum dtype *types, size_t n_groups);
double search_first_ms(const struct search_time *s, const enum dtype *types, size_t n_groups);
/* As allocate under limits on time too: the exact knapsack over bytes with time priced by a
 * multiplier, the smallest that keeps the limit, then single and paired exchanges into what either
 * limit leaves. Where both times are limited and the one that binds does not keep the other, mixes
 * of both are limited instead. No limit is ever exceeded. ERR_INFEASIBLE when no choice within the
 * bytes is found that is fast enough, or none small enough. */
int allocate_within(const struct probe_table *t, const struct search_time *time,
                    uint64_t bytes_limit, enum dtype *types, struct err *e);
/* The fastest choice within the bytes, whatever its KL. */
int allocate_fastest(const struct probe_table *t, const struct search_time *time,
                     uint64_t bytes_limit, enum dtype *types, struct err *e);
uint64_t allocate_smallest(const struct probe_table *t);
uint64_t allocate_largest(const struct probe_table *t);
/* Σ predicted KL and bytes of a choice; NaN when a type is not in the table. */
double allocate_kld(const struct probe_table *t, const enum dtype *types);
uint64_t allocate_bytes(const struct probe_table *t, const enum dtype *types);

/* A KV cache that candidates may be run with: what it leaves for the file, and what it costs. */
struct search_cache {
    struct cache_types types;
    uint64_t bytes_limit; /* of the file beside it; UINT64_MAX = none */
    double kld;           /* of these types alone, on the search windows */
};
enum { SEARCH_CACHES_MAX = 4 };

/* Blocks that may be left out together, and what the file is without them. */
struct search_drop {
    const uint32_t *layers; /* (n_layers) ascending */
    size_t n_layers;
    const struct model_desc *desc; /* of what is left, its tensors in the order of the whole */
    uint64_t fixed_bytes;          /* of the file outside the groups that are left */
    double kld;                    /* of the unquantized model without them: measured as a set */
};

struct search_space {
    const struct model_desc *desc;
    const struct probe_groups *groups;
    const struct probe_table *table; /* NULL until probed: only stock mixes are proposed */
    bool have_importance;
    const char *feedback; /* what composed recipes say of error feedback, NULL = none */
    uint64_t fixed_bytes; /* of the file outside the groups: header, norms, padding */
    uint64_t bytes_limit; /* of the file, derived from targets; UINT64_MAX = none */
    struct targets targets;
    struct cache_types cache; /* of proposals, and their KL in cache_kld */
    double cache_kld;
    /* Where there is more than one to choose from: each stands for bytes_limit, cache and
     * cache_kld. The first is the one that nobody has to ask for. */
    struct search_cache caches[SEARCH_CACHES_MAX];
    int n_caches;
    struct search_time time;        /* on the device that is meant */
    const char *const *stock_names; /* mixes that may be proposed, NULL-terminated; NULL = all */
    int max_trials;                 /* of the search; stock mixes are not counted */
    bool rivals_only; /* without a target: no stock mixes but the rivals of the front's members */
    /* What a codebook type (IQ1, IQ2, IQ3) must save where no speed is asked: its KL counts this
     * much more, as CPUs decode it about half as fast as its neighbours. 1 (or 0) = nothing. */
    double codebook_handicap;
    /* Sets of blocks that candidates under a byte limit may lack, each larger than the one before;
     * none where the limit is not low. */
    const struct search_drop *drops;
    size_t n_drops;
};
struct proposal {
    struct recipe recipe;
    enum dtype *group_types; /* (n_groups) xfree */
    uint64_t bytes;          /* of the file, as search computes it */
    double predicted_kld;    /* NaN = none */
    double cache_kld;        /* the part of it that the KV cache has */
    const char *stock_name;  /* static, NULL = not stock */
    char reason[160];        /* why this one, for the log: "additive optimum at 4.13 MB" */
};
void proposal_release(struct proposal *p);
/* The interface every architect implements. next: 0 = a proposal, 1 = nothing more to try, −1 =
 * error. */
struct proposer {
    const char *name;
    int (*next)(void *ud, const struct search_space *space, const struct trials *history,
                struct proposal *p, struct err *e);
    void (*close)(void *ud);
    void *ud;
};
/* The built-in proposer; deterministic, stateless. */
void search_builtin(struct proposer *p);

/* The space with one of its caches. */
struct search_space search_with_cache(const struct search_space *s, int k);
/* Predicted KL of the best choice of types beside each cache, under a table corrected by the
 * history: NaN where the file that is left for is smaller than any. Returns the best cache, or -1
 * after an error: ERR_INFEASIBLE where all that is known is too large beside each. Needs s->table;
 * without caches there is nothing to choose: 0. */
int search_best_cache(const struct search_space *s, const struct trials *history,
                      double kld[static SEARCH_CACHES_MAX], struct err *e);

/* What a file's KL is expected to have beside the sum over its groups, before any was measured: its
 * activations are quantized too. */
double search_floor(const struct probe_table *t);
/* The part of that which a choice of types (n_groups) has: beside weights in floats activations
 * stay floats. 0 to 1. */
double search_floor_share(const struct probe_table *t, const enum dtype *types);
/* A recipe that gives each group its type; everything else as the recipe's base has it. */
int search_recipe(struct recipe *r, const struct model_desc *d, const struct probe_groups *groups,
                  const enum dtype *types, struct err *e);
/* The same for what is left without some blocks, whose groups have DT_NONE. d and groups: of the
 * whole model. */
int search_recipe_without(struct recipe *r, const struct model_desc *d,
                          const struct probe_groups *groups, const enum dtype *types,
                          const struct search_drop *drop, struct err *e);
/* "block 5", "blocks 3, 5 and 6"; cut where it is longer. */
enum { SEARCH_BLOCKS_TEXT = 64 };
char *search_blocks_text(const uint32_t *layers, size_t n, char text[static SEARCH_BLOCKS_TEXT]);
/* A stock mix as this model has it: types per group (DT_NONE = members differ), file bytes, and the
 * KL the table predicts (NaN when it has no entry for some type). */
struct search_stock {
    const char *name;
    enum dtype *types; /* (n_groups), xfree */
    uint64_t bytes;
    double kld;
    double ms; /* per token, NaN = not known */
    double first_ms;
};
/* All quantizing mixes that the space allows, largest first. */
int search_stocks(const struct search_space *s, struct search_stock **list, size_t *n,
                  struct err *e);
void search_stocks_free(struct search_stock *list, size_t n);

#endif
