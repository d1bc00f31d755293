/* The encoders for AArch64 NEON. Compiled with its flags; reached only through dispatch.c's
 * check. */
#if defined(__aarch64__)

#include <math.h>
#include <string.h>

#include "quant/kernel_int.h"
#include "quant/lanes_neon_int.h"
#include "tensor/convert.h"
#include "base/banned.h"

#include "quant/encode_one_int.h"
#include "quant/encode_plain_int.h"
#define KERNEL_SET  kernel_set_neon
#define KERNEL_NAME "neon"
#include "quant/kernel_table_int.h"

#endif
