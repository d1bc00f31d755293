/* The KL divergence of single tensor groups, in memory and through files; CSV on stdout.
 *
 *   probe_vs_file MODEL CALIBRATION TEXT [--groups N] [--types A,B,...] [--windows N]
 *   [--calibration N]
 *                 [--threads N] [--no-files] [--scratch DIR]
 *
 * One group of the original at a time is replaced by its decoded quantized values in the memory of
 * a worker, and written as a file in which it alone is quantized (all else F32). Both are scored on
 * the same windows of TEXT. A file also quantizes activations, which a probe leaves out; that is
 * the difference to see. `predicted` is what the search would use: the probe at Q3_K times the
 * ratio of the encoder's weighted errors. CALIBRATION and TEXT are UTF-8 files; --groups 0 takes
 * all groups. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/clock.h"
#include "probe/probe.h"
#include "search/search.h"

struct options {
    const char *model, *calibration, *text, *scratch;
    size_t groups, windows, calibration_windows;
    enum dtype types[PROBE_TYPES_MAX];
    int n_types, threads;
    bool files;
};

struct bench {
    struct options o;
    struct model *model;
    struct probe_groups groups;
    struct imatrix imatrix;
    char *folder, *original, *candidate;
    struct engine *engine;
    struct corpus text, calibration;
    struct measure_reference reference;
    struct measure_options measure;
    struct probe_job job;
    struct probe_table table;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->message);
    exit(1);
}

static void bake(struct bench *b, const struct recipe *r, bool weighted, const char *path)
{
    struct err e = {0};
    struct bake_result done;
    struct bake_job job = {.model = b->model,
                           .recipe = r,
                           .imatrix = weighted ? &b->imatrix : NULL,
                           .output = path,
                           .threads = b->o.threads,
                           .allow_requantize = true};
    if (bake_gguf(&job, &done, &e) != 0)
        die(path, &e);
    bake_result_release(&done);
}

static void prepare(struct bench *b)
{
    struct err e = {0};
    struct engine_info info;
    struct recipe f32;
    uint32_t n_ctx;
    if (model_open(&b->model, b->o.model, &e) != 0 ||
        probe_groups_make(&b->groups, model_desc(b->model), 0, &e) != 0)
        die(b->o.model, &e);
    n_ctx = model_desc(b->model)->n_ctx_train;
    n_ctx = n_ctx == 0 || n_ctx > 512 ? 512 : n_ctx;
    recipe_init(&f32, "F32");
    bake(b, &f32, false, b->original);
    recipe_release(&f32);
    b->measure = (struct measure_options){.threads = b->o.threads, .gpu_layers = -1};
    if (measure_open(&b->engine, &info, b->original, ENGINE_FLOAT, n_ctx, 0, true, &b->measure,
                     &e) != 0 ||
        corpus_from_file(&b->calibration, b->engine, b->o.calibration, n_ctx,
                         b->o.calibration_windows, &e) != 0 ||
        corpus_from_file(&b->text, b->engine, b->o.text, n_ctx, b->o.windows, &e) != 0)
        die("text", &e);
    struct engine_windows c = corpus_slice(&b->calibration, 0, b->calibration.n_windows);
    struct engine_windows w = corpus_slice(&b->text, 0, b->text.n_windows);
    if (measure_importance(&b->imatrix, b->engine, &c, "calibration", NULL, &e) != 0 ||
        measure_reference_make(&b->reference, b->engine, &w, 1ull << 32, NULL, &e) != 0)
        die("reference", &e);
    b->job = (struct probe_job){.model = b->model,
                                .groups = &b->groups,
                                .imatrix = &b->imatrix,
                                .engine = b->engine,
                                .windows = w,
                                .reference = &b->reference,
                                .types = b->o.types,
                                .n_types = b->o.n_types,
                                .probe_type = DT_Q3_K,
                                .threads = b->o.threads};
}

/* A file in which one group alone is quantized. */
static void score_file(struct bench *b, size_t group, enum dtype type, struct score *s)
{
    struct err e = {0};
    struct recipe r;
    enum dtype *types = xcalloc(b->groups.n, sizeof(*types));
    for (size_t g = 0; g < b->groups.n; g++)
        types[g] = g == group ? type : DT_F32;
    if (search_recipe(&r, model_desc(b->model), &b->groups, types, &e) != 0)
        die("recipe", &e);
    bake(b, &r, true, b->candidate);
    if (measure_quality(s, b->candidate, &b->job.windows, &b->reference, &b->measure, &e) != 0)
        die("file", &e);
    recipe_release(&r);
    xfree(types);
}

