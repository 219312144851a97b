/* attention.h - the kernels of kernels/attention*.c, as the list that kernels.h makes the dispatch table from. */
#ifndef ZL_KERNELS_ATTENTION_H
#define ZL_KERNELS_ATTENTION_H
#include <stdint.h>
#define ZL_KERNELS_ATTENTION(X)
#endif
