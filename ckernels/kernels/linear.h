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
 * and for F32, F16 and BF16:  acc = 0; for each k ascending: acc = fma(w[k], x[k], acc).
 */
#ifndef ZL_KERNELS_LINEAR_H
#define ZL_KERNELS_LINEAR_H
#include <stdint.h>

struct zl_kernels;

struct zl_weight {
    int type;
    int mapped;                /* 1: `data` are the file's rows; 0: `panels` are ours               */
    int64_t rows, cols;
    int64_t row_bytes;         /* of one row in the file                                          */
    const uint8_t *data;       /* mapped form                                                     */
    uint8_t *panels;           /* panel form: ceil(rows / L) panels of panel_bytes                 */
    int64_t panel_bytes, own_bytes;
    const struct zl_kernels *k; /* the variant whose panel form this is                             */
};

/* T rows of x. Quantised, they stand in groups: as many rows as a tile of the variant takes (the last group: what is left), interleaved so
 * that a tile reads all it needs of x forwards from one pointer. A group of g rows, per block of 32 columns:
 *
 *      word        0 .. 7            8        9            10               11
 *               | q, 4 a word  | d (float) | -sum q | -sum q[0..15] | -sum q[16..31] |        int32; of row n at (12 block + word) g + n
 *
 * Row t of the first group begins at `blocks`; a row takes 12 K / 32 words, so the group that begins with row t begins at t times that. */
enum { ZL_X_WORDS = 12, ZL_X_D = 8, ZL_X_SUM = 9, ZL_X_HALF = 10 };
typedef struct {
    int64_t n, cols;
    const float *x;            /* (T, K), read by float weights    */
    const int32_t *blocks;     /* quantised, or NULL                */
} zl_activation;

typedef struct {
    float *y;                  /* (T, N)                              */
    int64_t cols;              /* N                                   */
    const float *bias;         /* (N) or NULL                         */
    const float *residual;     /* (T, N) or NULL; may be y itself     */
} zl_result;

/* Scratch of linear_quant per thread: the pair of panels that it works on, packed, when w is mapped; their scales as floats. */
static inline int64_t zl_quant_scratch(const struct zl_weight *w, int lanes) {
    return (w->mapped ? 2 * w->panel_bytes : 0) + (w->cols / 32) * 2 * 2 * lanes * 4;
}

/* Geometry of the float kernels for many rows: a tile of TILE_ROWS rows of W and FLOAT_STRIP columns is widened to floats in scratch and
 * used for up to TILE_TOKENS rows of x. FEW: rows of x up to which the other kernel is meant (it takes no more), with FEW_PANELS at a time. */
enum { ZL_FEW = 8, ZL_FEW_PANELS = 2, ZL_TILE_ROWS = 64, ZL_TILE_TOKENS = 512, ZL_FLOAT_STRIP = 256 };
enum {
    ZL_FLOAT_BYTES = ZL_TILE_ROWS * ZL_FLOAT_STRIP * 4,
    ZL_REPACK_BYTES = 16 * ZL_FLOAT_STRIP * 4 + 4096,                /* one strip of one panel of a mapped weight, at most 4 bytes a value */
    ZL_SUMS_BYTES = ZL_TILE_ROWS * ZL_TILE_TOKENS * 4,               /* float accumulators                                    */
    ZL_MANY_SCRATCH = ZL_FLOAT_BYTES + ZL_REPACK_BYTES + ZL_SUMS_BYTES
};

#define ZL_KERNELS_LINEAR(X)                                                                                                           \
    /* (linear_quantize.c) n values, a multiple of 32 -> q (n), d (n/32), s (n/32, 2) */                                               \
    X(void, quantize_activation, (int64_t n, const float *x, int8_t *q, float *d, int16_t *s))                                         \
    /* (linear_quantize.c) the same of g rows, `cols` floats apart, as one group of a zl_activation; g at most the variant's `group` */ \
    X(void, quantize_group, (int64_t g, int64_t cols, const float *x, int32_t *to))                                                    \
    /* (dequantize.c) file bytes of n values -> floats, bit for bit as ggml */                                                         \
    X(void, dequantize, (int type, int64_t n, const uint8_t *src, float *dst))                                                         \
    /* (linear_pack.c) columns [k0, k0 + k) of n <= L file rows, row_bytes apart -> one panel (or that strip of it); k0 begins a       \
     * quant block of the file */                                                                                                      \
    X(void, pack, (int type, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel))                \
    /* one row of a panel back to floats, bit for bit as dequantize */                                                                 \
    X(void, unpack_row, (int type, int64_t k, const uint8_t *panel, int lane, float *dst))                                             \
    /* (linear_quant.c) outputs of panels [begin, end) for rows [t0, t1) of x; t0 begins a group, t1 ends one; scratch: zl_quant_scratch */ \
    X(void, linear_quant, (const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,       \
                           const zl_result *r, uint8_t *scratch))                                                                      \
    /* (linear_float.c) outputs of panels [begin, end) for T <= ZL_FEW rows; scratch: ZL_FEW_PANELS, when w is mapped */                \
    X(void, few_float, (const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r, uint8_t *scratch)) \
    /* (linear_float.c) the ZL_TILE_ROWS outputs from `row` on (fewer at the end) for rows [t0, t1) of x, at most ZL_TILE_TOKENS;       \
     * scratch: ZL_MANY_SCRATCH bytes */                                                                                               \
    X(void, many_float, (const struct zl_weight *w, int64_t row, int64_t t0, int64_t t1, const zl_activation *x, const zl_result *r, uint8_t *scratch))
#endif
