/* Encoders, whose output is an embedding of the text: BertModel, DistilBertModel, RobertaModel,
 * XLMRobertaModel (both also as rerankers) and NomicBertModel (rotary positions, SwiGLU).
 *
 * They attend both ways, so libllama makes no logits of them. How the tokens' vectors become one is
 * in 1_Pooling/config.json beside modules.json, as sentence-transformers writes them. Follows
 * conversion/bert.py of llama.cpp 0.5.0. */
#include "model/config_int.h"

#include <string.h>

#include "base/fs.h"
#include "base/banned.h"

/* clang-format off */
#define LINEAR(name, rows, cols, to)                                                               \
    ARCH_T(name ".weight", rows " " cols, to ".weight"),                                           \
    ARCH_T(name ".bias", rows, to ".bias")
#define NORM(name, to) ARCH_T(name ".weight", "hidden", to ".weight"),                             \
    ARCH_T(name ".bias", "hidden", to ".bias")
/* What only training, filling in masked words or another kind of pooling needs. */
#define UNUSED(name) ARCH_T(name ".weight", "", NULL), ARCH_T(name ".bias", "", NULL)

/* RoBERTa's positions begin after the padding token's; libllama's begin at 0. */
#define EMBEDDINGS                                                                                 \
    ARCH_T("embeddings.word_embeddings.weight", "vocab hidden", "token_embd.weight"),              \
    ARCH_T("embeddings.position_embeddings.weight", "context+sintra_offset hidden",                \
           "position_embd.weight", .view = "context+sintra_offset hidden : "                       \
           "0[sintra_offset,context] 1", .out = "context hidden"),                                 \
    ARCH_T("embeddings.position_ids", "", NULL),                                                   \
    NORM("embeddings.LayerNorm", "token_embd_norm")

#define BERT "encoder.layer.%."
#define BLOCKS                                                                                     \
    LINEAR(BERT "attention.self.query", "q", "hidden", "blk.%.attn_q"),                            \
    LINEAR(BERT "attention.self.key", "q", "hidden", "blk.%.attn_k"),                              \
    LINEAR(BERT "attention.self.value", "q", "hidden", "blk.%.attn_v"),                            \
    LINEAR(BERT "attention.output.dense", "hidden", "q", "blk.%.attn_output"),                     \
    NORM(BERT "attention.output.LayerNorm", "blk.%.attn_output_norm"),                             \
    LINEAR(BERT "intermediate.dense", "ffn", "hidden", "blk.%.ffn_up"),                            \
    LINEAR(BERT "output.dense", "hidden", "ffn", "blk.%.ffn_down"),                                \
    NORM(BERT "output.LayerNorm", "blk.%.layer_output_norm")

static const struct arch_tensor bert_tensors[] = {
    EMBEDDINGS,
    ARCH_T("embeddings.token_type_embeddings.weight", "type_vocab_size hidden",
           "token_types.weight"),
    BLOCKS,
    UNUSED("pooler.dense"),
    ARCH_T("cls.predictions.bias", "", NULL),
    UNUSED("cls.predictions.transform.dense"),
    UNUSED("cls.predictions.transform.LayerNorm"),
    UNUSED("cls.predictions.decoder"),
    UNUSED("cls.seq_relationship"),
    ARCH_END,
};

static const struct arch_tensor roberta_tensors[] = {
    EMBEDDINGS,
    ARCH_T("embeddings.token_type_embeddings.weight", "type_vocab_size hidden",
           "token_types.weight"),
    BLOCKS,
    UNUSED("pooler.dense"),
    ARCH_T("classifier.dense.weight", "hidden hidden", "cls.weight", .when = "sintra_classifies"),
    ARCH_T("classifier.dense.bias", "hidden", "cls.bias", .when = "sintra_classifies"),
    ARCH_T("classifier.out_proj.weight", "sintra_labels hidden", "cls.output.weight",
           .when = "sintra_classifies"),
    ARCH_T("classifier.out_proj.bias", "sintra_labels", "cls.output.bias",
           .when = "sintra_classifies"),
    ARCH_END,
};

