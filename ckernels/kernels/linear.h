/* linear.h - products with weights: the weight in its multiplication form, what a product reads and writes, and the list of kernels.
 *
 *      y (T, N) = x (T, K) W^T (+ bias) (+ residual)            W (N, K): N rows ("outputs") of K columns
 *
 * Every way to compute it realises the same order of float operations for each element of y, so it makes no difference to the bits how
 * many rows x has, how the work was cut, or whether the weight was repacked. The order, for a quantised weight (kernels/formats.h has A, A2, M):
 *
 *      acc = 0; for each block of 32 columns, ascending:
 *          i = sum u q - zero * sum q                     exact integers (of each half, where a format has halves)
 *          t = float(i) * A  [ t = fma(float(i2), A2, t) ] [ t = fma(M, float(sum q), t) ]
 *          acc = fma(t, d, acc)                           d, q: the activation block (linear_quantize.c)
 *      y = acc [+ bias] [+ residual]
 *
 * A long format, whose superblocks of 256 columns have integers for the scales sc and minimums mn of their groups, takes x rounded by scales that
 * are alike in 256 columns but for a power of two, dx 2^k in each block of 32, and its order is:
 *
 *      acc = 0; for each superblock, ascending:
 *          i = sum 2^k sc (sum u q - zero * sum q)        exact integers, over the groups of 16 or 32 columns
 *          t = float(i) * d  [ t = fma(dmin, float(-sum 2^k mn sum q), t) ]
 *          acc = fma(t, dx, acc)
 *
 * and for F32, F16 and BF16:  acc = 0; for each k ascending: acc = fma(w[k], x[k], acc).
 *
 * F16 and BF16 can be multiplied in bf16 instead (ZL_WEIGHT_BF16): w and x are rounded to bf16 (to nearest, ties to even), and
 *
 *      acc = 0; for each i = 0, 2, 4, ... below K: acc = fma'(w[i + 1], x[i + 1], acc); acc = fma'(w[i], x[i], acc)
 *
 * which is vdpbf16ps: fma' takes denormal numbers for zeros and gives zeros for them; beyond an odd K stand zeros.
 */
#ifndef ZL_KERNELS_LINEAR_H
#define ZL_KERNELS_LINEAR_H
#include "../include/zl.h"
#include <stdint.h>

struct zl_kernels;

/* The form of panels for products in bf16: [K / 2][L][2] values of 16 bits as the file has them; a zero beside an odd last column. */
enum { ZL_PAIRS = -1 };

/* Whether a format is long (see above). TQ1_0 and TQ2_0 have superblocks too, of one scale: nothing would be gained. */
static inline int zl_is_long(int type) {
    switch (type) {
    case ZL_TYPE_Q2_K: case ZL_TYPE_Q3_K: case ZL_TYPE_Q4_K: case ZL_TYPE_Q5_K: case ZL_TYPE_Q6_K: case ZL_TYPE_IQ1_S: case ZL_TYPE_IQ1_M:
    case ZL_TYPE_IQ2_XXS: case ZL_TYPE_IQ2_XS: case ZL_TYPE_IQ2_S: case ZL_TYPE_IQ3_XXS: case ZL_TYPE_IQ3_S: case ZL_TYPE_IQ4_XS: return 1;
    default: return 0;
    }
}

typedef struct zl_mapping zl_mapping; /* core/mapping.c */
struct zl_weight {
    int type;
    int form;                  /* of the panels, for `pack`: the type, or ZL_PAIRS for products in bf16 */
    int mapped;                /* 1: `data` are the file's rows; 0: `panels` are ours               */
    int let_go;                /* the file's pages that were looked up in are let go again         */
    int64_t stack;             /* matrices, one behind the other, each in whole panels: experts; else 1 */
    int64_t rows, cols;        /* of one of them                                                  */
    int64_t row_bytes;         /* of one row in the file                                          */
    const uint8_t *data;       /* mapped form                                                     */
    uint8_t *panels;           /* panel form: stack * ceil(rows / L) panels of panel_bytes         */
    int64_t panel_bytes, own_bytes;
    zl_mapping *mapping;       /* that the panels were cut from, or NULL: they are memory of their own */
    const struct zl_kernels *k; /* the variant whose panel form this is                             */
};

/* T rows of x. Quantised, they stand in groups: as many rows as a tile of the variant takes (the last group: what is left), interleaved so
 * that a tile reads all it needs of x forwards from one pointer. A group of g rows, per block of 32 columns:
 *
 *      word        0 .. 7            8        9            10               11
 *               | q, 4 a word  | d (float) | -sum q | -sum q[0..15] | -sum q[16..31] |        int32; of row n at (12 block + word) g + n
 *
 * Row t of the first group begins at `blocks`; a row takes 12 K / 32 words, so the group that begins with row t begins at t times that.
 *
 * For long formats d is dx, the same in the eight blocks of 256 columns; word 9 has 2^k times the halves' sums side by side, 16 bits each, the first
 * lowest; word 10 is k, 0 to ZL_X_SHIFTS, and nobody reads word 11. The block of the largest magnitude has the largest k. */
