/* linear_wide.c - products with the formats of formats_wide.h: a pair of panels is widened, and multiplied in the common form.
 *
 *      one row of x       where the type has a way of its own (lone_k.h, lone_iq.h): codes stay in registers; else
 *                         quant block by quant block: widened into 12 vectors per 32 columns that stay in the nearest cache, then multiplied
 *      more               the pair is widened over all of K (it stays in the L2 cache), then group after group of rows multiplied
 *
 * The order of operations is linear.h's, with Q2_K's two minimums:  t = fma(M, -X, t), t = fma(M2, -X2, t)  of the halves' sums X, X2.
 *
 * There is one tile per form of codes and scales, not per format; what is a format's own is its function that widens, which has no rows of
 * x in it. So a format costs little to compile.
 */
#include "linear_store.h"
#include "lone_iq.h"
#include "lone_k.h"

typedef void widen_(const uint8_t *p, uint8_t *to);

ZL_INLINE widen_ *widen_of(int type) {
    switch (type) {
    case ZL_TYPE_Q2_K: return widen_q2_k;
    case ZL_TYPE_Q3_K: return widen_q3_k;
    case ZL_TYPE_Q6_K: return widen_q6_k;
    case ZL_TYPE_IQ1_S: return widen_iq1_s;
    case ZL_TYPE_IQ1_M: return widen_iq1_m;
    case ZL_TYPE_IQ2_XXS: return widen_iq2_xxs;
    case ZL_TYPE_IQ2_XS: return widen_iq2_xs;
    case ZL_TYPE_IQ2_S: return widen_iq2_s;
    case ZL_TYPE_IQ3_XXS: return widen_iq3_xxs;
    case ZL_TYPE_IQ3_S: return widen_iq3_s;
    case ZL_TYPE_IQ4_NL: return widen_iq4_nl;
    case ZL_TYPE_IQ4_XS: return widen_iq4_xs;
    case ZL_TYPE_TQ1_0: return widen_tq1_0;
    case ZL_TYPE_TQ2_0: return widen_tq2_0;
    case ZL_TYPE_Q1_0: return widen_q1_0;
    case ZL_TYPE_Q2_0: return widen_q2_0;
    case ZL_TYPE_MXFP4: return widen_mxfp4;
    default: return widen_nvfp4;
    }
}

/* ---- the tile ------------------------------------------------------------------------------------------------------------------------ */

/* acc[p * N + n] += product of the widened blocks at w[p] and row n of a group of g rows, as `tile` does (linear_tile.h). */
ZL_INLINE void wide_tile(const int codes, const int halves, const int mins, const int N, const uint8_t *const *w, int64_t blocks, const int32_t *x,
                         const int64_t g, vf *acc) {
    const int zero = codes_bias(codes), is_signed = codes == SIGNED_CODES, span = halves ? 4 : 8, size = wide_bytes(halves, mins);
    const int run = ZL_RUN(codes_bits(codes)) < span ? ZL_RUN(codes_bits(codes)) : span;
    for (int64_t b = 0; b < blocks; b++, x += ZL_X_WORDS * g) {
        if (N > 2) KEEP_IN_MEMORY(acc);
        vi part[PAIR * ZL_GROUP], sum[PAIR * ZL_GROUP], start[ZL_GROUP];
        vf t[PAIR * ZL_GROUP];
        UNROLL for (int v = 0; v < 8; v++) {
            vb c[PAIR];
            UNROLL for (int p = 0; p < PAIR; p++) c[p] = vb_load(w[p] + b * size + v * VB);
            if (v % span == 0) {
                const int32_t *minus = x + (halves ? ZL_X_HALF + v / 4 : ZL_X_SUM) * g;
                UNROLL for (int n = 0; n < N; n++) start[n] = zero ? times(vi_set1(minus[n]), zero) : (vi){0};
            }
            UNROLL for (int n = 0; n < N; n++) {
                const vi quad_v = quad(x + v * g, n, N);
                UNROLL for (int p = 0; p < PAIR; p++) {
                    const int i = p * N + n;
                    part[i] = v % run ? mac(is_signed, part[i], c[p], quad_v, n, N) : mul(is_signed, start[n], c[p], quad_v, n, N);
                    if ((v + 1) % run == 0) sum[i] = fold(v % span < run ? start[n] : sum[i], part[i]);
                }
            }
            if ((v + 1) % span) continue;
            UNROLL for (int p = 0; p < PAIR; p++) {
                const vf a = vf_load((const float *)(const void *)(w[p] + b * size + (v == 7 && halves ? AT_A2 : AT_A)));
                UNROLL for (int n = 0; n < N; n++) {
                    const int i = p * N + n;
                    const vf whole = vi_to_vf(sum[i]);
                    if (v == 7 && halves) t[i] = vf_fma(whole, a, t[i]);
                    else t[i] = whole * a;
                    if (v < 7) continue;
                    UNROLL for (int h = 0; h < 2; h++) {
                        const vf m = vf_load((const float *)(const void *)(w[p] + b * size + (h ? AT_M2 : AT_M)));
                        if (mins) t[i] = vf_fma(m, vi_to_vf(vi_set1(x[(ZL_X_HALF + h) * g + n])), t[i]);
                    }
                    acc[i] = vf_fma(t[i], x_float(x + ZL_X_D * g + n), acc[i]);
                }
            }
        }
    }
}

