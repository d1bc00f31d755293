/* Denied, sibling, private. */
#include <jansson.h>
#include "llama.h"
#include "recipe/recipe.h"
#include "bake/bake.h"
#include "format/gguf_int.h"
#include "measure/measure_int.h"
#include "nowhere/nowhere.h"
#include "base/banned.h"
#include "base/err.h"
