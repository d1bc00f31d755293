/* The loop as a state machine over trial rows: plan → float copy → corpus → importance → reference
 * → probes → stock trials → search trials → final score → delivery. Every finished step is a row or
 * a verified file under the run's folder, so that after kill -9 `resume` continues and repeats
 * nothing finished. */
#ifndef RUN_RUN_H
#define RUN_RUN_H

#include "base/json.h"
#include "base/log.h"
#include "hw/hw.h"
#include "search/search.h"
#include "store/store.h"

struct run_config {
    const char *model_path;     /* resolved: folder or .gguf */
    const char *out_dir;        /* final folder */
    const char *home;           /* cache and run folders live under it */
    const char *corpus;         /* path, or "self" */
    bool sibling_sensitivities; /* use those of a model of the same architecture and shapes */
    uint64_t corpus_bytes;      /* read only so many from the beginning of the file; 0 = all */
    size_t tokens; /* scored positions of the final measurement; 0 = default by model size */
    uint64_t seed;
    struct targets targets;
    const struct hw_profile
        *profile;       /* NULL = this machine; remote profile: speed is predicted and labelled */
    const char *preset; /* auto chatbot batch smallest quality */
    const char *effort; /* fast normal max; NULL = normal */
    int max_iters;      /* search trials; 0 = default, by effort */
    double budget_minutes; /* 0 = none */
    int threads, gpu_layers;
    struct cache_types cache; /* of the KV cache, with which every candidate is measured */
    bool cache_fixed;         /* false: f16, or what a memory target makes of it */
    bool mock;
    const char *contest; /* which and as which of its models, set by run_contest; NULL = none */
};

/* Events for faces: {"event":"phase"|"trial"|"note"|"done", ...}; doc is borrowed. */
struct run_listener {
    const struct progress *progress;
    void (*event)(void *ud, const json_t *doc);
    void *ud;
};

/* What would be done: exact sizes of every stock mix, limits, which fit, feasibility. Writes no
 * weights; of s (NULL = none) speeds and sensitivities are read, and speeds measured here kept. */
int run_plan(const struct run_config *c, struct store *s, const struct run_listener *l,
             json_t **plan, struct err *e);

/* Measures and stores the sensitivities of a model's tensor groups, as optimize would: its targets
 * and out_dir are not used. What the store has is not measured again, so an interrupted call goes
 * on where it was. *doc: {"model","corpus","groups":[{"name","layer","elements","probe","kld",
 * "kld_ci95","types":{NAME:{"error","kld","bytes"}}}],...}. */
int run_probe(const struct run_config *c, struct store *s, const struct run_listener *l,
              json_t **doc, struct err *e);

/* Runs to the end. *report: ARCHITECTURE.md's result document (new reference); its "status" is met,
 * best_effort or infeasible. ERR_INTERRUPTED leaves the run resumable. */
int run_optimize(const struct run_config *c, struct store *s, const struct run_listener *l,
                 json_t **report, struct err *e);
/* Continues a run by id; the configuration is the stored one. */
int run_resume(const char *run_id, const char *home, struct store *s, const struct run_listener *l,
               json_t **report, struct err *e);

/* Several models for one target: a run of each in out/NAME, then the delivered files compared by
 * bits per byte on text that no run was given, the last fifth of the corpus. configs (n) differ in
 * their model; their out_dir is not used. *result: {"status","take":NAME,"models":[...]}, also in
 * out/comparison.json. */
int run_contest(const struct run_config *configs, size_t n, const char *out, struct store *s,
                const struct run_listener *l, json_t **result, struct err *e);
/* Goes on with a contest that was interrupted in one of its runs, between them or in the
 * comparison. ERR_BUSY when it is still going on. */
int run_contest_resume(const char *contest, const char *home, struct store *s,
                       const struct run_listener *l, json_t **result, struct err *e);
/* The contest that a run is a part of, the latest of all: false where there is none that has not
 * ended. */
bool run_contest_of(struct store *s, const char *run_id, char contest[static 27]);
bool run_contest_latest(struct store *s, char contest[static 27]);

/* report.md text from a report document (xfree). */
char *run_report_markdown(const json_t *report);
/* report.html text: one page without scripts and without anything to fetch (xfree). */
char *run_report_html(const json_t *report);
/* The model card (README.md with YAML front matter) from a report document; base_model is the
 * original's name on the hub, NULL: as the hub's cache has it, if the model is of there. xfree. */
char *run_card_markdown(const json_t *report, const char *base_model);
/* The report as others may see it: without notes, which may name files; of paths only the last part
 * is left, and the original is called by its name on the hub where that is known (base_model as
 * above). New reference. */
json_t *run_report_public_new(const json_t *report, const char *base_model);
/* The same for one file that nothing was measured of, from the result of `quantize` with "model"
 * and "recipe". xfree. */
char *run_card_of_file(const json_t *file);

#endif
