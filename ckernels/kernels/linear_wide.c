/* linear_wide.c - products with the formats of formats_wide.h: a pair of panels is widened, and multiplied in the common form.
 *
 *      one row of x       where the type has a way of its own (lone_k.h, lone_iq.h): codes stay in registers; else
 *                         quant block by quant block: widened into 8 to 10 vectors per 32 columns that stay in the nearest cache, then multiplied
 *      more               the pair is widened over all of K (it stays in the L2 cache), then group after group of rows multiplied
 *
 * The order of operations is linear.h's. Long formats are widened to codes alone, and go through linear_long.h's tile.
 *
 * There is one tile per form of codes and scales, not per format; what is a format's own is its function that widens, which has no rows of
 * x in it. So a format costs little to compile.
 */
#include "linear_long.h"
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
ZL_INLINE void wide_tile(const int codes, const int halves, const int N, const uint8_t *const *w, int64_t blocks, const int32_t *x, const int64_t g,
                         vf *acc) {
    const int zero = codes_bias(codes), is_signed = codes == SIGNED_CODES, span = halves ? 4 : 8, size = wide_bytes(0, halves);
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
                    if (v == 7) acc[i] = vf_fma(t[i], x_float(x + ZL_X_D * g + n), acc[i]);
                }
            }
        }
    }
}

/* ---- scales of long formats ----------------------------------------------------------------------------------------------------------- */

ZL_INLINE long_scales long_scales_of(const int type, const uint8_t *p, int j) {
    switch (type) {
    case ZL_TYPE_Q2_K: return q2_k_scales(p, j);
    case ZL_TYPE_Q3_K: return q3_k_scales(p, j);
    case ZL_TYPE_Q6_K: return k_scales(type, p, j);
    case ZL_TYPE_IQ1_S: return iq1_s_scales(p, j);
    case ZL_TYPE_IQ1_M: return iq1_m_scales(p, j);
    case ZL_TYPE_IQ2_XXS: return iq2_xxs_scales(p, j);
    case ZL_TYPE_IQ2_XS: return iq2_xs_scales(p, j);
    case ZL_TYPE_IQ2_S: return iq2_s_scales(p, j);
    case ZL_TYPE_IQ3_XXS: return iq3_xxs_scales(p, j);
    case ZL_TYPE_IQ3_S: return iq3_s_scales(p, j);
    default: return iq4_xs_scales(p, j);
    }
}
/* Where a scale means (s + 1/2) f and is given as 2 s + 1, d is multiplied by f / 2; IQ1's codes are eight times what they mean. */
ZL_INLINE long_floats long_floats_of(const int type, const uint8_t *p) {
    switch (type) {
    case ZL_TYPE_Q2_K: return (long_floats){f16_lanes(p), f16_lanes(p + 2 * L)};
    case ZL_TYPE_IQ1_M: return (long_floats){iq1_m_d(p) * 0.125f, vf_zero()};
    case ZL_TYPE_IQ1_S: case ZL_TYPE_IQ2_XXS: case ZL_TYPE_IQ2_XS: case ZL_TYPE_IQ2_S: return (long_floats){f16_lanes(p) * 0.125f, vf_zero()};
    case ZL_TYPE_IQ3_XXS: return (long_floats){f16_lanes(p) * 0.25f, vf_zero()};
    default: return (long_floats){f16_lanes(p), vf_zero()};
    }
}

