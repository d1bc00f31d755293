/* Private to run/: one run as a struct, and the parts of the loop that work on it.
 *
 *   settings.c  what was asked, as a value that is stored and read back
 *   target.c    targets and presets → limits; what arithmetic proves infeasible
 *   cache.c     types of the KV cache, where a memory target leaves them open
 *   speed.c     milliseconds per token of each type on the device
 *   subject.c   the model as the loop sees it: groups, types, exact sizes
 *   blocks.c   blocks that candidates may lack
 *   record.c    rows and events: what survives a kill, and what a listener hears
 *   stage.c     stages, their share of the time, progress over all
 *   trial.c     one candidate: made, measured, recorded; scores.c what of that was known
 *   loop.c      stock mixes and search, until the proposer has nothing more
 *   final.c     held-out windows, the winner
 *   deliver.c   the result folder
 *   sense.c     sensitivities alone, and what they let expect
 *   plan.c      what would be done, by arithmetic alone
 *   contest.c   several models for one target; contest_kept.c what is kept of that
 *   history.c   what earlier runs measured
 *   report.c    the result document; tried.c its part that explains the choice
 *   markdown.c  the document for people; page.c the same as a web page, plot.c and heat.c its
 *               pictures
 *   real.c, text.c, mock.c   the world: files and workers, or a simulation of them
 */
#ifndef RUN_RUN_INT_H
#define RUN_RUN_INT_H

#include "bake/bake.h"
#include "base/buf.h"
#include "run/run.h"

/* ---- settings.c ---- */

struct settings {
    char *model_path; /* NULL only for a mock without a model */
    char *out_dir, *home, *corpus, *preset;
    uint64_t corpus_bytes;      /* of the beginning of the corpus; 0 = all of it */
    bool sibling_sensitivities; /* may those of a sibling be used? */
    size_t tokens;
    uint64_t seed;
    struct targets asked;   /* as given */
    struct targets targets; /* with what the preset adds */
    /* fast: composed candidates are rounded to the nearest; normal: with error feedback within
     * spans of columns; max: within whole rows. */
    char *effort;
    int max_iters;
    double budget_minutes;
    int threads, gpu_layers;
    struct cache_types cache; /* when cache_fixed */
    bool cache_fixed;
    bool mock, has_profile;
    struct hw_profile profile; /* own copy */
    char *contest;             /* that the run is a part of, NULL = none */
};
int settings_init(struct settings *s, const struct run_config *c, struct err *e);
json_t *settings_json_new(const struct settings *s);
int settings_parse(struct settings *s, const char *home, const char *config, struct err *e);
void settings_release(struct settings *s);

struct preset {
    const char *name, *what; /* what: a sentence for people */
    uint32_t context;
    double accuracy_min;    /* 0 = none */
    const char *size_of;    /* byte limit: the exact size of this stock mix; NULL = none */
    const enum dtype *only; /* types allowed, ended by DT_NONE; NULL = all */
};
const struct preset *preset_find(const char *name); /* NULL: unknown */
const struct preset *preset_at(int i);              /* NULL ends */

/* ---- subject.c ---- */

/* How much text is read, by the model's size. */
struct scale {
    uint32_t n_ctx;
    size_t calibration, search, final; /* windows */
    size_t probe;                      /* of the search windows, the first ones */
    size_t search_read;                /* of the search windows, by candidates */
    size_t front;          /* of the final windows, for members of a front that nobody recommends */
    uint32_t search_first; /* first scored position of a search window */
    bool large;            /* a pass over some text takes minutes */
    int runs;              /* of neighbouring layers that are probed together; 0 = none */
};

struct subject {
    struct model *model; /* NULL for a mock without a model */
    const struct model_desc *desc;
    struct model_desc *own_desc; /* the mock's */
    char sha256[65];
    uint64_t source_bytes;
    struct probe_groups groups;
    enum dtype types[PROBE_TYPES_MAX];
    int n_types;
    struct probe_table sizes; /* of all types; no KL */
    uint64_t fixed_bytes;     /* of the file outside the groups */
    const char **stock_names; /* allowed mixes, NULL-terminated; NULL = all */
    struct scale scale;
};
int subject_open(struct subject *m, const struct settings *s, struct err *e);
void subject_release(struct subject *m);
/* Types for the search under a byte limit of the file: the smallest ones only where they are
 * needed. */
void subject_choose_types(struct subject *m, const struct settings *s, uint64_t bytes_limit);
/* Exact file size of a recipe, made with an importance matrix (imatrix NULL: one entry per
 * tensor). */