enum { ZL_X_WORDS = 12, ZL_X_D = 8, ZL_X_SUM = 9, ZL_X_HALVES = 9, ZL_X_HALF = 10, ZL_X_SHIFT = 10, ZL_X_SHIFTS = 4 };
/* What a block's own scale, amax 2^-j / 127, is multiplied by to be dx. */
static inline float zl_x_unit(int j) { return (float)(1 << j) / (float)(1 << ZL_X_SHIFTS); }
/* For float weights they stand in groups too, of another size, as they are: of a group of g rows, column k of row n at k g + n. The group
 * that begins with row t begins at t K; a lone row is its own group. For products in bf16 words of two columns take the place of floats,
 * rounded to bf16, the even column in the low half: K / 2 a row, rounded up, the missing column a zero. */
typedef struct {
    int64_t n, cols;
    const float *x;            /* (T, K)                            */
    const int32_t *blocks;     /* quantised, or NULL; what the weight at hand reads */
    const int32_t *longs;      /* quantised for long formats, or NULL */
    const float *columns;      /* in groups for float weights, or NULL */
    const uint32_t *pairs;     /* in groups for products in bf16, or NULL */
} zl_activation;

typedef struct {
    float *y;                  /* (T, N)                              */
    int64_t cols;              /* N                                   */
    const float *bias;         /* (N) or NULL                         */
    const float *residual;     /* (T, N) or NULL; may be y itself     */
} zl_result;

/* Vectors that the scales of a pair of superblocks take, as tiles read them (linear_long.h). */
enum { ZL_LONG_VECTORS = 52 };
static inline int64_t zl_long_scratch(const struct zl_weight *w, int lanes) {
    return zl_is_long(w->type) ? w->cols / 256 * ZL_LONG_VECTORS * 4 * lanes : 0;
}

/* Scratch of linear_quant per thread: the pair of panels that it works on, packed, when w is mapped; scales of a long format. */
static inline int64_t zl_quant_scratch(const struct zl_weight *w, int lanes) {
    return (w->mapped ? 2 * w->panel_bytes : 0) + zl_long_scratch(w, lanes);
}

/* Vectors that a block of 32 columns of a panel takes at most in the common form of formats_wide.h; beside the above, linear_quant's scratch has
 * room for a pair of panels of them where a format goes by it. */
enum { ZL_WIDE_VECTORS = 10 };
static inline int64_t zl_wide_scratch(const struct zl_weight *w, int lanes) { return w->cols / 32 * 2 * ZL_WIDE_VECTORS * 4 * lanes; }

/* FEW: rows of x up to which the memory, and not arithmetic, sets the pace. FLOAT_PANELS: what linear_float takes at a time, at most. */
enum { ZL_FEW = 8, ZL_FLOAT_PANELS = 4 };
/* Scratch of linear_float per thread: the panels that it works on, packed, when w is mapped. */
static inline int64_t zl_float_scratch(const struct zl_weight *w) { return w->mapped ? ZL_FLOAT_PANELS * w->panel_bytes : 0; }

#define ZL_KERNELS_LINEAR(X)                                                                                                           \
    /* (linear_quantize.c) n values, a multiple of `per`: 32, or 256 as for long formats -> q (n), d (n/32), s (n/32, 2) */             \
    X(void, quantize_activation, (int64_t n, int per, const float *x, int8_t *q, float *d, int16_t *s))                                \
    /* (linear_quantize.c) the same of g rows, `cols` floats apart, as one group of a zl_activation; g at most the variant's `group` */ \
    X(void, quantize_group, (int64_t g, int64_t cols, int per, const float *x, int32_t *to))                                           \
    /* (dequantize.c) file bytes of n values -> floats, bit for bit as ggml */                                                         \
    X(void, dequantize, (int type, int64_t n, const uint8_t *src, float *dst))                                                         \
    /* (linear_pack.c) columns [k0, k0 + k) of n <= L file rows, row_bytes apart -> one panel (or that strip of it); k0 begins a       \
     * quant block of the file; type: a weight's form */                                                                                                      \
    X(void, pack, (int type, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel))                \
    /* one row of a panel back to floats, bit for bit as dequantize */                                                                 \
    X(void, unpack_row, (int type, int64_t k, const uint8_t *panel, int lane, float *dst))                                             \
    /* (linear_quant.c) outputs of panels [begin, end) for rows [t0, t1) of x; t0 begins a group, t1 ends one; scratch: zl_quant_scratch */ \
    X(void, linear_quant, (const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,       \
                           const zl_result *r, uint8_t *scratch))

/* All of linear_float.c: what a variant has of its own although it shares the other kernels (simd.h, ZL_FLOAT_FN). */
#define ZL_KERNELS_FLOAT(X)                                                            \
    /* as linear_quant, for F32, F16 and BF16, with groups of float_group rows; scratch: zl_float_scratch */                   \
    X(void, linear_float, (const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,       \
                           const zl_result *r, uint8_t *scratch))                                                                      \
    /* g rows, `cols` floats apart, as one group of zl_activation.columns; g at most float_group */                    \
    X(void, interleave_group, (int64_t g, int64_t cols, const float *x, float *to))                                                    \
    /* the same of zl_activation.pairs */                                                                             \
    X(void, interleave_bf16, (int64_t g, int64_t cols, const float *x, uint32_t *to))

#endif
