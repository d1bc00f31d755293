/* The encoders for AVX-512. Compiled with its flags; reached only through dispatch.c's check. */
#if defined(__x86_64__)

#include <math.h>
#include <string.h>

#include "quant/kernel_int.h"
#include "quant/lanes_avx512_int.h"
#include "tensor/convert.h"
#include "base/banned.h"

#include "quant/encode_one_int.h"
#include "quant/encode_plain_int.h"
#define KERNEL_SET  kernel_set_avx512
#define KERNEL_NAME "avx512"
#include "quant/kernel_table_int.h"

#endif