#define DISTIL "transformer.layer.%."
static const struct arch_tensor distilbert_tensors[] = {
    EMBEDDINGS,
    LINEAR(DISTIL "attention.q_lin", "q", "hidden", "blk.%.attn_q"),
    LINEAR(DISTIL "attention.k_lin", "q", "hidden", "blk.%.attn_k"),
    LINEAR(DISTIL "attention.v_lin", "q", "hidden", "blk.%.attn_v"),
    LINEAR(DISTIL "attention.out_lin", "hidden", "q", "blk.%.attn_output"),
    NORM(DISTIL "sa_layer_norm", "blk.%.attn_output_norm"),
    LINEAR(DISTIL "ffn.lin1", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR(DISTIL "ffn.lin2", "hidden", "ffn", "blk.%.ffn_down"),
    NORM(DISTIL "output_layer_norm", "blk.%.layer_output_norm"),
    UNUSED("vocab_transform"),
    UNUSED("vocab_layer_norm"),
    UNUSED("vocab_projector"),
    ARCH_END,
};

#define NOMIC "encoder.layers.%."
static const struct arch_tensor nomic_tensors[] = {
    ARCH_T("embeddings.word_embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("embeddings.token_type_embeddings.weight", "type_vocab_size hidden",
           "token_types.weight"),
    NORM("emb_ln", "token_embd_norm"),
    ARCH_T(NOMIC "attn.Wqkv.weight", "3*q hidden", "blk.%.attn_qkv.weight"),
    ARCH_T(NOMIC "attn.out_proj.weight", "hidden q", "blk.%.attn_output.weight"),
    NORM(NOMIC "norm1", "blk.%.attn_output_norm"),
    ARCH_T(NOMIC "mlp.fc11.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(NOMIC "mlp.fc12.weight", "ffn hidden", "blk.%.ffn_gate.weight"),
    ARCH_T(NOMIC "mlp.fc2.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    NORM(NOMIC "norm2", "blk.%.layer_output_norm"),
    ARCH_END,
};

#define SIZES                                                                                      \
    {KEY_U32, "block_count", "=layers"},                                                           \
    {KEY_U32, "context_length", "=context"},                                                       \
    {KEY_U32, "embedding_length", "=hidden"},                                                      \
    {KEY_U32, "feed_forward_length", "=ffn"},                                                      \
    {KEY_U32, "attention.head_count", "=heads"}
#define KIND                                                                                       \
    {KEY_BOOL, "attention.causal", "=0"},                                                          \
    {KEY_U32, "pooling_type", "sintra_pooling"},                                                   \
    {KEY_LABELS, "classifier.output_labels", "id2label"}
/* clang-format on */

static const struct arch_key bert_keys[] = {
    SIZES,
    {KEY_ROPE, NULL, NULL},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_eps|layer_norm_epsilon"},
    KIND,
    ARCH_KEYS_END,
};

static const struct arch_key distilbert_keys[] = {
    {KEY_F32, "attention.layer_norm_epsilon", "=1e-12"},
    SIZES,
    KIND,
    ARCH_KEYS_END,
};

/* ---- pooling ---- */

/* llama.h: LLAMA_POOLING_TYPE_MEAN, _CLS, _LAST. */
static int pooling_of(const json_t *doc)
{
    static const struct {
        const char *flag, *mode;
        int type;
    } kinds[] = {{"pooling_mode_mean_tokens", "mean", 1},
                 {"pooling_mode_cls_token", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", 3}};
    const char *mode = json_opt_str(doc, "pooling_mode", "");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (json_is_true(json_object_get(doc, kinds[i].flag)))
            return kinds[i].type;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(mode, kinds[i].mode) == 0)
            return kinds[i].type;
    return 0;
}

static int read_pooling(struct config *c, const char *folder, const char *name, struct err *e)
{
    if (!*name || strchr(name, '/') || name[0] == '.')
        return err_set(e, ERR_INPUT, "fetch the model again",
                       "%s/modules.json: \"%.60s\" is not the name of a folder", folder, name);
    char *path = xasprintf("%s/%s/config.json", folder, name);
    json_t *doc = json_read(path, MODEL_CONFIG_BYTES_MAX, e);
    int type = doc ? pooling_of(doc) : -1;
    if (type > 0)
        json_object_set_new(c->fields, "sintra_pooling", json_integer(type));
    else if (type == 0)
        err_set(e, ERR_UNSUPPORTED, "libllama knows these three",
                "%s: tokens are pooled in another way than mean, cls or lasttoken", path);
    json_decref(doc);
    xfree(path);
    return type > 0 ? 0 : -1;
}

/* The first of the list of modules whose type ends with "Pooling", if there is a list. */
static int find_pooling(struct config *c, struct err *e)
{
    char *folder = xstrndup(c->where, (size_t)(strrchr(c->where, '/') - c->where));
    char *path = xasprintf("%s/modules.json", folder);
    json_t *doc = fs_exists(path) ? json_read(path, MODEL_CONFIG_BYTES_MAX, e) : json_array();
    int failed = doc ? 0 : -1;
    json_object_del(c->fields, "sintra_pooling");
    for (size_t i = 0; i < json_array_size(doc); i++) {
        const char *type = json_opt_str(json_array_get(doc, i), "type", "");
        size_t n = strlen(type);
        if (n >= 7 && strcmp(type + n - 7, "Pooling") == 0) {
            failed = read_pooling(c, folder, json_opt_str(json_array_get(doc, i), "path", ""), e);
            break;
        }
    }
    json_decref(doc);
    xfree(path);
    xfree(folder);
    return failed;
}

/* ---- labels ---- */

/* transformers states two labels of no meaning where a model has none; those count only for one
 * that classifies. */
static void read_labels(struct config *c)
{
    const char *name =
        json_string_value(json_array_get(json_object_get(c->fields, "architectures"), 0));
    bool classifies = name && strstr(name, "ForSequenceClassification");
    json_t *labels = json_object_get(c->fields, "id2label");
    if (!json_is_object(labels) && classifies)
        json_object_set_new(c->fields, "id2label",
                            labels = json_pack("{s:s, s:s}", "0", "LABEL_0", "1", "LABEL_1"));
    size_t n = json_object_size(labels);
    bool dummy = n == 2 && strcmp(json_opt_str(labels, "0", ""), "LABEL_0") == 0;
    if (n == 0 || (dummy && !classifies))
        json_object_del(c->fields, "id2label");
    json_object_set_new(c->fields, "sintra_labels", json_integer(n ? (json_int_t)n : 1));
    json_object_set_new(c->fields, "sintra_classifies", json_integer(classifies));
}

/* ---- the rest ---- */

static int refuse(const struct config *c, struct err *e, const char *what)
{
    return err_set(e, ERR_UNSUPPORTED, "libllama would compute something else with this model",
                   "%s: %s", c->where, what);
}

static int derive_encoder(struct config *c, uint32_t offset, struct err *e)
{
    if (strcmp(json_opt_str(c->fields, "position_embedding_type", "absolute"), "absolute") != 0)
        return refuse(c, e, "position_embedding_type is not \"absolute\"");
    if (offset >= c->context)
        return refuse(c, e, "pad_token_id leaves no positions (max_position_embeddings)");
    c->context -= offset;
    json_object_set_new(c->fields, "sintra_offset", json_integer(offset));
    read_labels(c);
    return find_pooling(c, e);
}

static int derive_bert(struct config *c, struct err *e)
{
    return derive_encoder(c, 0, e);
}

static int derive_distilbert(struct config *c, struct err *e)
{
    if (json_is_true(json_object_get(c->fields, "sinusoidal_pos_embds")))
        return refuse(c, e, "sinusoidal_pos_embds is true");
    return derive_encoder(c, 0, e);
}

static int derive_roberta(struct config *c, struct err *e)
{
    int64_t pad = json_opt_i64(c->fields, "pad_token_id", 1);
    if (json_is_array(json_object_get(c->fields, "lora_adaptations")))
        return refuse(c, e, "adapters for tasks (lora_adaptations) are not converted");
    if (pad < 0 || pad >= c->context)
        return refuse(c, e, "pad_token_id is not a position");
    return derive_encoder(c, (uint32_t)pad + 1, e);
}

/* Trained on fewer positions than n_positions states. */
static int derive_nomic(struct config *c, struct err *e)
{
    const json_t *f = c->fields;
    int64_t trained = json_opt_i64(f, "max_trained_positions", 2048);
    if (json_opt_i64(f, "moe_every_n_layers", 0) > 0)
        return refuse(c, e, "its experts (moe_every_n_layers) are not in our tables");
    if (c->context != 8192 || trained != 2048)
        return refuse(c, e, "n_positions is not 8192, or max_trained_positions not 2048");
    if (json_is_true(json_object_get(f, "causal")) || json_is_true(json_object_get(f, "prenorm")) ||
        json_is_true(json_object_get(f, "qkv_proj_bias")) ||
        json_is_true(json_object_get(f, "mlp_fc1_bias")) ||
        json_is_true(json_object_get(f, "mlp_fc2_bias")) ||
        json_is_true(json_object_get(f, "rotary_emb_interleaved")) ||
        json_opt_real(f, "rotary_emb_fraction", 1.0) != 1.0 ||
        json_is_number(json_object_get(f, "rotary_emb_scale_base")))
        return refuse(c, e,
                      "causal, prenorm, biases, and partial, interleaved or scaled rotation are "
                      "not those of nomic-embed-text");
    c->context = 2048;
    read_labels(c);
    return find_pooling(c, e);
}

#define BERT_ACTS "gelu|gelu_new|gelu_fast|gelu_python|gelu_pytorch_tanh"

const struct arch arch_bert = {
    .hf_name = "BertModel|BertForMaskedLM",
    .gguf_name = "bert",
    .tensors = bert_tensors,
    .keys = bert_keys,
    .acts = BERT_ACTS,
    .strip = "bert.",
    .defaults = "{'max_position_embeddings':512,'type_vocab_size':2,'layer_norm_eps':1e-12}",
    .encoder = true,
    .derive = derive_bert,
};

const struct arch arch_distilbert = {
    .hf_name = "DistilBertModel|DistilBertForMaskedLM",
    .gguf_name = "bert",
    .tensors = distilbert_tensors,
    .keys = distilbert_keys,
    .acts = BERT_ACTS,
    .strip = "distilbert.",
    .defaults = "{'max_position_embeddings':512}",
    .encoder = true,
    .derive = derive_distilbert,
};

const struct arch arch_roberta = {
    .hf_name = "RobertaModel|RobertaForSequenceClassification|XLMRobertaModel|"
               "XLMRobertaForSequenceClassification",
    .gguf_name = "bert",
    .tensors = roberta_tensors,
    .keys = bert_keys,
    .acts = BERT_ACTS,
    .strip = "roberta.",
    .defaults = "{'max_position_embeddings':512,'type_vocab_size':2,'layer_norm_eps':1e-12,"
                "'pad_token_id':1}",
    .encoder = true,
    .derive = derive_roberta,
};

const struct arch arch_nomic = {
    .hf_name = "NomicBertModel",
    .gguf_name = "nomic-bert",
    .tensors = nomic_tensors,
    .keys = bert_keys,
    .acts = "swiglu",
    .defaults = "{'type_vocab_size':2,'layer_norm_epsilon':1e-12,'rotary_emb_base':10000}",
    .encoder = true,
    .derive = derive_nomic,
};
