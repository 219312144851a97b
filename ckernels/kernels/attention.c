/* attention.c - kernels: spans over cache pages. Compiled once per ISA variant. */
#include "kernels.h"
