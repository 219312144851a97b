/* quantize.h - the list of kernels that make quant blocks from floats.
 *
 * quantize.c         plain halves, blocks of 32 with one scale     quantize_k.c    superblocks with quantised scales
 * quantize_iq.c      codes that number vectors or levels           quantize_low.c  ternary, binary, 4-bit floats
 * quantize_weighted.c   blocks of 32 with one scale, by importance
 *
 * What they share inside is in quantize_lanes.h.
 */
#ifndef ZL_KERNELS_QUANTIZE_H
#define ZL_KERNELS_QUANTIZE_H
#include <stdint.h>

#define ZL_KERNELS_QUANTIZE(X)                                                                                                        \
    /* (quantize.c) n values (whole quant blocks, all finite) of a matrix whose rows have `cols`, from value `at` of it on ->          \
     * file bytes. x points at value `at`; importance (cols) is how much an error in a column matters, none of it negative, or NULL;   \
     * dst is where the quant block of value `at` goes. */                                                                             \
    X(void, quantize, (int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst))
#endif
