/* What the files of model/ share: the inside of struct model, and the pieces that fill it.
 *
 * A model owns its maps (safetensors shards or a GGUF) and one arena for names and tables;
 * everything in desc and sources points into them and lives until model_close. After model_open
 * returns nothing here is written again, which is what makes model_rows safe from any thread. */
#ifndef MODEL_MODEL_INT_H
#define MODEL_MODEL_INT_H

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/model.h"

/* Limits on what a model folder may contain; beyond them a file is refused before it is parsed. */
#define MODEL_CONFIG_BYTES_MAX    (16u << 20)
#define MODEL_TOKENIZER_BYTES_MAX (256u << 20)
#define MODEL_INDEX_BYTES_MAX     (128u << 20)
#define MODEL_TEMPLATE_BYTES_MAX  (16u << 20)
#define MODEL_CARD_BYTES_MAX      (4u << 20)
#define MODEL_SHARDS_MAX          4096u
#define MODEL_LAYERS_MAX          512
#define MODEL_VOCAB_MAX           (1 << 24)

/* What is done to each number after it is read. */
enum model_math { MATH_NONE, MATH_ADD_ONE, MATH_NEG_EXP };

struct model_packed; /* packed_int.h */

/* A stored tensor, or a part of one, as a run of elements: the axes from the outermost to the
 * innermost, each with its number of steps and the distance of a step in stored elements. */
enum { MODEL_AXES_MAX = 6 };
struct model_part {
    const uint8_t *data;      /* first byte; mapped, or in the arena when map is NULL */
    const struct fs_map *map; /* NULL: computed by us (rope_freqs) */
    uint64_t offset, bytes;   /* of the stored tensor in the map */
    const char *stored_name;  /* name in the source file */
    enum dtype dtype;
    uint64_t stored_row;               /* elements of a stored row */
    const struct model_packed *packed; /* how numbers are computed from the bytes; NULL: plain */
    uint64_t first;                    /* element where the part begins */
    uint64_t elements;                 /* that it yields; the product of the steps */
    int n_axes;
    struct model_axis {
        uint64_t steps, stride;
    } axes[MODEL_AXES_MAX];
};

/* Where the numbers of one tensor lie: its parts one after the other. Tensors of quantized types
 * have one part, read in whole rows. */
struct model_source {
    struct model_part *parts; /* in the arena */
    size_t n_parts;
    enum model_math math;
};

struct model {
    struct model_desc desc;
    struct model_source *sources; /* parallel to desc.tensors */
    size_t capacity;              /* of both arrays */
    struct gguf_kvs kvs;
    struct map by_name;
    struct arena arena;
    char *path;
    uint64_t source_bytes;
    bool is_gguf, is_quantized;
    const char *quantization; /* of a checkpoint, in the arena; NULL: floats, or a GGUF */
    struct gguf gguf;         /* when is_gguf */
    struct safetensors *shards;
    size_t n_shards;
};

/* folder.c, gguf_source.c: fill a zeroed model; the caller releases it whatever they return. */
int folder_open(struct model *m, struct err *e);
int gguf_source_open(struct model *m, struct err *e);

/* model.c: appends a tensor under a name that must be new; role, layer and dtype_min follow from
 * it. */
int model_add_tensor(struct model *m, const struct model_tensor *t, const struct model_source *s,
                     struct err *e);
/* rows.c: a source of one part, read as it is stored; `part` needs what says where that is. */
struct model_source model_source_whole(struct model *m, const struct model_part *part,
                                       const struct model_tensor *t);

/* shards.c: opens every weight file of the folder into m->shards, in order of their names. */
int shards_open(struct model *m, struct err *e);

/* json of a file in the folder; *doc stays NULL when the file is not there and `required` is
 * false. */
int folder_read_json(const struct model *m, const char *file, size_t bytes_max, bool required,
                     json_t **doc, struct err *e);

/* general.c: general.* keys from config, generation_config.json, README.md and the folder's
 * name. */
int general_set(struct model *m, const json_t *config, struct err *e);

/* naming.c: the parts of a model id such as "org/Name-7B-Instruct-v0.2"; members NULL when absent,
 * strings in the arena. */
struct naming {
    const char *full, *organization, *basename, *finetune, *version, *size_label;
};
void naming_parse(struct naming *n, const char *id, uint64_t parameters, struct arena *arena);
char *naming_title(const char *id, struct arena *arena);
char *naming_size_label(uint64_t parameters, struct arena *arena);
/* With experts: "8x7B", a number of times what one of them and all the rest have. */
char *naming_size_label_of(const struct model_desc *d, struct arena *arena);

/* card.c: the YAML front matter of README.md as a JSON object of strings, lists and objects; an
 * empty object when there is none or it cannot be read. New reference. */
json_t *card_read_new(const char *path);

#endif
