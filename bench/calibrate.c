/* What an importance matrix costs on top of the forward pass, and beside llama-imatrix; CSV on
 * stdout.
 *
 *   calibrate MODEL.gguf TEXT [--tokens N] [--context N] [--runs N] [--threads N] [--scratch DIR]
 *
 * First the passes over the same windows in one worker, in turns: the bare pass (the hook asks for
 * nothing), importance, Gram matrices within spans of 256 columns and of whole rows. Then, from
 * the root of the tree and after make peers, whole processes in turns: `sintra calibrate`,
 * `llama-imatrix --no-ppl` and plain llama-imatrix on the same file, text, windows and threads.
 * Seconds of wall and of processor time, medians last. MODEL.gguf should hold floats; every
 * window's outputs are computed by ours in all passes, as the head is collected too. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/stat.h"
#include "measure/measure.h"

static const char peer[] = "deps/peers/bin/llama-imatrix", ours[] = "./sintra";
enum { RUNS_MAX = 64, WHO_MAX = 4 };

struct options {
    const char *model, *text, *scratch;
    size_t tokens;
    uint32_t context;
    int runs, threads;
};

struct taken {
    double wall[RUNS_MAX], cpu[RUNS_MAX];
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e ? e->message : "failed");
    exit(1);
}

static void report(const char *name, int run, const struct taken *t)
{
    printf("%s,%d,%.3f,%.3f\n", name, run + 1, t->wall[run], t->cpu[run]);
    fflush(stdout);
}

static void medians(const char *const *names, struct taken *t, int n, int runs)
{
    double base = 0;
    for (int i = 0; i < n; i++) {
        double wall = stat_median(t[i].wall, (size_t)runs),
               cpu = stat_median(t[i].cpu, (size_t)runs);
        base = i == 0 ? cpu : base;
        printf("# %s: median %.3f s wall, %.3f s processor, %.3f times %s\n", names[i], wall, cpu,
               cpu / base, names[0]);
    }
    fflush(stdout); /* children get what is left in the buffer */
}

/* ---- passes in one worker ---- */

/* Processor seconds of a process so far. */
static double cpu_of(int pid)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f || !fgets(text, sizeof text, f))
        die(path, NULL);
    fclose(f);
    const char *after = strrchr(text, ')');
    if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                         &system) != 2)
        die(path, NULL);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void grams(struct engine *g, const struct engine_windows *w, const struct imatrix *m,
                  uint64_t span)
{
    struct engine_grams out;
    struct err e = {0};
    const char **names = xcalloc(m->n + 1, sizeof *names);
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].n_mat == 1 && m->entries[i].n_in % 32 == 0)
            names[n++] = m->entries[i].name;
    if (engine_gram(g, w, &(struct engine_gram_wish){names, n, span, false}, &out, NULL, &e) != 0)
        die("Gram matrices", &e);
    engine_grams_free(&out);
    xfree(names);
}

/* Nothing has that name: the model runs and nobody looks. The error is that nothing was seen. */
static void bare(struct engine *g, const struct engine_windows *w)
{
    static const char *const nobody[] = {"(none)"};
    struct engine_grams out;
    struct err e = {0};
    if (engine_gram(g, w, &(struct engine_gram_wish){nobody, 1, 256, false}, &out, NULL, &e) == 0 ||
        e.code != ERR_INPUT)
        die("the bare pass", &e);
}

static void importance(struct engine *g, const struct engine_windows *w, struct imatrix *m)
{
    struct err e = {0};
    if (measure_importance(m, g, w, "bench", NULL, &e) != 0)
        die("importance", &e);
}

static void run_passes(const struct options *o, struct engine *g, const struct engine_windows *w)
{
    static const char *const names[WHO_MAX] = {"bare pass", "importance", "spans of 256",
                                               "whole rows"};
    struct taken t[WHO_MAX];
    struct imatrix first, m;
    importance(g, w, &first);
    for (int run = 0; run < o->runs; run++)
        for (int who = 0; who < WHO_MAX; who++) {
            double began = clock_seconds(), cpu = cpu_of(engine_pid(g));
            if (who == 0)
                bare(g, w);
            else if (who == 1)
                importance(g, w, &m);
            else
                grams(g, w, &first, who == 2 ? 256 : UINT32_MAX);
            t[who].wall[run] = clock_seconds() - began;
            t[who].cpu[run] = cpu_of(engine_pid(g)) - cpu;
            if (who == 1)
                imatrix_release(&m);
            report(names[who], run, &t[who]);
        }
    medians(names, t, WHO_MAX, o->runs);
    imatrix_release(&first);
}