ZL_INLINE long_shape wide_long_shape(const int codes, const int halves, const int mins) {
    return (long_shape){0, codes_bits(codes), codes == SIGNED_CODES, codes_bias(codes), halves, mins};
}
/* A pair of superblocks. Where an instance is called, all but the pointers are constants. */
ZL_INLINE void ready_type(const int type, const uint8_t *const *p, int32_t *to) {
    const long_shape s = wide_long_shape(wide_codes(type), wide_halves(type), wide_mins(type));
    for (int i = 0; i < PAIR; i++) {
        for (int j = 0; j < 8; j++) ready_block(s, to, j, i, long_scales_of(type, p[i], j));
        const long_floats f = long_floats_of(type, p[i]);
        ready_floats(to, i, f.d, f.dmin);
    }
}
/* Block j of a superblock as floats: A, A2, M, M2. */
ZL_INLINE void plain_type(const int type, const uint8_t *p, int j, float to[4][L]) {
    const long_scales s = long_scales_of(type, p, j);
    const long_floats f = long_floats_of(type, p);
    vf_store(to[0], vi_to_vf(s.sc) * f.d), vf_store(to[1], vi_to_vf(wide_halves(type) ? s.sc2 : s.sc) * f.d);
    if (wide_mins(type)) vf_store(to[2], vi_to_vf(s.mn) * f.dmin), vf_store(to[3], vi_to_vf(s.mn2) * f.dmin);
}
#define LONG_TYPES(X)                                                                                                                        \
    X(ZL_TYPE_Q2_K) X(ZL_TYPE_Q3_K) X(ZL_TYPE_Q6_K) X(ZL_TYPE_IQ1_S) X(ZL_TYPE_IQ1_M) X(ZL_TYPE_IQ2_XXS) X(ZL_TYPE_IQ2_XS) X(ZL_TYPE_IQ2_S) \
    X(ZL_TYPE_IQ3_XXS) X(ZL_TYPE_IQ3_S) X(ZL_TYPE_IQ4_XS)
#define READY_TYPE(type) case type: ready_type(type, p, to); return;
#define PLAIN_TYPE(type) case type: plain_type(type, p, j, to); return;
static void ready_pair(int type, const uint8_t *const *p, int32_t *to) {
    switch (type) { LONG_TYPES(READY_TYPE) }
}
static void plain_scales(int type, const uint8_t *p, int j, float to[4][L]) {
    switch (type) { LONG_TYPES(PLAIN_TYPE) }
}

/* ---- a pair of panels ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const struct zl_weight *w;
    const uint8_t *panel[PAIR];
    uint8_t *wide[PAIR];       /* room for the pair, widened                                                       */
    int32_t *ready;            /* and for its scales, of a long format (linear_long.h)                             */
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

/* What is widened at j->wide, so many blocks, by N rows of a group of g at x. */
ZL_INLINE void widened(const int is_long, const int codes, const int halves, const int mins, const int N, const wide_job *j, int64_t blocks,
                       const int32_t *x, const int64_t g, vf *acc) {
    if (is_long) long_tile(wide_long_shape(codes, halves, mins), N, j->ready, 0, (const uint8_t *const *)j->wide, blocks / 8, x, g, acc);
    else wide_tile(codes, halves, N, (const uint8_t *const *)j->wide, blocks, x, g, acc);
}
ZL_INLINE void wide_rows(const int is_long, const int codes, const int halves, const int mins, const int N, const wide_job *j, int64_t t, int64_t i,
                         const int64_t g) {
    const int64_t blocks = j->w->cols / BLOCK;
    vf acc[PAIR * ZL_GROUP];
    for (int a = 0; a < PAIR * N; a++) acc[a] = vf_zero();
    widened(is_long, codes, halves, mins, N, j, blocks, j->x->blocks + t * blocks * ZL_X_WORDS + i, g, acc);
    store_pair(j, N, t + i, acc);
}

/* sums += block j of the superblocks at w[p] times x's, of formats of a codebook (lone_iq.h). */
ZL_INLINE void lone_vectors(const int type, const uint8_t *const *w, vector_numbers *numbers, int j, const int32_t *x, lone_sums *sums) {
    vi sum[PAIR][2];
    vector_sums(type, w, numbers, j, x, sum);
    UNROLL for (int p = 0; p < PAIR; p++) {
        const long_scales s = long_scales_of(type, w[p], j);
        vi scaled = sum[p][0] * s.sc;
        if (wide_halves(type)) scaled += sum[p][1] * s.sc2;
        sums->total[p] = shifted_sum(sums->total[p], scaled, x[ZL_X_SHIFT]);
    }
}

