/* rows.h - the row-wise kernels (kernels/rows_*.c), as the list that kernels.h makes the dispatch table from.
 *
 * All of them work on float32 rows. `out` may be the input itself (in place), never a shifted part of it. The result of a row, or of
 * an element, depends on that row or element alone: not on how many others are beside it, nor on where a call was cut into chunks.
 */
#ifndef ZL_KERNELS_ROWS_H
#define ZL_KERNELS_ROWS_H
#include <stdint.h>
#define ZL_KERNELS_ROWS(X)                                                                                                             \
    /* x, out (n, m); w, b (m) or NULL */                                                                                              \
    X(void, rms_norm, (int64_t n, int64_t m, const float *x, const float *w, float eps, float *out))                                   \
    X(void, layer_norm, (int64_t n, int64_t m, const float *x, const float *w, const float *b, float eps, float *out))                 \
    /* x, out (n, m): each row becomes exp(scale*x - max) / sum */                                                                     \
    X(void, softmax, (int64_t n, int64_t m, const float *x, float scale, float *out))                                                  \
    /* cosines and sines of position * inv_freq[i], i < half, times scale, in the layout `mode` wants -> table (4 * half) */           \
    X(void, rope_table, (int64_t half, int32_t position, const float *inv_freq, float scale, int mode, float *table))                  \
    /* x, out (heads, d): rotates the first 2*half channels of each head by one row's table, copies the rest */                        \
    X(void, rope, (int64_t heads, int64_t d, int64_t half, int mode, const float *table, const float *x, float *out))                  \
    /* n elements; fn is a zl_unary */                                                                                                 \
    X(void, unary, (int fn, int64_t n, const float *x, float *out))                                                                    \
    X(void, glu, (int fn, int64_t n, const float *gate, const float *up, float *out))                                                  \
    X(void, add, (int64_t n, const float *x, const float *y, float *out))                                                              \
    X(void, mul, (int64_t n, const float *x, const float *y, float *out))                                                              \
    X(void, scale, (int64_t n, const float *x, float factor, float *out))                                                              \
    X(void, softcap, (int64_t n, const float *x, float cap, float *out))                                                               \
    /* the min(k, end-begin) best of x[begin..end) as a heap of rank words (rows_top_k.h); begin is a multiple of 32; mask NULL or     \
     * one bit per element of x; returns how many there are */                                                                         \
    X(int64_t, top_k, (const float *x, const uint32_t *mask, int64_t begin, int64_t end, int64_t k, uint64_t *heap))                    \
    /* (rows_scan.c, where each says what it does) passes over a row of logits */                                                     \
    X(float, row_best, (int64_t n, const float *x))                                                                                    \
    X(void, row_weights, (int64_t n, const float *x, float best, float *w, int64_t *total, double *first))                             \
    X(void, row_moments, (int64_t n, const float *x, float shift, double *sums))                                                       \
    X(void, row_near, (int64_t n, const float *x, float middle, float *out))                                                           \
    X(float, row_sample, (int64_t n, const float *key, const float *w, float top, int64_t every, int32_t *number, double *mass))       \
    X(int64_t, row_list, (int64_t n, const float *key, const float *w, float low, int64_t last, float high, int32_t *ids,              \
                          int64_t room, int64_t *above))                                                                               \
    X(int64_t, row_keep, (int64_t n, const float *x, float least, int64_t last, float *out))                                           \
    /* (matmul.c) columns begin..end of out (m, n) = a (m, k) b (k, n); begin is a multiple of 2L */                                   \
    X(void, matmul, (int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out, int64_t begin, int64_t end))
#endif