int subject_file_bytes(const struct subject *m, const struct recipe *r,
                       const struct imatrix *imatrix, const char *dataset, uint64_t *bytes,
                       struct err *e);
/* The same of what the groups do not account for, which is alike for all recipes. Needs model, desc
 * and groups. */
int subject_fixed_bytes(const struct subject *m, const struct imatrix *imatrix, const char *dataset,
                        uint64_t *bytes, struct err *e);
/* Name of the dataset in an importance matrix made from this corpus. */
const char *subject_dataset(const struct settings *s);
enum { CALIBRATION_CHUNK_TOKENS = 512 };

/* ---- speed.c ---- */

enum speed_source { SPEED_GUESS, SPEED_BANDWIDTH, SPEED_PROFILE, SPEED_MEASURED };

/* token ms = factor * (max(sum over groups of ms[group][type], least_ms) + overhead_ms)
 * first token ms = first_factor * (sum over groups of first_ms[group][type] + first_overhead_ms)
 */
struct speed {
    enum speed_source source;
    double *ms;       /* (n_groups, SEARCH_TYPES), NaN = not known; NULL = nothing is known */
    double *first_ms; /* the same for a prompt of speed_prompt tokens */
    double overhead_ms, least_ms, factor, first_overhead_ms, first_factor;
    struct hw_kernels kernels; /* of SPEED_MEASURED */
};
struct run;
/* For the device of r->set and the subject; measures the kernels of this machine when a speed is
 * asked and r->store does not have them. */
int speed_init(struct run *r, struct err *e);
void speed_release(struct speed *s);
/* Of reading the weights alone; NaN = not known. types: (n_groups). */
double speed_read_ms(const struct speed *s, const struct subject *m, const enum dtype *types);
/* Predicted tokens per second; 0 = cannot be predicted. */
double speed_tps(const struct speed *s, const struct subject *m, const enum dtype *types);
/* Of the time to the first token, in matrices; NaN = not known. */
double speed_first_read_ms(const struct speed *s, const struct subject *m, const enum dtype *types);
/* Predicted milliseconds to the first token; 0 = cannot be predicted. */
double speed_first_ms(const struct speed *s, const struct subject *m, const enum dtype *types);
/* Tokens of the prompt whose first token's time is meant. */
enum { PROMPT_TOKENS = 128 };
int speed_prompt(uint32_t context);
double speed_prefill_tps(const struct speed *s, const struct subject *m, const enum dtype *types);
const char *speed_source_name(const struct speed *s);
/* Keeps how measured and predicted speeds of this run's candidates differ, for later runs. */
void speed_remember(const struct run *r);

/* ---- target.c ---- */

/* A KV cache that candidates may be run with. */
struct cache_choice {
    struct cache_types types;
    uint64_t kv_bytes;      /* at the context of the targets */
    uint64_t compute_bytes; /* measured beside it, or 0 before that */
    uint64_t memory_bytes;  /* what it leaves for the file; UINT64_MAX = no limit */
    bool fits;              /* the smallest file, beside it */
    bool useful;            /* a larger cache would leave less for the file */
    double kld;             /* of the types alone, on the search windows; NaN = not measured */
};

struct limits {
    uint64_t bytes_max;    /* of the file, by size and memory; UINT64_MAX = none */
    uint64_t size_bytes;   /* by size and bits per weight; UINT64_MAX = none */
    uint64_t memory_bytes; /* by memory at context, beside the smallest cache */
    /* The default or fixed one first, then ever smaller ones. */
    struct cache_choice caches[SEARCH_CACHES_MAX];
    int n_caches;
    double ms_max;    /* by tokens/s: what reading the weights may take per token; 0 = no limit */
    double first_max; /* by the time to the first token: what the matrices may take of it */
    uint64_t speed_bytes; /* what a file of the fastest type may have then; UINT64_MAX = no limit */
    uint64_t smallest_bytes; /* the smallest file that the types can make */
    bool speed_predicted;    /* from a profile, not measured: nothing here corrects it */
    uint32_t context;
    double bandwidth_gbs; /* that was reckoned with; 0 = none */
};
/* What is known before any candidate was measured. hw may lack a bandwidth. */
int limits_init(struct limits *l, const struct settings *s, const struct subject *m,
                const struct hw *hw, const struct speed *speed, struct err *e);
/* 0 = may be feasible; 1 = proven infeasible: sentence and hint say why. */
int limits_infeasible(const struct limits *l, const struct settings *s, const struct subject *m,
                      const struct hw *hw, char sentence[static ERR_MESSAGE_MAX],
                      char hint[static ERR_HINT_MAX]);
/* Bytes of weights that one decoded token reads: the file without an embedding that is only looked
 * up. */
