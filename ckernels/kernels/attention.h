/* attention.h - the kernels of kernels/attention.c: storing keys and values in cache pages, and attention over one span of them.
 *
 * A span is the 64 absolute positions of one page. What one query row gets out of a span, and how spans are put together, is fixed
 * here once; whoever cuts the work (many rows, one row, one span per thread) calls these kernels and gets the same bits:
 *
 *      x_j = scale * sum_c k[c][j] q[c]          lane = key, c ascending, one accumulator; then softcap: cap * tanh(x_j / cap)
 *      m_s = max over the visible j of x_j
 *      p_j = exp(x_j - m_s)                      0 where j is not visible
 *      l_s = sum_j p_j                           vectors of L keys added in ascending order, then the tree of vf_sum
 *      o_s[c] = sum_j p_j v[j][c]                lane = channel, visible j ascending, one accumulator
 *
 *      running (m, l, o), at first (-inf, 0, 0):   M = max(m, m_s)   a = exp(m - M)   b = exp(m_s - M)
 *      m = M    l = fma(l, a, l_s b)    o = fma(o, a, o_s b)          spans ascending; at last o / l
 *
 * A key that a row does not see is never multiplied into its o (its v may be NaN: a page that was used before), and its x_j is
 * replaced before the maximum. A span in which a row sees nothing leaves that row's state alone.
 */
#ifndef ZL_KERNELS_ATTENTION_H
#define ZL_KERNELS_ATTENTION_H
#include <stdint.h>

enum {
    ZL_SPAN = 64,       /* keys of a span = positions of a page                               */
    ZL_KEY_GROUP = 16,  /* keys that are interleaved in a key page: [4 groups][dk][16 keys]    */
    ZL_QUERY_TILE = 6   /* query rows that share one pass over keys and values in registers    */
};

/* Query rows of one kv head (its heads, and any number of tokens), and what they have gathered so far. */
typedef struct {
    int n_q;             /* query rows                                                                              */
    int dk, dv;          /* channels of a key and of a value                                                         */
    float scale, softcap;/* softcap 0: none                                                                          */
    const float *q;      /* [ceil(n_q/6)][dk][6]: six rows interleaved, so that one address serves a tile              */
    float *p;            /* [ceil(n_q/6)*6][64] scratch: scores, then weights                                          */
    const int32_t *lo, *hi; /* [n_q] row i sees the keys lo[i] <= j < hi[i] of the span; lo >= hi: none               */
    float *m, *l;        /* [n_q] maximum and sum                                                                    */
    float *const *o;     /* [n_q] -> dv weighted values                                                              */
    int merge;           /* 1: merge the span into (m, l, o); 0: leave the span's own (m_s, l_s, o_s) there            */
} zl_attention;

/* One span of one kv head: the pages as they are in the cache, or widened to float32 by kv_load. */
typedef struct {
    const void *k;       /* [4][dk][16]                                                                              */
    const void *v;       /* [64][v_stride]: whole vectors of L are read, so v_stride is a multiple of L               */
    int v_stride;
    int k_f16, v_f16;    /* 1: half precision, 0: float32                                                            */
    const void *next_k;  /* the keys that will be asked for next, to be fetched meanwhile; any address will do         */
} zl_attention_page;

#define ZL_KERNELS_ATTENTION(X)                                                                                                    \
    /* x (n) -> n values of a page, `stride` values apart (16 in a key page, 1 in a value page); f16: rounded to even */           \
    X(void, kv_store, (int f16, int64_t n, const float *x, void *dst, int64_t stride))                                             \
    /* src (rows, n) -> dst (rows, dst_stride) float32, exactly; the rest of each row up to a whole vector is zero */              \
    X(void, kv_load, (int f16, int64_t rows, int64_t n, const void *src, float *dst, int64_t dst_stride))                          \
    X(void, attention_span, (const zl_attention *a, const zl_attention_page *page))                                                \
    /* merge one span's (ms, ls, os) into the state (m, l, o) of one row: exactly what attention_span does with merge = 1 */       \
    X(void, attention_merge, (int64_t dv, float *m, float *l, float *o, float ms, float ls, const float *os))                      \
    /* o = o / l; a row that saw nothing (l = 0) keeps its zeros */                                                                \
    X(void, attention_finish, (int64_t dv, float l, float *o))
#endif