enum { AHEAD = 2048 }; /* as in linear_quant.c */

/* A block's share of the lines of what comes: all of a quant block's at once fill the core's miss buffers, and loads then wait behind them
 * (IQ4_XS read 14 GB/s of memory so, 31 of the cache). */
ZL_INLINE void fetch_share(const int type, const uint8_t *const *w, int i) {
    const wide_shape s = wide_shape_of(type);
    const int share = (s.bytes * L + s.blocks - 1) / s.blocks;
    UNROLL for (int p = 0; p < PAIR; p++)
        for (int line = 0; line < share; line += 64) __builtin_prefetch(w[p] + AHEAD + i * share + line);
}
/* sums, or acc of what is not long, += block i of the quant blocks at w times x's. What was made of a pair before: Q3_K's scales, or a codebook's
 * numbers. */
ZL_INLINE void lone_part(const int type, const uint8_t *const *w, const vu (*scales)[4], vector_numbers *numbers, int i, const int32_t *x,
                         lone_sums *sums, vf *acc) {
    fetch_share(type, w, i);
    if (!zl_is_long(type)) lone_plain(type, w, i, x, acc);
    else if (of_vectors(type)) lone_vectors(type, w, numbers, i, x, sums);
    else lone_block(type, w, scales, i, x, sums);
}
/* acc += a superblock of TQ1_0 times x's. */
ZL_INLINE void lone_trits(const uint8_t *const *w, const int32_t *x, vf *acc) {
    UNROLL for (int p = 0; p < PAIR; p++) {
        vi sum[8];
        tq1_0_sums(w[p], x, sum);
        const vf d = f16_lanes(w[p]);
        for (int j = 0; j < 8; j++) acc[p] = vf_fma(vi_to_vf(sum[j]) * d, x_float(x + j * ZL_X_WORDS + ZL_X_D), acc[p]);
    }
    for (int j = 0; j < 8; j++) fetch_share(ZL_TYPE_TQ1_0, w, j); /* at once: it is seven lines of each, beside many instructions */
}
/* One row, codes in registers. Where an instance is called, `type` is a constant. */
ZL_INLINE void lone_type(const int type, const wide_job *j, int64_t t) {
    const wide_shape s = wide_shape_of(type);
    const int64_t blocks = j->w->cols / BLOCK;
    const int32_t *x = j->x->blocks + t * blocks * ZL_X_WORDS;
    const uint8_t *w[PAIR] = {j->panel[0], j->panel[1]};
    vf acc[PAIR * ZL_GROUP];
    UNROLL for (int p = 0; p < PAIR; p++) acc[p] = vf_zero();
    for (int64_t b = 0; b < blocks; b += s.blocks, x += s.blocks * ZL_X_WORDS) {
        lone_sums sums = {{{0}}, {{0}}};
        if (type == ZL_TYPE_TQ1_0) {
            lone_trits(w, x, acc);
        } else if (type == ZL_TYPE_Q3_K || type == ZL_TYPE_TQ2_0) { /* unrolled, a block's shifts are constants: Q3_K's scales unpacked at once, a third
                                                                     * of the instructions is saved */
            vu scales[PAIR][4];
            if (type == ZL_TYPE_Q3_K) UNROLL for (int p = 0; p < PAIR; p++) q3_k_scale_bytes(w[p], scales[p]);
            UNROLL for (int i = 0; i < 8; i++) lone_part(type, w, (const vu(*)[4])scales, NULL, i, x + i * ZL_X_WORDS, &sums, acc);
        } else {
            vector_numbers numbers[PAIR];
            if (of_vectors(type)) lone_numbers(type, w, numbers);
            for (int i = 0; i < s.blocks; i++) lone_part(type, w, NULL, numbers, i, x + i * ZL_X_WORDS, &sums, acc);
        }
        UNROLL for (int p = 0; p < PAIR; p++) {
            if (zl_is_long(type)) {
                const long_floats f = long_floats_of(type, w[p]);
                vf t = vi_to_vf(sums.total[p]) * f.d;
                if (wide_mins(type)) t = vf_fma(f.dmin, vi_to_vf(sums.least[p]), t);
                acc[p] = vf_fma(t, x_float(x + ZL_X_D), acc[p]);
            }
            w[p] += s.bytes * L;
        }
    }
    store_pair(j, 1, t, acc);
}
#define LONE_TYPES(X)                                                                                                                         \
    X(ZL_TYPE_Q2_K) X(ZL_TYPE_Q3_K) X(ZL_TYPE_IQ4_NL) X(ZL_TYPE_IQ4_XS) X(ZL_TYPE_TQ1_0) X(ZL_TYPE_TQ2_0) X(ZL_TYPE_Q1_0) X(ZL_TYPE_Q2_0)         \
    X(ZL_TYPE_MXFP4) VECTOR_TYPES(X)
