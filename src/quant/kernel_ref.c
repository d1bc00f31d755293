/* The encoders in plain C: the truth the others are compared with. */
#include <math.h>
#include <string.h>

#include "quant/kernel_int.h"
#include "quant/lanes_ref_int.h"
#include "tensor/convert.h"
#include "base/banned.h"

#include "quant/encode_one_int.h"
#include "quant/encode_plain_int.h"
#define KERNEL_SET  kernel_set_ref
#define KERNEL_NAME "ref"
#include "quant/kernel_table_int.h"