uint64_t bytes_per_token(const struct subject *m, uint64_t file_bytes);
/* Corrects the limits by what trials measured: compute buffers, and the line of measured ms per
 * token over those of the table. */
void limits_learn(struct limits *l, const struct settings *s, const struct subject *m,
                  const struct speed *speed, const struct trials *t);
json_t *limits_json_new(const struct limits *l);

/* ---- cache.c ---- */

struct run;
struct outcome;
json_t *cache_json_new(struct cache_types t);                   /* {"k","v"}; new reference */
bool cache_from_json(struct cache_types *t, const json_t *doc); /* false: not such an object */
/* The choices that settings and model leave; l->context must be set. */
int caches_init(struct limits *l, const struct settings *s, const struct subject *m, struct err *e);
/* Those of the space: what is measured and leaves room for a file. */
void caches_space(const struct run *r, struct search_space *s);
/* KL of a choice from the store, under the prefix of its sensitivities. */
bool caches_recall(const struct run *r, const char *prefix, struct cache_choice *c);
void caches_remember(const struct run *r, const char *prefix, const struct cache_choice *c,
                     const struct score *s, double seconds);
/* What was chosen and what the others would have cost, for the document; after the final. */
json_t *caches_json_new(const struct run *r, const struct outcome *o);
/* How many times faster the simulated machine reads a prompt than it writes. */
#define MOCK_PREFILL_FACTOR 20.0

/* ---- the world ---- */

enum run_set { SET_SEARCH, SET_FINAL, SET_FRONT /* the first of the final windows */ };

struct baked {
    uint64_t bytes;
    char sha256[65];
    double seconds;
};

struct run;

/* What the loop asks of the world. real.c answers with files and workers, mock.c simulates.
 * Everything is called from one thread, in the order prepare, probe, bake/quality/speed, ...,
 * close. */
struct world {
    const char *name;
    /* Original, text, importance matrix, reference of the search windows. */
    int (*prepare)(struct run *r, struct err *e);
    /* Fills r->table. */
    int (*probe)(struct run *r, struct err *e);
    int (*bake)(struct run *r, const struct recipe *recipe, const char *path, struct baked *b,
                struct err *e);
    /* Quality of a candidate on a set of windows; the set's reference is made when first asked
     * for. */
    int (*quality)(struct run *r, const struct trial *t, const char *path, enum run_set set,
                   struct score *s, struct err *e);
    /* All but the file that a score on a set depends on; false: none is kept. May be NULL. */
    bool (*score_key)(struct run *r, enum run_set set, char text[static 512]);
    /* Adds speed and memory to a score. */
    int (*speed)(struct run *r, const struct trial *t, const char *path, struct score *s,
                 struct err *e);
    /* Loads the delivered file and lets it write: text to xfree. */
    int (*generate)(struct run *r, const struct trial *t, const char *path, char **text,
                    struct err *e);
    /* The longest context, in steps of libllama's and up to `most`, whose memory the file keeps
     * within memory_max; 0 = not even the shortest. */
    int (*longest)(struct run *r, const struct trial *t, const char *path, uint64_t memory_max,
                   uint32_t most, uint32_t *context, struct err *e);
    void (*close)(struct run *r);
};
extern const struct world world_real, world_mock;

/* ---- one run ---- */

enum stage {
    STAGE_PLAN,
    STAGE_ORIGINAL,
    STAGE_TEXT,
    STAGE_IMPORTANCE,
    STAGE_REFERENCE,
    STAGE_PROBES,
    STAGE_STOCK,
    STAGE_SEARCH,
    STAGE_FINAL,
    STAGE_DELIVERY,
    STAGES
};

struct stages {
    double expected[STAGES]; /* seconds, a guess that sets the shares of the bar */
    double spent[STAGES];
    enum stage now;
    double entered;           /* clock */
    double share;             /* of the current stage, 0..1 */
    struct progress progress; /* for the modules below: their progress becomes a part of ours */
    const struct progress *out;
};

/* A finalist: a trial scored on held-out windows, with speed. */
struct finalist {
    size_t trial; /* index into trials */
    struct score score;
    double *window_kld;
    size_t n_windows;
    bool predicted_speed;
};
struct finalists {
    struct finalist *items;
    size_t n, capacity;
};

/* ---- blocks.c ---- */

