/* attention.h - the kernels of kernels/attention.c: storing keys and values in cache pages, and attention over one span of them.
 *
 * A span is the 64 absolute positions of one page. What one query row gets out of a span, and how spans are put together, is fixed
 * here once; whoever cuts the work (many rows, one row, one span per thread) calls these kernels and gets the same bits:
 *
 *      y_j = sum_c k[c][j] q[c]                  lane = key, c ascending, one accumulator; q carries the scale (zl_query_factor)
 *      x_j = y_j, in powers of two               with a softcap: x_j = cap log2(e) tanh(y_j)
 *      x_j = fma(a_h, p_j - p, x_j)              with slopes (ALiBi): a_h = slope[h] log2(e), rounded once; p_j - p, the key's position less
 *                                                the row's own, as a float (exact to 2^24 positions)
 *      m_s = max over the visible j of x_j
 *      p_j = 2^(x_j - m_s)                       0 where j is not visible
 *      l_s = sum_j p_j                           vectors of L keys added in ascending order, then the tree of vf_sum
 *      o_s[c] = sum_j p_j v[j][c]                lane = channel, visible j ascending, one accumulator
 *
 *      running (m, l, o), at first (-inf, 0, 0):   M = max(m, m_s)   a = 2^(m - M)   b = 2^(m_s - M)
 *      m = M    l = fma(l, a, l_s b)    o = fma(o, a, o_s b)          spans ascending; at last o / l
 *
 * A key that a row does not see is never multiplied into its o (its v may be NaN: a page that was used before), and its x_j is
 * replaced before the maximum. A span in which a row sees nothing leaves that row's state alone.
 *
 * Spans of four pages were tried (Zen 5, avx512, tools/bench_attention.c): decode the same, prefill after 2,048 positions 9 to 18% faster,
 * since what a span costs beside its products (maximum, sums, merge) is paid a quarter as often. One page is kept for what depends on it:
 * a span is the unit that threads share in decode and that a window gives up.
 */
#ifndef ZL_KERNELS_ATTENTION_H
#define ZL_KERNELS_ATTENTION_H
#include <stdint.h>

enum {
    ZL_PAGE = 64,       /* positions of a page, which is a span                                       */
    ZL_KEY_GROUP = 16,  /* keys that are interleaved in a key page: [4 groups][dk][16 keys]            */
    ZL_KV_BLOCK = 32,   /* channels of a quant block of a Q8_0 cache                                  */
    ZL_QUERY_TILE = 8   /* the most query rows that share one pass over keys and values in registers   */
};

/* What queries are multiplied by before they meet keys: scores then are exponents of two, or what tanh takes. */
static inline float zl_query_factor(float scale, float softcap) { return softcap > 0 ? scale / softcap : scale * 1.44269504088896341f; }
static inline float zl_slope_factor(float slope) { return slope * 1.44269504088896341f; }

/* Query rows of one kv head (its heads, and any number of tokens), and what they have gathered so far. */
typedef struct {
    int n_q, tile;       /* query rows; rows of a tile, at most ZL_QUERY_TILE (the last tile may have fewer)                */
    int dk, dv;          /* channels of a key and of a value                                                         */
    float softcap;       /* 0: none                                                                                  */
    const float *q;      /* [ceil(n_q/tile)][dk][tile]: rows interleaved, so that one address serves a tile; scaled    */
    float *p;            /* [ZL_QUERY_TILE][ZL_PAGE] scratch: scores, then weights                                     */
    const int32_t *lo, *hi; /* [n_q] row i sees the keys lo[i] <= j < hi[i] of the span; lo >= hi: none               */
    float *m, *l;        /* [n_q] maximum and sum                                                                    */
    float *const *o;     /* [n_q] -> dv weighted values                                                              */
    int merge;           /* 1: merge the span into (m, l, o); 0: leave the span's own (m_s, l_s, o_s) there            */
    const float *slope;  /* NULL, or [n_q] a_h of row i: what a position adds to a score                                 */
    const int32_t *away; /* [n_q] where there are slopes: the position of the span's first key, less that of row i       */
} zl_attention;

/* One span of one kv head. */
typedef struct {
    int k_f16, v_f16;    /* 1: half precision, 0: float32                                                            */
    const void *k;       /* [4][dk][16]                                                                              */
    const void *v;       /* [64][v_stride], v_stride at least L                                                       */
    int64_t v_stride;
    const void *next_k;  /* the keys that will be asked for next, to be fetched meanwhile; any address will do         */
} zl_attention_span;

#define ZL_KERNELS_ATTENTION(X)                                                                                                    \
    /* x (n) -> n values of a page, `stride` values apart (16 in a key page, 1 in a value page); f16: rounded to even */           \
    X(void, kv_store, (int f16, int64_t n, const float *x, void *dst, int64_t stride))                                             \
    /* src (rows, n) -> dst (rows, dst_stride) float32, exactly; the rest of each row up to a whole vector is zero */              \
    X(void, kv_load, (int f16, int64_t rows, int64_t n, const void *src, float *dst, int64_t dst_stride))                          \
    /* x (n), n a multiple of 32 -> n int8 `stride` apart and a half per 32 of them, `stride` apart too: d = max|x| / 127,         \
     * code = round(x * (127 / max|x|)); a block with a value that is not finite has d = NaN. (kernels/linear_quantize.c) */        \
    X(void, kv_store_q8, (int64_t n, const float *x, int8_t *codes, uint16_t *scales, int64_t stride))                             \
    /* A Q8_0 page of heads of n channels -> the same page as float32, exactly (8 bits times 11): keys [4][n][16], else values      \
     * [64][n]. `ahead`: the page that will be asked for next. */                                                                   \
    X(void, kv_load_q8, (int keys, int64_t n, const void *src, float *dst, const void *ahead))                                     \
    X(void, attention_span, (const zl_attention *a, const zl_attention_span *s))                                                   \
    /* merge n spans of one row, ms and ls [n], os [n][stride], into its state (m, l, o): exactly what attention_span does with    \
     * merge = 1, span by span. A span whose ls is 0 was not seen. */                                                              \
    X(void, attention_merge, (int64_t n, int64_t dv, float *m, float *l, float *o, const float *ms, const float *ls, const float *os, int64_t stride)) \
    /* o = o / l; a row that saw nothing (l = 0) keeps its zeros */                                                                \
    X(void, attention_finish, (int64_t dv, float l, float *o))
#endif
