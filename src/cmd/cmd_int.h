/* What the commands share: their list, argument lines that several have, and how a command finds
 * models, profiles, the store and the float copy of a model. Private to cmd/. */
#ifndef CMD_CMD_INT_H
#define CMD_CMD_INT_H

#include "base/json.h"
#include "cmd/cmd.h"
#include "hw/hw.h"
#include "measure/measure.h"
#include "model/model.h"
#include "store/store.h"

extern const struct cmd cmd_optimize, cmd_plan, cmd_probe, cmd_inspect, cmd_detect, cmd_profiles,
    cmd_convert, cmd_quantize, cmd_calibrate, cmd_eval, cmd_bench, cmd_runs, cmd_report,
    cmd_compare, cmd_history, cmd_stats, cmd_pull, cmd_hf, cmd_publish, cmd_help, cmd_version,
    cmd_completion, cmd_man;

/* Argument lines. */
#define ARG_LINE_END                                                                               \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define ARG_HELP_MODEL "Hugging Face folder, GGUF file, org/name of the hub, or 'sample'"
#define ARG_LINE_MODEL_POSITION                                                                    \
    {                                                                                              \
        .name = "MODEL", .type = ARG_PATH, .positional = true, .required = true, .value = "MODEL", \
        .help = ARG_HELP_MODEL                                                                     \
    }
#define ARG_LINE_THREADS                                                                           \
    {                                                                                              \
        .name = "threads", .letter = 't', .type = ARG_INTEGER, .value = "N",                       \
        .help = "processor threads (default: all)", .min = 1, .max = 4096                          \
    }
#define ARG_LINE_GPU_LAYERS                                                                        \
    {                                                                                              \
        .name = "gpu-layers", .type = ARG_INTEGER, .value = "N",                                   \
        .help = "layers on a GPU (default: libllama's choice)", .min = 0, .max = 100000            \
    }
#define ARG_LINE_OUTPUT(what)                                                                      \
    {                                                                                              \
        .name = "output", .letter = 'o', .type = ARG_PATH, .required = true, .value = "FILE",      \
        .help = what                                                                               \
    }
#define ARG_LINE_CONTEXT(what)                                                                     \
    {                                                                                              \
        .name = "context", .letter = 'c', .type = ARG_INTEGER, .value = "N", .help = what,         \
        .min = 16, .max = 10000000                                                                 \
    }
#define ARG_LINE_CORPUS(what, otherwise)                                                           \
    {                                                                                              \
        .name = "corpus", .type = ARG_PATH, .value = "FILE", .help = what, .fallback = otherwise   \
    }
#define ARG_LINE_TOKENS(what)                                                                      \
    {                                                                                              \
        .name = "tokens", .type = ARG_INTEGER, .value = "N", .help = what, .min = 64, .max = 1e9   \
    }
#define ARG_LINE_SEED                                                                              \
    {                                                                                              \
        .name = "seed", .type = ARG_INTEGER, .value = "N",                                         \
        .help = "of the text that the model samples", .fallback = "1", .min = 0,                   \
        .max = 9007199254740992.0                                                                  \
    }

#define ARG_LINES_CACHE                                                                            \
    {.name = "cache-type-k",                                                                       \
     .type = ARG_TEXT,                                                                             \
     .value = "TYPE",                                                                              \
     .help = "keys of the KV cache (default: f16)",                                                \
     .choices = CACHE_NAMES},                                                                      \
    {                                                                                              \
        .name = "cache-type-v", .type = ARG_TEXT, .value = "TYPE",                                 \
        .help = "values of the KV cache (default: f16)", .choices = CACHE_NAMES                    \
    }
/* What --cache-type-k and -v say; f16 where they say nothing. */
struct cache_types cmd_cache(const struct cmd_args *a);
json_t *cmd_cache_json_new(struct cache_types t); /* {"k","v"}; new reference */

/* The home directory, made when missing. */
int cmd_home(const struct cmd_context *c, struct err *e);
/* HOME/<name>; xfree. */
char *cmd_home_path(const struct cmd_context *c, const char *name);
int cmd_store_open(const struct cmd_context *c, struct store **s, struct err *e);
/* `what` in the first data folder that has it; NULL when none has. xfree. */
char *cmd_data_path(const struct cmd_context *c, const char *what);
/* Folders of profiles, ":"-separated: HOME/profiles first. xfree. */
char *cmd_profile_dirs(const struct cmd_context *c);

/* A model as a user names it → its path (xfree): a folder or file of this machine, else one of the
 * hub, which is fetched. NULL or "sample" is the built-in sample. */
int cmd_model_path(const struct cmd_context *c, const char *name, char **path, struct err *e);
/* -1 (libllama's choice) when not given. */
int cmd_gpu_layers(const struct cmd_args *a);
/* Name of a file type or tensor type as users write it, any case, or llama-quantize's number → the
 * canonical name (static). Usage error with the nearest otherwise. */
int cmd_type_name(const char *option, const char *text, const char **name, struct err *e);
/* The same for one tensor: an encodable element type. */
int cmd_tensor_type(const char *option, const char *text, enum dtype *type, struct err *e);

/* The float type that most of the source's weights have; BF16 when they are quantized. */
const char *cmd_source_type(const struct model_desc *d);

/* {"name","architecture",...} of a model. New reference. */
json_t *cmd_model_json_new(const struct model *m);
/* Bytes as a JSON integer (clamped to int64). New reference. */
json_t *cmd_bytes_json_new(uint64_t bytes);
/* A run of the store as a row of `runs`. New reference. */
json_t *cmd_run_json_new(const struct store_run *r);

#endif
