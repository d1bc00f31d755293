/* A module that LAYERS does not have. */
#include "base/banned.h"
