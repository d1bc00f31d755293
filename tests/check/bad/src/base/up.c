/* A low module that includes a higher one. */
#include "run/run.h"
#include "store.h"
#include "tensor/dtype.h"
