/* rows.h - the kernels of kernels/rows*.c, as the list that kernels.h makes the dispatch table from. */
#ifndef ZL_KERNELS_ROWS_H
#define ZL_KERNELS_ROWS_H
#include <stdint.h>
#define ZL_KERNELS_ROWS(X)
#endif
