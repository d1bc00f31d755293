/* Sensitivities: how much KL divergence one tensor group costs when it alone is quantized.
 *
 * One tensor group at a time is replaced, in the memory of an engine in float mode, by its decoded
 * quantized values; the KL divergence to the original is measured and the originals are put back.
 * Within one group the KL is proportional to the encoder's importance-weighted squared error, and
 * groups add up in the medium-bit range, so one probe per set of groups and the encoder's error per
 * type predict every recipe (HIGGS linearity theorem, arXiv 2411.17525; measured on the sample
 * model in docs/metrics.md). Errors of types are taken on a sample of rows. A probe leaves out the
 * quantization of activations: predictions are for choosing, files are for scoring. */
#ifndef PROBE_PROBE_H
#define PROBE_PROBE_H

#include "base/stat.h"
#include "format/factors.h"
#include "format/imatrix.h"
#include "measure/measure.h"
#include "model/model.h"

/* A group is what gets one type: a tensor. Groups of one layer that read the same activations (q
 * and k, gate and up) are probed together, as a set, which saves a third of the probes; a set's KL
 * is split by the members' weighted errors, times what an error of the member counts (one of k
 * meets every query head that shares it). Only quantizable tensors are members. */
struct probe_group {
    char name[64]; /* "blk.3.attn_q", "token_embd" */
    int layer;
    enum model_role role; /* of the first member */
    size_t *tensors;      /* indices into desc->tensors */
    size_t n_tensors;
    uint64_t elements;
    size_t set;    /* which probe measures it */
    double weight; /* what its error counts in the set */
};
struct probe_groups {
    struct probe_group *items;
    size_t n, n_sets;
};
/* runs: 0 = each layer has sets of its own; else the layers between the first and the last are
 * probed in at most so many runs of neighbours, whose sets are joined: of a deep model every probe
 * costs a pass, and what an error costs changes little from one layer to the next. */
int probe_groups_make(struct probe_groups *g, const struct model_desc *d, int runs, struct err *e);
void probe_groups_release(struct probe_groups *g);

enum { PROBE_TYPES_MAX = 24 };

/* Part of the keys of stored sensitivities: changes with the sets, the split, the sampling of
 * rows. */
#define PROBE_VERSION "sets-5"

/* Result per group: weighted squared error of each type, its share of the set's measured KL at the
 * probe type, prediction for every type. */
struct sensitivity {
    double probe_kld, probe_kld_low, probe_kld_high;
    enum dtype probe_type;
    double error
        [PROBE_TYPES_MAX]; /* importance-weighted squared error on the sampled rows, per type */
    double
        kld[PROBE_TYPES_MAX]; /* predicted (measured for the probe type); NaN = type not possible */
    /* Of all members, after row-length fallback, padded as in a GGUF file; 0 = type not
     * possible. */
    uint64_t bytes[PROBE_TYPES_MAX];
    bool absent; /* of a block that is left out: costs nothing, has no type (search/drops.c) */
};
struct probe_table {
    enum dtype types[PROBE_TYPES_MAX];
    int n_types;
    struct sensitivity *groups; /* parallel to probe_groups */
    size_t n_groups;
    size_t probed, windows_read; /* of probe_run: sets that were not known, windows that took */
};
/* Bytes alone, no weights read: error, kld and probe_kld are NaN. Types that need an importance
 * matrix are not possible without one. */
int probe_table_sizes(struct probe_table *t, const struct model_desc *d,
                      const struct probe_groups *groups, const enum dtype *types, int n_types,
                      bool have_importance, struct err *e);
void probe_table_release(struct probe_table *t);

struct probe_job {
    const struct model *model;
    const struct probe_groups *groups;
    const struct imatrix *imatrix; /* NULL = plain errors */
    const struct factors *factors; /* encode with error feedback where it knows a tensor; or NULL */
    struct engine *engine;         /* float mode, original loaded */
    struct engine_windows windows; /* at most; a probe reads as many as its confidence needs */
    const struct measure_reference
        *reference; /* of these windows, or of more that begin with them */
    const enum dtype *types;
    int n_types;
    enum dtype probe_type; /* the one that is measured, e.g. DT_Q3_K; one of types */
    int threads;
    const struct progress *progress;
    /* Called after each group, so that the caller can store it, and once more where layers are
     * joined and their shares come out otherwise in the end; NULL = nobody. */
    void (*group_done)(void *ud, size_t group, const struct sensitivity *s);
    void *ud;
    /* Groups already known (resume): the KL of known[i] is taken instead of probed, and its errors
     * too where it has them for all types (NaN = has not). A set is probed when any member's entry
     * is NULL. NULL = none. */
    const struct sensitivity *const *known;
};
int probe_run(const struct probe_job *job, struct probe_table *t, struct err *e);
/* One group at one type on all windows, in memory (for comparisons with files). */
int probe_measure(const struct probe_job *job, size_t group, enum dtype type, struct stat_mean *kld,
                  struct err *e);
/* Changes with how the loss without blocks is measured. */
#define PROBE_DROP_VERSION "drop-1"
/* The model without blocks, in memory: their matrices into the residual stream are set to zero and
 * put back afterwards. Exact where probe_drop_obstacle finds nothing: it names a tensor of a block
 * for which that is not known, NULL = none. Types and groups of the job are not used. */
const char *probe_drop_obstacle(const struct model_desc *d);
int probe_drop(const struct probe_job *job, const uint32_t *layers, size_t n, struct stat_mean *kld,
               size_t *windows, struct err *e);
/* A group's sensitivity as a document, by type names. It reads back into a table of other types,
 * whose error and KL are then NaN. */
json_t *sensitivity_json_new(const struct sensitivity *s, const struct probe_table *t);
int sensitivity_from_json(struct sensitivity *s, const struct probe_table *t, const json_t *doc,
                          struct err *e);

#endif
