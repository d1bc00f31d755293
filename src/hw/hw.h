/* What machine this is, what other machines are, and what speed their arithmetic allows.
 *
 * GPUs are found by engine (ggml's backends) and joined by cmd; here are CPU, memory, cgroup
 * limits. */
#ifndef HW_HW_H
#define HW_HW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

enum { HW_NAME_MAX = 128, HW_SIMD_MAX = 256 };

struct hw {
    char cpu_model[HW_NAME_MAX];
    char arch[16];                                   /* "x86_64", "aarch64" */
    char simd[HW_SIMD_MAX];                          /* "avx2 avx512f ..." */
    int cores_physical, cores_logical, cores_usable; /* usable: affinity and cgroup quota */
    uint64_t l1d_bytes, l2_bytes, l3_bytes;          /* of all processors together */
    uint64_t ram_total, ram_available;
    uint64_t cgroup_limit; /* 0 = none */
    uint64_t ram_usable;   /* min(available, what the cgroup leaves) */
    double bandwidth_gbs;  /* measured, reading, all usable cores, GB/s (1e9); 0 = not measured */
    char os[HW_NAME_MAX];
};
/* measure_bandwidth: reads a buffer larger than the caches (≤ 1/8 of free RAM, ≤ 1 GiB) with all
 * cores, best of several passes, under two seconds in all. */
int hw_detect(struct hw *h, bool measure_bandwidth, struct err *e);
json_t *hw_json_new(const struct hw *h);

/* One line that tells machines of different speed apart: processor, its vector units, cores that
 * may be used, caches. Firmware and clock are not seen. */
enum { HW_FINGERPRINT_MAX = 512 };
void hw_fingerprint(const struct hw *h, char text[static HW_FINGERPRINT_MAX]);

/* How fast a device multiplies matrices of each element type. Types are named as in GGUF ("Q4_K"):
 * hw knows nothing of their blocks. */
enum { HW_TYPES_MAX = 48, HW_TYPE_NAME_MAX = 12 };
struct hw_type_speed {
    char type[HW_TYPE_NAME_MAX];
    double decode_gbs;     /* bytes of weights per second, one row of activations at a time, 1e9 */
    double prefill_gflops; /* two operations per weight and row of a batch, 1e9 */
};
struct hw_kernels {
    struct hw_type_speed items[HW_TYPES_MAX];
    int n;
    uint64_t cols, rows; /* shape of the matrices */
    uint64_t set_bytes;  /* of different matrices, read in turn: caches help as far as this fits */
    int threads;
};
const struct hw_type_speed *hw_kernels_find(const struct hw_kernels *k, const char *type);
json_t *hw_kernels_json_new(const struct hw_kernels *k);
/* False where the document is not one of these. */
bool hw_kernels_from_json(struct hw_kernels *k, const json_t *doc);

/* Of a profile: time per byte of a type in units of what its bandwidth says. */
struct hw_type_factor {
    char type[HW_TYPE_NAME_MAX];
    double factor;
};

/* A hardware profile (YAML): name, description, constraints, targets, supported_quantizations,
 * source. */
struct hw_profile {
    char name[HW_NAME_MAX], description[256], source[1024];
    double vram_gb, ram_gb; /* GiB as the machine reports it; 0 = not given */
    char cpu_arch[16];
    bool has_cuda;
    uint64_t max_model_bytes; /* from max_model_size_mb, 0 = none */
    double bandwidth_gbs;     /* memory_bandwidth_gbs; 0 = unknown */
    double efficiency;        /* share of it that decode reaches (0..1), default 0.6 */
    double overhead_ms;       /* per token, default 0 */
    double gflops;            /* F32-equivalent matmul rate for prefill, 0 = unknown */
    int cores;
    double min_tps, max_latency_ms, min_accuracy; /* targets; 0 = none */
    struct hw_type_factor factors[HW_TYPES_MAX];  /* type_factors; types not named have 1 */
    int n_factors;
    char **quantizations; /* supported_quantizations, NULL-terminated, NULL = all */
    /* Not this machine: speed is predicted, never measured here. The key `remote` says so; without
     * it a profile is remote if it gives a bandwidth, or another processor than this one. */
    bool remote;
    char path[512];
};
/* name or path. Searches `dirs` (":"-separated) for NAME.yaml. Unknown keys produce a warning each
 * (log_warn) naming key and file; wrong types, anchors/aliases, tags, duplicate keys, several
 * documents are errors with line numbers. */
int hw_profile_load(struct hw_profile *p, const char *name_or_path, const char *dirs,
                    struct err *e);
void hw_profile_release(struct hw_profile *p);
/* All profiles of dirs, sorted by name. */
int hw_profiles(struct hw_profile **list, size_t *n, const char *dirs, struct err *e);
json_t *hw_profile_json_new(const struct hw_profile *p);

double hw_profile_factor(const struct hw_profile *p, const char *type); /* 1 when not named */

/* A roofline. Decode: t = max(bytes / (efficiency * bandwidth), 2 * parameters / gflops) +
 * overhead; prefill: gflops / (2 * parameters). */
struct hw_prediction {
    double tps_decode, tps_prefill; /* 0 = cannot be predicted */
    bool predicted;                 /* always true; carried into reports as a label */
};
struct hw_prediction hw_predict(const struct hw_profile *p, uint64_t weight_bytes_per_token,
                                uint64_t kv_bytes, uint64_t parameters);

#endif