/* Sets of blocks that candidates may lack; each has one more than that before. */
struct blocks {
    uint64_t limit; /* of the file, before anything was measured; UINT64_MAX = it is not low */
    struct search_drop *items;
    uint32_t **layers;     /* of the items */
    struct model **models; /* what is left, for the items' descriptions */
    size_t n;
};
/* What bake needs of the model without the blocks that a recipe drops. */
struct cut {
    struct model *model;
    struct imatrix imatrix;
    struct factors factors; /* borrows from the run's */
};
int cut_open(struct cut *c, const struct run *r, const struct recipe *recipe, struct err *e);
void cut_close(struct cut *c);
/* Is the limit so low that blocks may be left out? Before anything is measured, so that a resumed
 * run answers alike. */
void blocks_consider(struct run *r);
/* Fills r->blocks, when it may, by measuring; a note says what was found. job: of the probes, its
 * engine holding the original; text: hash of its windows. */
int blocks_find(struct run *r, const struct probe_job *job, const char *text, struct err *e);
void blocks_release(struct blocks *b);
/* At most so many bytes has the smallest file that lacks as many blocks as may be left out. */
uint64_t blocks_least(const struct subject *m);

struct run {
    struct settings set;
    struct subject subject;
    struct limits limits;
    struct speed speed;
    struct hw hw;
    struct store *store;
    const struct run_listener *listener;
    char id[27];
    char *folder;     /* HOME/runs/<id> */
    char *candidates; /* HOME/runs/<id>/candidates */
    char *cache;      /* HOME/cache/<sha256 of the model> */
    int64_t started_ms;
    double began, before; /* clock at start of this process's part; seconds of earlier parts */
    struct stages stages;
    struct imatrix imatrix;
    bool have_imatrix;
    char *imatrix_path;
    struct factors factors; /* of error feedback, when settings ask for it */
    bool have_factors;
    struct probe_table table;
    bool have_table;
    char table_feedback[65]; /* of a recalled table: the factors it supposes, "" = none */
    struct {
        int own, sibling;   /* sensitivities that were known */
        char *sibling_name; /* whose the latter are */
        size_t blocks;      /* sets of blocks whose loss was known */
        size_t scores;      /* of files, that were known */
        double scores_seconds;
        double seconds; /* that they took when they were measured */
    } history;
    struct blocks blocks;
    struct trials trials;
    char (*file_sha256)[65]; /* per trial, of its file; grows with trials */
    size_t file_sha256_capacity;
    struct finalists finals;
    int child_failures; /* in a row */
    int evaluations;    /* measurements of quality that this run has on record */
    int repeated;       /* trials taken from rows of an earlier part of the run */
    json_t *windows;    /* which text was used for what; for the report */
    char corpus_sha256[65];
    json_t *notes; /* sentences for the report */
    const struct world *world;
    void *world_data;
};

/* ---- stage.c ---- */

void stages_init(struct stages *s, const struct progress *out);
/* Guesses seconds from the model's size and the text's length. */
void stages_expect(struct run *r);
void stage_enter(struct run *r, enum stage stage);
void stage_leave(struct run *r);
/* Share of the current stage that is done, when no module below reports it. */
void stage_progress(struct run *r, double done, double total, const char *detail);
const char *stage_name(enum stage stage);
json_t *stages_json_new(const struct stages *s);

/* ---- record.c ---- */

/* All three store the event and tell the listener. event steals doc; say is for the moment, a note
 * is part of the report too. */
