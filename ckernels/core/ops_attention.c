/* ops_attention.c - opcodes over the kernels of attention: checks, scratch, and the cutting into chunks. */
#include "core.h"

const zl_op_def zl_ops_attention[] = {
    {.code = 0},
};