/* ---- a pair of panels ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const struct zl_weight *w;
    const uint8_t *panel[PAIR];
    uint8_t *wide[PAIR];       /* room for the pair, widened                                                       */
    int64_t at, end, half;     /* the first panel, the last of the run + 1, and from the first of the pair to the second */
    const zl_activation *x;
    const zl_result *r;
} wide_job;

ZL_INLINE void store_pair(const wide_job *j, const int N, int64_t t, const vf *acc) {
    for (int p = 0; p < PAIR; p++) {
        const int64_t i_panel = j->at + p * j->half;
        if (i_panel >= j->end) break;
        for (int n = 0; n < N; n++) store_outputs(j->r, t + n, i_panel * L, acc[p * N + n]);
    }
}

ZL_INLINE void wide_rows(const int codes, const int halves, const int mins, const int N, const wide_job *j, int64_t t, int64_t i, const int64_t g) {
    const int64_t blocks = j->w->cols / BLOCK;
    vf acc[PAIR * ZL_GROUP];
    for (int a = 0; a < PAIR * N; a++) acc[a] = vf_zero();
    wide_tile(codes, halves, mins, N, (const uint8_t *const *)j->wide, blocks, j->x->blocks + t * blocks * ZL_X_WORDS + i, g, acc);
    store_pair(j, N, t + i, acc);
}

enum { AHEAD = 2048 }; /* as in linear_quant.c */

/* One row, codes in registers. Where an instance is called, `type` is a constant. */
ZL_INLINE void lone_type(const int type, const wide_job *j, int64_t t) {
    const wide_shape s = wide_shape_of(type);
    const int bytes = s.bytes * L, share = (bytes + s.blocks - 1) / s.blocks;
    const int64_t blocks = j->w->cols / BLOCK;
    const int32_t *x = j->x->blocks + t * blocks * ZL_X_WORDS;
    const uint8_t *w[PAIR] = {j->panel[0], j->panel[1]};
    vf acc[PAIR * ZL_GROUP];
    UNROLL for (int p = 0; p < PAIR; p++) acc[p] = vf_zero();
    for (int64_t b = 0; b < blocks; b += s.blocks) {
        for (int i = 0; i < s.blocks; i++, x += ZL_X_WORDS) {
            /* A block's share of the lines: all of a quant block's at once fill the core's miss buffers, and loads then wait behind them (IQ4_XS
             * read 14 GB/s of memory so, 31 of the cache). */
            UNROLL for (int p = 0; p < PAIR; p++)
                for (int line = 0; line < share; line += 64) __builtin_prefetch(w[p] + AHEAD + i * share + line);
#if defined(ZL_ISA_avx2) || defined(ZL_BOOK)
            if (type == ZL_TYPE_IQ2_XS || type == ZL_TYPE_IQ3_S) lone_vectors(type, w, i, x, acc);
            else lone_block(type, w, i, x, acc);
#else
            lone_block(type, w, i, x, acc);
#endif
        }
        UNROLL for (int p = 0; p < PAIR; p++) w[p] += bytes;
    }
    store_pair(j, 1, t, acc);
}
/* Whether the type has a way of its own, and was multiplied. */
static int lone(const wide_job *j, int64_t t) {
#define LONE(type) case type: lone_type(type, j, t); return 1;
    switch (j->w->type) {
        LONE(ZL_TYPE_Q2_K)
        LONE(ZL_TYPE_Q3_K)
        LONE(ZL_TYPE_IQ4_NL)
        LONE(ZL_TYPE_IQ4_XS)
#if defined(ZL_ISA_avx2) || defined(ZL_BOOK)
        LONE(ZL_TYPE_IQ2_XS)
        LONE(ZL_TYPE_IQ3_S)
#endif
    default: return 0;
    }
#undef LONE
}

ZL_INLINE void lone_row(const int codes, const int halves, const int mins, widen_ *widen, const wide_shape *s, const wide_job *j, int64_t t) {
    const int64_t blocks = j->w->cols / BLOCK, bytes = s->bytes * L;
    const int32_t *x = j->x->blocks + t * blocks * ZL_X_WORDS;
    vf acc[PAIR * ZL_GROUP];
    for (int p = 0; p < PAIR; p++) acc[p] = vf_zero();
    for (int64_t b = 0, at = 0; b < blocks; b += s->blocks, at += bytes, x += s->blocks * ZL_X_WORDS) {
        for (int p = 0; p < PAIR; p++) {
            for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(j->panel[p] + at + AHEAD + line);
            widen(j->panel[p] + at, j->wide[p]);
        }
        wide_tile(codes, halves, mins, 1, (const uint8_t *const *)j->wide, s->blocks, x, 1, acc);
    }
    store_pair(j, 1, t, acc);
}