void run_event(struct run *r, const char *kind, json_t *doc);
void run_say(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void run_note(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads finished trials and finalists of an earlier part of this run. */
int record_load(struct run *r, struct err *e);
json_t *record_extra_new(const struct run *r, const struct trial *t, const char *sha256);
json_t *window_means_json_new(const double *kld, size_t n);

/* ---- scores.c ---- */

/* Quality of a candidate's file, of this hash, on a set: known from before, or measured and kept.
 * *windows (n): mean KL of each; xfree. */
int score_quality(struct run *r, const struct trial *t, const char *path, const char *sha256,
                  enum run_set set, struct score *s, double **windows, size_t *n, struct err *e);
/* Tells how many were known, if any. */
void scores_note(struct run *r);

/* ---- trial.c ---- */

/* Makes and measures a proposal and appends it to r->trials, failed or not. -1 only where the run
 * cannot go on: interrupted, disk full, three workers lost in a row. The proposal is consumed. */
int trial_run(struct run *r, struct proposal *p, struct err *e);
/* Path of a trial's file, made anew when it was cleared away. xfree. */
char *trial_file(struct run *r, size_t trial, struct err *e);
/* Removes candidate files that nothing can need any more. */
void trials_prune_files(struct run *r);
/* Mean of each window of a score with per-position values; xfree. */
double *window_means(const struct score *s, size_t *n);
/* Did a worker die, hang or run out of memory? */
bool error_is_of_worker(const struct err *e);
/* Is the error one of a worker or a candidate, so that the run can go on without it? */
bool error_is_of_trial(const struct err *e);

/* ---- loop.c ---- */

int run_stock_and_search(struct run *r, struct err *e);
void run_space(const struct run *r, struct search_space *s);
double run_elapsed(const struct run *r);

/* ---- final.c ---- */

struct outcome {
    int best;  /* index into finals.items; -1 = nothing was measured */
    int stock; /* best stock mix under the same constraint, -1 = none */
    bool met;
    char why[TARGETS_WHY_MAX]; /* when not met */
    struct stat_mean
        paired;      /* best - stock, KL per position, held-out windows; clusters 0 = none */
    char *file_name; /* of the delivered GGUF, xfree */
    char sha256[65];
    uint64_t bytes;
    uint32_t longest_context, context_most; /* that fits the memory target; of those looked at */
    char *text;                             /* what the delivered file wrote, xfree */
};
int final_run(struct run *r, struct outcome *o, struct err *e);
void outcome_release(struct outcome *o);
/* Finalists in the order in which they may be delivered: the winner, then what comes after it. */
void final_order(const struct run *r, const struct outcome *o, int *order, size_t *n);
struct stat_mean final_paired(const struct finalist *a, const struct finalist *b);

/* ---- deliver.c ---- */

/* Checks, before any work, that the folder can be made or replaced. */
int deliver_check(const struct settings *s, struct err *e);
/* Writes the folder; o->best may move to an earlier candidate when a file fails its check. *report
 * is made here, as it is part of the folder. */
int deliver_run(struct run *r, struct outcome *o, json_t **report, struct err *e);

/* ---- report.c ---- */

json_t *report_new(struct run *r, const struct outcome *o);
json_t *report_infeasible_new(const struct settings *s, const struct subject *m,
                              const struct limits *l, const char *sentence, const char *hint);
json_t *report_model_json_new(const struct subject *m);
/* Was the delivered file rounded with error feedback, and what that asks of who makes it again
 * (markdown.c). */
bool report_is_fed(const json_t *report);
/* "Asked for a file of at most 3.2 GiB, ..."; nothing and false without a target. */
bool report_targets(struct buf *b, const json_t *report);
extern const char report_fed_text[];

/* ---- tried.c ---- */

/* One row per trial: why it was proposed, what it measured on the search text (and held out), and
 * what became of it. */
json_t *tried_json_new(const struct run *r, const struct outcome *o);
/* One row per group of tensors: its predicted KL at the probe type, and the type it has in the
 * delivered file. */
json_t *groups_json_new(const struct run *r, const struct outcome *o);

/* ---- history.c ---- */

/* Sensitivities for one probing: those known from before, and the keeping of new ones. */
struct probe_history {
    struct run *run;
    char *prefix;  /* hash of all that a sensitivity depends on but the group */
    char *methods; /* how it was measured; siblings must have been measured so too */
    struct sensitivity *items;
    const struct sensitivity **known; /* (n_groups) for struct probe_job; NULL = not known */
    bool *of_sibling;
    double *seconds; /* that each took */
    double last;     /* clock at the last that was done */
};
void history_open(struct probe_history *h, struct run *r, const char *prefix, const char *methods);
void history_close(struct probe_history *h);
/* A probe_job's group_done; ud is the history. */
void history_remember(void *ud, size_t group, const struct sensitivity *s);
/* All groups are known now: siblings may use them. */
void history_finish(struct probe_history *h);
json_t *history_json_new(const struct run *r);

/* ---- sense.c ---- */

/* Key of a group's sensitivity among the facts; prefix: hash of all that it depends on. xfree. */
char *sense_fact_key(const char *prefix, const struct probe_group *g);
/* Lets a plan of this model's path find the sensitivities. */
void sense_index(const struct run *r, const char *prefix);
/* r->table from the last probing of the model at this path, where the store has it whole: *about
 * (new reference) says which; else NULL and no table. */
int sense_recall(struct run *r, json_t **about, struct err *e);
/* Predictions from r->table: one choice; the additive optimum within the limits (NULL when nothing
 * keeps them); optima of rising size. */
json_t *sense_choice_json_new(const struct run *r, const enum dtype *types,
                              const struct cache_choice *cache);
int sense_optimum(const struct run *r, json_t **row, struct err *e);
int sense_frontier(const struct run *r, json_t **rows, struct err *e);
json_t *sense_json_new(const struct run *r);

/* ---- plan.c ---- */

int plan_document(struct run *r, json_t **plan, struct err *e);

#define REPORT_MARKER "sintra_report"
/* Of a result folder: the recipes of the Pareto front. */
#define FRONT_FOLDER "front"

#endif
