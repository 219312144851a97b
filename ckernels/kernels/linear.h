/* linear.h - the kernels of kernels/linear*.c, as the list that kernels.h makes the dispatch table from. */
#ifndef ZL_KERNELS_LINEAR_H
#define ZL_KERNELS_LINEAR_H
#include <stdint.h>
#define ZL_KERNELS_LINEAR(X)
#endif