static void row(struct bench *b, size_t group, int k)
{
    struct err e = {0};
    struct score file = {0};
    struct stat_mean memory;
    enum dtype type = b->o.types[k];
    double began = clock_seconds();
    if (probe_measure(&b->job, group, type, &memory, &e) != 0)
        die("probe", &e);
    double between = clock_seconds();
    if (b->o.files)
        score_file(b, group, type, &file);
    printf("%s,%s,%.6e,%.6e,%.6e,", b->groups.items[group].name, dtype_name(type), memory.mean,
           memory.low, memory.high);
    if (b->o.files)
        printf("%.6e,%.6e,%.6e,%.4f,", file.kld_mean, file.kld_low, file.kld_high,
               memory.mean / file.kld_mean);
    else
        printf(",,,,");
    printf("%.6e,%.3f,%.3f\n", b->table.groups[group].kld[k], between - began,
           b->o.files ? clock_seconds() - between : 0);
    fflush(stdout);
    score_release(&file);
}

static void parse_types(struct options *o, char *list)
{
    char *save = NULL;
    o->n_types = 0;
    for (char *t = strtok_r(list, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
        enum dtype type = dtype_by_name(t);
        if (type == DT_NONE || o->n_types == PROBE_TYPES_MAX) {
            fprintf(stderr, "--types: %s is no type\n", t);
            exit(2);
        }
        o->types[o->n_types++] = type;
    }
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"groups", 1, NULL, 'g'},  {"types", 1, NULL, 't'},
        {"windows", 1, NULL, 'w'}, {"calibration", 1, NULL, 'c'},
        {"threads", 1, NULL, 'j'}, {"no-files", 0, NULL, 'n'},
        {"scratch", 1, NULL, 's'}, {0},
    };
    char types[] = "Q3_K,Q4_K,Q6_K,Q8_0";
    *o = (struct options){
        .scratch = "/tmp", .groups = 10, .windows = 32, .calibration_windows = 64, .files = true};
    parse_types(o, types);
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'g')
            o->groups = strtoul(optarg, NULL, 10);
        else if (c == 't')
            parse_types(o, optarg);
        else if (c == 'w')
            o->windows = strtoul(optarg, NULL, 10);
        else if (c == 'c')
            o->calibration_windows = strtoul(optarg, NULL, 10);
        else if (c == 'j')
            o->threads = (int)strtol(optarg, NULL, 10);
        else if (c == 'n')
            o->files = false;
        else if (c == 's')
            o->scratch = optarg;
        else
            exit(2);
    }
    if (argc - optind != 3) {
        fprintf(stderr, "usage: probe_vs_file MODEL CALIBRATION TEXT [options]\n");
        exit(2);
    }
    o->model = argv[optind];
    o->calibration = argv[optind + 1];
    o->text = argv[optind + 2];
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct err e = {0};
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    parse(&b.o, argc, argv);
    b.folder = xasprintf("%s/sintra-probe-XXXXXX", b.o.scratch);
    if (!mkdtemp(b.folder)) {
        perror(b.folder);
        return 1;
    }
    b.original = fs_join(b.folder, "original.gguf");
    b.candidate = fs_join(b.folder, "candidate.gguf");
    prepare(&b);
    if (probe_run(&b.job, &b.table, &e) != 0)
        die("probes", &e);
    printf("group,type,kld_memory,memory_low,memory_high,kld_file,file_low,file_high,"
           "memory_over_file,predicted,seconds_memory,seconds_file\n");
    size_t n = b.o.groups > 0 && b.o.groups < b.groups.n ? b.o.groups : b.groups.n;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < b.o.n_types; k++)
            row(&b, i * b.groups.n / n, k);
    engine_stop(b.engine);
    fs_remove_tree(b.folder, NULL);
    return 0;
}