#if defined(ZL_ISA_avx2)
enum { ALL_LONG = 1 }; /* every long format that comes here with one row of x is among them */
#else
enum { ALL_LONG = 0 };
#endif
/* Forms of which a type is not among them: lone_row is made for these alone. */
ZL_INLINE int not_all_lone(const int is_long, const int halves, const int mins) { return is_long ? !ALL_LONG && !mins : halves; }
/* A function each: in one of all, Q3_K was 12% slower, for gcc kept what others need. */
#define LONE_FUNCTION(type) static __attribute__((noinline)) void lone_##type(const wide_job *j, int64_t t) { lone_type(type, j, t); }
LONE_TYPES(LONE_FUNCTION)
#define LONE_CALL(type) case type: lone_##type(j, t); return 1;
/* Whether the type has a way of its own, and was multiplied. */
static int lone(const wide_job *j, int64_t t) {
    switch (j->w->type) { LONE_TYPES(LONE_CALL) }
    return 0;
}

ZL_INLINE void lone_row(const int is_long, const int codes, const int halves, const int mins, widen_ *widen, const wide_shape *s, const wide_job *j,
                        int64_t t) {
    const int64_t blocks = j->w->cols / BLOCK, bytes = s->bytes * L;
    const int32_t *x = j->x->blocks + t * blocks * ZL_X_WORDS;
    vf acc[PAIR * ZL_GROUP];
    for (int p = 0; p < PAIR; p++) acc[p] = vf_zero();
    for (int64_t b = 0, at = 0; b < blocks; b += s->blocks, at += bytes, x += s->blocks * ZL_X_WORDS) {
        const uint8_t *const from[PAIR] = {j->panel[0] + at, j->panel[1] + at};
        for (int p = 0; p < PAIR; p++) {
            for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from[p] + AHEAD + line);
            widen(from[p], j->wide[p]);
        }
        if (is_long) ready_pair(j->w->type, from, j->ready);
        widened(is_long, codes, halves, mins, 1, j, s->blocks, x, 1, acc);
    }
    store_pair(j, 1, t, acc);
}