static void passes(const struct options *o, size_t *n_windows)
{
    struct measure_options options = {.threads = o->threads};
    struct engine *g;
    struct engine_info info;
    struct corpus text = {0};
    struct err e = {0};
    if (measure_open(&g, &info, o->model, ENGINE_FILE, o->context, 0, true, &options, &e) != 0 ||
        corpus_from_file(&text, g, o->text, o->context, o->tokens / o->context, &e) != 0)
        die(o->model, &e);
    struct engine_windows w = corpus_slice(&text, 0, text.n_windows);
    *n_windows = text.n_windows;
    run_passes(o, g, &w);
    corpus_release(&text);
    engine_stop(g);
}

/* ---- processes ---- */

static void process(const struct options *o, int who, size_t n_windows, struct taken *t, int run)
{
    char tokens[24], context[24], chunks[24], threads[24];
    char *output = fs_join(o->scratch, "bench-imatrix.gguf");
    struct rusage usage;
    int status = 0, count = o->threads > 0 ? o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(tokens, sizeof tokens, "%zu", n_windows * o->context);
    snprintf(context, sizeof context, "%u", o->context);
    snprintf(chunks, sizeof chunks, "%zu", n_windows);
    snprintf(threads, sizeof threads, "%d", count);
    const char *const mine[] = {ours,       "calibrate", o->model, "-o",       output,
                                "--corpus", o->text,     "-q",     "--tokens", tokens,
                                "-c",       context,     "-t",     threads,    NULL};
    const char *const theirs[] = {
        peer, "-m",    o->model,   "-o",   output, "-f",    o->text,
        "-c", context, "--chunks", chunks, "-t",   threads, who == 1 ? "--no-ppl" : NULL,
        NULL};
    double began = clock_seconds();
    pid_t pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr))
            execv(who == 0 ? ours : peer, (char *const *)(uintptr_t)(who == 0 ? mine : theirs));
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid || status != 0)
        die(who == 0 ? ours : peer, NULL);
    t->wall[run] = clock_seconds() - began;
    t->cpu[run] = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                  1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    fs_remove(output, NULL);
    xfree(output);
}

static void processes(const struct options *o, size_t n_windows)
{
    static const char *const names[] = {"sintra calibrate", "llama-imatrix --no-ppl",
                                        "llama-imatrix"};
    struct taken t[3];
    for (int run = 0; run < o->runs; run++)
        for (int who = 0; who < 3; who++) {
            process(o, who, n_windows, &t[who], run);
            report(names[who], run, &t[who]);
        }
    medians(names, t, 3, o->runs);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"tokens", required_argument, NULL, 'n'},  {"context", required_argument, NULL, 'c'},
        {"runs", required_argument, NULL, 'r'},    {"threads", required_argument, NULL, 't'},
        {"scratch", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    struct options o = {.scratch = "/tmp", .tokens = 65536, .context = 256, .runs = 5};
    size_t n_windows = 0;
    int c;
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'n')
            o.tokens = strtoul(optarg, NULL, 10);
        else if (c == 'c')
            o.context = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'r')
            o.runs = (int)strtol(optarg, NULL, 10);
        else if (c == 't')
            o.threads = (int)strtol(optarg, NULL, 10);
        else if (c == 's')
            o.scratch = optarg;
    }
    if (argc - optind != 2 || o.runs < 1 || o.runs > RUNS_MAX || o.context < 32 ||
        o.tokens < o.context) {
        fprintf(stderr, "usage: calibrate MODEL.gguf TEXT [--tokens N] [--context N] [--runs N] "
                        "[--threads N] [--scratch DIR]\n");
        return 2;
    }
    o.model = argv[optind];
    o.text = argv[optind + 1];
    printf("pass,run,seconds,cpu_seconds\n");
    passes(&o, &n_windows);
    if (access(peer, X_OK) == 0 && access(ours, X_OK) == 0)
        processes(&o, n_windows);
    else
        fprintf(stderr, "no %s and %s here: passes only\n", ours, peer);
    return 0;
}