/* Where an instance is called, `codes`, `halves` and `mins` are constants. */
ZL_INLINE void wide_pairs(const int codes, const int halves, const int mins, const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0,
                          int64_t t1, const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    const wide_shape s = wide_shape_of(w->type);
    widen_ *const widen = widen_of(w->type);
    const int64_t blocks = w->cols / BLOCK;
    uint8_t *room = scratch + (w->mapped ? PAIR * w->panel_bytes : 0);
    wide_job j = {.w = w, .wide = {room, room + blocks * wide_bytes(halves, mins)}, .end = end, .half = (end - begin + 1) / 2, .x = x, .r = r};
    for (j.at = begin; j.at < begin + j.half; j.at++) {
        for (int p = 0; p < PAIR; p++) j.panel[p] = panel_of(w, j.at + p * j.half < end ? j.at + p * j.half : j.at, scratch + p * w->panel_bytes);
        if (t1 - t0 == 1) {
            if (!lone(&j, t0)) lone_row(codes, halves, mins, widen, &s, &j, t0);
            continue;
        }
        for (int p = 0; p < PAIR; p++)
            for (int64_t b = 0; b < blocks; b += s.blocks) widen(j.panel[p] + b / s.blocks * s.bytes * L, j.wide[p] + b * wide_bytes(halves, mins));
        int64_t t = t0, i = 0;
        for (; t + ZL_GROUP <= t1; t += ZL_GROUP) wide_rows(codes, halves, mins, ZL_GROUP, &j, t, 0, ZL_GROUP);
        const int64_t g = t1 - t; /* of the last group 4, then one at a time */
        if (ZL_GROUP > 4 && i + 4 <= g) wide_rows(codes, halves, mins, 4, &j, t, i, g), i += 4;
        for (; i < g; i++) wide_rows(codes, halves, mins, 1, &j, t, i, g);
    }
}

void ZL_FN(linear_wide)(const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                        const zl_result *r, uint8_t *scratch) {
    const int codes = wide_codes(w->type), halves = wide_halves(w->type);
#define FORM(codes_, halves_, mins_) wide_pairs(codes_, halves_, mins_, w, begin, end, t0, t1, x, r, scratch)
#if defined(ZL_ISA_avx2)
    if (codes == SMALL_CODES && wide_mins(w->type)) FORM(SMALL_CODES, 1, 1);
    else if (codes == SMALL_CODES && halves) FORM(SMALL_CODES, 1, 0);
    else if (codes == SMALL_CODES) FORM(SMALL_CODES, 0, 0);
    else if (codes == MIDDLE_CODES && halves) FORM(MIDDLE_CODES, 1, 0);
    else if (codes == MIDDLE_CODES) FORM(MIDDLE_CODES, 0, 0);
    else FORM(SIGNED_CODES, 0, 0);
#else
    (void)codes;
    if (wide_mins(w->type)) FORM(SIGNED_CODES, 1, 1);
    else if (halves) FORM(SIGNED_CODES, 1, 0);
    else FORM(SIGNED_CODES, 0, 0);
#endif
#undef FORM
}

/* ---- to panels and back ---------------------------------------------------------------------------------------------------------------- */

void ZL_FN(pack_wide)(int type, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel) {
    const wide_shape s = wide_shape_of(type);
    const int64_t cols = s.blocks * BLOCK, from = k0 / cols * s.bytes;
    if (n < L) memset(panel, 0, (size_t)(k / cols * s.bytes * L));
    for (int64_t b = 0; b < k / cols; b++, panel += s.bytes * L) {
        for (int64_t lane = 0; lane < n; lane++) {
            const uint8_t *src = rows + lane * row_bytes + from + b * s.bytes;
            uint8_t *to = panel;
            for (int i = 0; i < s.n_leads; i++, to += s.lead_size * L) memcpy(to + lane * s.lead_size, src + s.at[i], (size_t)s.lead_size);
            for (int i = 0; i < s.words; i++) memcpy(to + i * VB + lane * 4, src + s.from + 4 * i, 4);
        }
    }
}

void ZL_FN(unpack_wide)(int type, int64_t k, const uint8_t *panel, int lane, float *dst) {
    const wide_shape s = wide_shape_of(type);
    const int codes = wide_codes(type), bias = codes_bias(codes), halves = wide_halves(type);
    uint8_t wide[8 * ZL_WIDE_VECTORS * VB];
    for (int64_t b = 0; b < k / BLOCK; b += s.blocks, panel += s.bytes * L) {
        widen_of(type)(panel, wide);
        for (int j = 0; j < s.blocks; j++) {
            const uint8_t *w = wide + j * wide_size(type);
            for (int i = 0; i < BLOCK; i++, dst++) {
                const int byte = w[i / 4 * VB + 4 * lane + i % 4], u = (codes == SIGNED_CODES && !bias ? (int8_t)byte : byte) - bias;
                float a, m;
                memcpy(&a, w + (halves && i >= 16 ? AT_A2 : AT_A) + 4 * lane, 4);
                *dst = (float)u * a;
                if (!wide_mins(type)) continue;
                memcpy(&m, w + (i >= 16 ? AT_M2 : AT_M) + 4 * lane, 4);
                *dst -= m;
            }
        }
    }
}