/* Where an instance is called, `is_long`, `codes`, `halves` and `mins` are constants. */
ZL_INLINE void wide_pairs(const int is_long, const int codes, const int halves, const int mins, const struct zl_weight *w, int64_t begin, int64_t end,
                          int64_t t0, int64_t t1, const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    const wide_shape s = wide_shape_of(w->type);
    widen_ *const widen = widen_of(w->type);
    const int64_t blocks = w->cols / BLOCK, size = wide_bytes(is_long, halves);
    uint8_t *ready = scratch + (w->mapped ? PAIR * w->panel_bytes : 0), *room = ready + zl_long_scratch(w, L);
    wide_job j = {.w = w, .wide = {room, room + blocks * size}, .ready = (int32_t *)(void *)ready, .end = end, .x = x, .r = r};
    j.half = (end - begin + 1) / 2;
    for (j.at = begin; j.at < begin + j.half; j.at++) {
        for (int p = 0; p < PAIR; p++) j.panel[p] = panel_of(w, j.at + p * j.half < end ? j.at + p * j.half : j.at, scratch + p * w->panel_bytes);
        if (t1 - t0 == 1) {
            if (!lone(&j, t0) && not_all_lone(is_long, halves, mins)) lone_row(is_long, codes, halves, mins, widen, &s, &j, t0);
            continue;
        }
        for (int64_t b = 0; b < blocks; b += s.blocks) {
            const uint8_t *const from[PAIR] = {j.panel[0] + b / s.blocks * s.bytes * L, j.panel[1] + b / s.blocks * s.bytes * L};
            for (int p = 0; p < PAIR; p++) widen(from[p], j.wide[p] + b * size);
            if (is_long) ready_pair(w->type, from, j.ready + b / 8 * READY);
        }
        int64_t t = t0, i = 0;
        for (; t + ZL_GROUP <= t1; t += ZL_GROUP) wide_rows(is_long, codes, halves, mins, ZL_GROUP, &j, t, 0, ZL_GROUP);
        const int64_t g = t1 - t; /* of the last group 4, then one at a time */
        if (ZL_GROUP > 4 && i + 4 <= g) wide_rows(is_long, codes, halves, mins, 4, &j, t, i, g), i += 4;
        for (; i < g; i++) wide_rows(is_long, codes, halves, mins, 1, &j, t, i, g);
    }
}

void ZL_FN(linear_wide)(const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                        const zl_result *r, uint8_t *scratch) {
    const int is_long = zl_is_long(w->type), codes = wide_codes(w->type), halves = wide_halves(w->type);
#define FORM(is_long_, codes_, halves_, mins_) wide_pairs(is_long_, codes_, halves_, mins_, w, begin, end, t0, t1, x, r, scratch)
    if (codes == PLAIN_CODES) FORM(1, PLAIN_CODES, 1, 1);
#if defined(ZL_ISA_avx2)
    else if (is_long && codes == SMALL_CODES && halves) FORM(1, SMALL_CODES, 1, 0);
    else if (is_long && codes == SMALL_CODES) FORM(1, SMALL_CODES, 0, 0);
    else if (is_long && codes == MIDDLE_CODES && halves) FORM(1, MIDDLE_CODES, 1, 0);
    else if (is_long && codes == MIDDLE_CODES) FORM(1, MIDDLE_CODES, 0, 0);
    else if (is_long) FORM(1, SIGNED_CODES, 0, 0);
    else if (codes == SMALL_CODES && halves) FORM(0, SMALL_CODES, 1, 0);
    else if (codes == SMALL_CODES) FORM(0, SMALL_CODES, 0, 0);
#else
    else if (is_long && halves) FORM(1, SIGNED_CODES, 1, 0);
    else if (is_long) FORM(1, SIGNED_CODES, 0, 0);
    else if (halves) FORM(0, SIGNED_CODES, 1, 0);
#endif
    else FORM(0, SIGNED_CODES, 0, 0);
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
            float scales[4][L] = {{0}};
            if (zl_is_long(type)) plain_scales(type, panel, j, scales);
            for (int i = 0; i < BLOCK; i++, dst++) {
                const int byte = w[i / 4 * VB + 4 * lane + i % 4], u = (codes == SIGNED_CODES && !bias ? (int8_t)byte : byte) - bias;
                float a = scales[i / 16][lane];
                if (!zl_is_long(type)) memcpy(&a, w + (halves && i >= 16 ? AT_A2 : AT_A) + 4 * lane, 4);
                *dst = (float)u * a;
                if (wide_mins(type)) *dst -= scales[2 + i / 16][lane];
            }
        }
    }
}
