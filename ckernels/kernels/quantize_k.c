/* quantize_k.c - floats -> the K-quants Q2_K to Q6_K: superblocks of 256 whose block scales are quantised too.
 *
 * The blocks are drawn in dequantize_k.c; what is searched, and why so, in the twin, k_quantizers.py. Lane b of a v8 is block b of one
 * superblock, so each lane runs the plain algorithm of its block; where there are sixteen blocks a second v8 has the upper eight.
 *
 *      in memory   | block 0: x0 x1 .. | block 1: x0 x1 .. | .. | block 7: ..        x[0] = | x0 of block 0 | x0 of block 1 | .. |
 */
#include "quantize_eight.h"
#include "quantize_lanes.h"

enum { SUPER = 256, ALL = SUPER / 8, ROUNDS = 6 };
static const float floor_of_weights = 0x1p-20f, alike = 0x1p-23f, firm = 1e-5f, largest_half = 65504.0f;

typedef struct {
    int bytes, tries;      /* of a superblock; how many scales are tried first */
    float low, high;       /* codes */
    float lead, other;     /* the integer of the largest scale, and the other end */
    float first[8];        /* what the largest value, or with minimums the range, becomes at first */
} format;
static const format q2_k = {84, 8, 0, 3, 15, 0, {2.2f, 2.6f, 3, 3.4f, 3.8f, 4.2f, 4.6f, 5.2f}};
static const format q4_k = {144, 6, 0, 15, 63, 0, {14, 14.5f, 15, 15.5f, 16, 16.5f}};
static const format q5_k = {176, 6, 0, 31, 63, 0, {30, 30.5f, 31, 31.5f, 32, 32.5f}};
static const format q3_k = {110, 8, -4, 3, -32, 31, {-5, -4.5f, -4, -3.5f, -3, 4, 3.5f, 3}};
static const format q6_k = {210, 8, -32, 31, -128, 127, {-34, -33, -32.2f, -31.4f, -30.6f, -29.8f, -29, -28}};

/* Eight blocks: x, w (size) vectors, sums over each block's values, and by how much an error must be smaller to be better. */
typedef struct { v8 x[ALL], w[ALL], sum_w, sum_wx, alike; } eight;
/* What is chosen for a superblock: value = (d sc) u - (dmin mn). Signed formats have no mn. */
typedef struct { float error, d, dmin; v8 sc[2], mn[2]; } choice;

ZL_INLINE v8 clip(v8 v, float low, float high) { return v8_min(v8_max(v, v8_set1(low)), v8_set1(high)); }
ZL_INLINE v8 code(const format *f, v8 v) { return v8_round(clip(v, f->low, f->high)); }
ZL_INLINE v8 integer(const format *f, v8 v) { /* for a scale or minimum */
    return clip(v, f->lead < f->other ? f->lead : f->other, f->lead < f->other ? f->other : f->lead);
}
ZL_INLINE float rounded_to_half(float v) {
    const uint16_t h = half_of(v);
    return half_at((const uint8_t *)&h);
}
ZL_INLINE float inverse_of(float v) { return v8_inverse(v8_set1(v))[0]; }

/* ---- passes over the values of eight blocks ---------------------------------------------------------------------------------------------- */

ZL_INLINE v8 code_at(const format *f, const int with_min, v8 x, v8 by, v8 m) { return code(f, with_min ? (x + m) * by : x * by); }

/* sum w (x - value)^2 of the nearest codes */
ZL_INLINE v8 error(const format *f, const int size, const int with_min, const eight *e, v8 s, v8 m) {
    const v8 by = v8_inverse(s);
    v8 sum = v8_set1(0);
    for (int i = 0; i < size; i++) {
        const v8 u = code_at(f, with_min, e->x[i], by, m), t = e->x[i] - (with_min ? s * u - m : s * u);
        sum += e->w[i] * t * t;
    }
    return sum;
}

/* s and m by least squares for the codes of those that they are; these where codes are all the same */
ZL_INLINE void fit(const format *f, const int size, const eight *e, v8 span, v8 *s, v8 *m) {
    const v8 by = v8_inverse(*s), zero = v8_set1(0);
    v8 su = zero, suu = zero, sxu = zero;
    for (int i = 0; i < size; i++) {
        const v8 u = code_at(f, 1, e->x[i], by, *m), wu = e->w[i] * u;
        su += wu, suu += wu * u, sxu += wu * e->x[i];
    }
    const v8 whole = e->sum_w * suu, det = whole - su * su, over = v8_inverse(det);
    v8 fs = (e->sum_w * sxu - e->sum_wx * su) * over, fm = (su * sxu - suu * e->sum_wx) * over;
    fs = v8_select(v8_less(fm, zero), sxu * v8_inverse(suu), fs);
    const v8i sure = v8_less(firm * whole, det);
    *s = v8_select(sure, v8_min(v8_max(fs, zero), span), *s);
    *m = v8_select(sure, v8_min(v8_max(fm, zero), span), *m);
}

/* Step 1 of formats with minimums. */
ZL_INLINE void first_with_min(const format *f, const int size, const eight *e, v8 *best_s, v8 *best_m) {
    v8 low = v8_set1(0), high = low, best = v8_set1(__builtin_inff());
    for (int i = 0; i < size; i++) low = v8_min(e->x[i], low), high = v8_max(e->x[i], high);
    const v8 span = high - low;
    for (int k = 0; k < f->tries; k++) {
        v8 s = span * (1.0f / f->first[k]), m = v8_set1(0) - low;
        for (int again = 0; again < 2; again++) fit(f, size, e, span, &s, &m);
        const v8 cost = error(f, size, 1, e, s, m);
        const v8i better = v8_less(cost, best - e->alike);
        best = v8_select(better, cost, best), *best_s = v8_select(better, s, *best_s), *best_m = v8_select(better, m, *best_m);
    }
}

/* Step 1 of signed formats. */
ZL_INLINE void first_signed(const format *f, const int size, const eight *e, v8 *best_s) {
    v8 large = v8_set1(0), best = v8_set1(__builtin_inff());
    for (int i = 0; i < size; i++) large = v8_select(v8_less(v8_abs(large), v8_abs(e->x[i])), e->x[i], large);
    const v8 by_large = v8_inverse(large);
    for (int k = 0; k < f->tries; k++) {
        const v8 by = by_large * f->first[k];
        v8 q[ALL], sqq = v8_set1(0), sxq = sqq, cost = sqq;
        for (int i = 0; i < size; i++) {
            q[i] = code(f, e->x[i] * by);
            const v8 wq = e->w[i] * q[i];
            sxq += wq * e->x[i], sqq += wq * q[i];
        }
        const v8 s = sxq * v8_inverse(sqq);
        for (int i = 0; i < size; i++) {
            const v8 t = e->x[i] - s * q[i];
            cost += e->w[i] * t * t;
        }
        const v8i better = v8_less(cost, best - e->alike);
        best = v8_select(better, cost, best), *best_s = v8_select(better, s, *best_s);
    }
}

/* mn for a scale, m being about what it should be: the mean of s u - x */
ZL_INLINE v8 minimum(const format *f, const int size, const eight *e, v8 s, v8 m, v8 by_dmin) {
    const v8 by = v8_inverse(s);
    v8 sum = v8_set1(0);
    for (int i = 0; i < size; i++) sum += e->w[i] * (s * code_at(f, 1, e->x[i], by, m) - e->x[i]);
    return v8_round(integer(f, sum / e->sum_w * by_dmin));
}

/* ---- a superblock ------------------------------------------------------------------------------------------------------------------------ */

/* For a d and dmin the best sc and mn of each block near its s and m; c has the two halves, and gets the rest. */
ZL_INLINE void choose(const format *f, const int size, const int with_min, const eight *e, const v8 *s, const v8 *m, choice *c) {
    const v8 by = v8_inverse(v8_set1(c->d)), by_dmin = v8_inverse(v8_set1(c->dmin));
    v8 sum = v8_set1(0);
    for (int h = 0; h < ALL / size; h++) {
        const v8 middle = v8_round(integer(f, s[h] * by));
        v8 best = v8_set1(__builtin_inff());
        for (int k = 0; k < 3; k++) {
            const v8 sc = integer(f, middle + (float)(k - 1));
            const v8 mn = with_min ? minimum(f, size, e + h, c->d * sc, m[h], by_dmin) : v8_set1(0);
            const v8 cost = error(f, size, with_min, e + h, c->d * sc, c->dmin * mn);
            const v8i better = v8_less(cost, best);
            best = v8_select(better, cost, best);
            c->sc[h] = v8_select(better, sc, c->sc[h]), c->mn[h] = v8_select(better, mn, c->mn[h]);
        }
        sum += best;
    }
    c->error = sum8(sum);
}

/* d and dmin by least squares over the superblock for the codes of a choice; not rounded */
ZL_INLINE void refit(const format *f, const int size, const int with_min, const eight *e, const choice *c, float *d, float *dmin) {
    v8 qq = v8_set1(0), qx = qq, qm = qq, mm = qq, mx = qq;
    for (int h = 0; h < ALL / size; h++) {
        const v8 by = v8_inverse(c->d * c->sc[h]), m = c->dmin * c->mn[h], zero = v8_set1(0);
        v8 sq = zero, sqq = zero, sqx = zero;
        for (int i = 0; i < size; i++) {
            const v8 q = c->sc[h] * code_at(f, with_min, e[h].x[i], by, m), wq = e[h].w[i] * q;
            sq += wq, sqq += wq * q, sqx += wq * e[h].x[i];
        }
        const v8 mn = c->mn[h];
        qq += sqq, qx += sqx, qm += sq * mn, mm += e[h].sum_w * mn * mn, mx += e[h].sum_wx * mn;
    }
    const float a = sum8(qq), x = sum8(qx), b = sum8(qm), g = sum8(mm), y = sum8(mx);
    *d = c->d, *dmin = c->dmin;
    if (!with_min) {
        *d = x * inverse_of(a);
        return;
    }
    const float whole = a * g, det = whole - b * b, over = inverse_of(det);
    if (det > firm * whole) *d = (g * x - b * y) * over, *dmin = (b * x - a * y) * over;
    else if (!(g > 0)) *d = x * inverse_of(a);
    *d = *d > 0 ? *d : 0, *dmin = *dmin > 0 ? *dmin : 0;
    *d = *d < largest_half ? *d : largest_half, *dmin = *dmin < largest_half ? *dmin : largest_half;
}

ZL_INLINE choice search(const format *f, const int size, const int with_min, const eight *e) {
    v8 s[2] = {v8_set1(0), v8_set1(0)}, m[2] = {v8_set1(0), v8_set1(0)};
    float most = 0, most_m = 0; /* of largest size */
    choice best = {0};
    for (int h = 0; h < ALL / size; h++) {
        if (with_min) first_with_min(f, size, e + h, &s[h], &m[h]);
        else first_signed(f, size, e + h, &s[h]);
        for (int lane = 0; lane < 8; lane++) {
            most = __builtin_fabsf(s[h][lane]) > __builtin_fabsf(most) ? s[h][lane] : most;
            most_m = m[h][lane] > most_m ? m[h][lane] : most_m;
        }
    }
    for (int k = 0; k < ROUNDS; k++) {
        choice c = {0};
        if (k < 4) c.d = most / (with_min ? f->lead - (float)k : f->lead + (float)k), c.dmin = most_m / (f->lead - (float)k);
        else refit(f, size, with_min, e, &best, &c.d, &c.dmin);
        c.d = rounded_to_half(c.d), c.dmin = with_min ? rounded_to_half(c.dmin) : 0.0f;
        choose(f, size, with_min, e, s, m, &c);
        if (!k || c.error < best.error) best = c;
    }
    return best;
}

/* ---- to the file's bytes ----------------------------------------------------------------------------------------------------------------- */

/* Byte j of a run of `run` has in its lowest `bits` bits those of code j above `from`, in the next those of code j + run, and so on. */
ZL_INLINE uint8_t *fold(const int run, const int bits, const int from, const uint8_t *codes, uint8_t *to) {
    const int per = 8 / bits, mask = (1 << bits) - 1;
    for (int i = 0; i < SUPER; i += run * per, to += run)
        for (int j = 0; j < run; j++) {
            int byte = 0;
            for (int k = 0; k < per; k++) byte |= ((codes[i + j + k * run] >> from) & mask) << (k * bits);
            to[j] = (uint8_t)byte;
        }
    return to;
}

/* Twelve bytes for eight scales and minimums of 6 bits. */
static void packed_scales(const int *sc, const int *mn, uint8_t *to) {
    for (int j = 0; j < 4; j++) {
        to[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        to[j + 4] = (uint8_t)(mn[j] | mn[j + 4] >> 4 << 6);
        to[j + 8] = (uint8_t)((sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
    }
}

ZL_INLINE void write_(const int type, const choice *c, const uint8_t *codes, uint8_t *to) {
    const uint16_t d[2] = {half_of(c->d), half_of(c->dmin)};
    int sc[16], mn[16];
    for (int b = 0; b < 16; b++) sc[b] = (int)c->sc[b / 8][b % 8], mn[b] = (int)c->mn[b / 8][b % 8];
    if (type == ZL_TYPE_Q2_K) {
        for (int b = 0; b < 16; b++) to[b] = (uint8_t)(sc[b] | mn[b] << 4);
        memcpy(fold(32, 2, 0, codes, to + 16), d, 4);
    } else if (type == ZL_TYPE_Q3_K) {
        uint8_t *p = fold(32, 2, 0, codes, fold(32, 1, 2, codes, to));
        memset(p, 0, 12);
        for (int b = 0; b < 16; b++) {
            const int six = sc[b] + 32;
            p[b % 8] |= (uint8_t)((six & 15) << (b / 8 * 4));
            p[8 + b % 4] |= (uint8_t)(six >> 4 << (b / 4 * 2));
        }
        memcpy(p + 12, d, 2);
    } else if (type == ZL_TYPE_Q6_K) {
        uint8_t *p = fold(32, 2, 4, codes, fold(64, 4, 0, codes, to));
        for (int b = 0; b < 16; b++) p[b] = (uint8_t)sc[b];
        memcpy(p + 16, d, 2);
    } else {
        memcpy(to, d, 4);
        packed_scales(sc, mn, to + 4);
        to += 16;
        if (type == ZL_TYPE_Q5_K) to = fold(32, 1, 4, codes, to);
        fold(32, 4, 0, codes, to);
    }
}

/* 256 values in order, and their importance or NULL -> lanes. The largest size of a value. */
ZL_INLINE float to_lanes(const int size, const float *x, const float *importance, eight *e) {
    float most = 0, top = 0;
    for (int i = 0; i < SUPER; i++) {
        most = __builtin_fabsf(x[i]) > most ? __builtin_fabsf(x[i]) : most;
        if (importance) top = importance[i] > top ? importance[i] : top;
    }
    const float by = inverse_of(top);
    for (int h = 0; h < ALL / size; h++) {
        v8 sum_w = v8_set1(0), sum_wx = sum_w, sum_wxx = sum_w;
        for (int i = 0; i < size; i++) {
            v8 v = sum_w, w = v8_set1(1);
            for (int lane = 0; lane < 8; lane++) v[lane] = x[(8 * h + lane) * size + i];
            if (importance) {
                for (int lane = 0; lane < 8; lane++) w[lane] = importance[(8 * h + lane) * size + i];
                w = w * by + floor_of_weights;
            }
            e[h].x[i] = v, e[h].w[i] = w;
            sum_w += w, sum_wx += w * v, sum_wxx += w * v * v;
        }
        e[h].sum_w = sum_w, e[h].sum_wx = sum_wx, e[h].alike = sum_wxx * alike;
    }
    return most;
}

/* The bytes of one superblock -> what follows them. */
ZL_INLINE uint8_t *superblock(const int type, const format *f, const int size, const int with_min, const float *x, const float *importance,
                              uint8_t *to) {
    eight e[2];
    uint8_t codes[SUPER];
    if (!(to_lanes(size, x, importance, e) >= ZL_QUANTIZE_TINY)) {
        memset(to, 0, (size_t)f->bytes);
        return to + f->bytes;
    }
    const choice c = search(f, size, with_min, e);
    for (int h = 0; h < ALL / size; h++) {
        const v8 by = v8_inverse(c.d * c.sc[h]), m = c.dmin * c.mn[h];
        for (int i = 0; i < size; i++) {
            const v8i u = __builtin_convertvector(code_at(f, with_min, e[h].x[i], by, m) - f->low, v8i);
            for (int lane = 0; lane < 8; lane++) codes[(8 * h + lane) * size + i] = (uint8_t)u[lane];
        }
    }
    write_(type, &c, codes, to);
    return to + f->bytes;
}

int ZL_FN(quantize_k)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    for (int64_t i = 0; i < n; i += SUPER) {
        const float *v = x + i, *h = importance ? importance + (at + i) % cols : NULL;
        switch (type) {
        case ZL_TYPE_Q2_K: dst = superblock(ZL_TYPE_Q2_K, &q2_k, 16, 1, v, h, dst); break;
        case ZL_TYPE_Q3_K: dst = superblock(ZL_TYPE_Q3_K, &q3_k, 16, 0, v, h, dst); break;
        case ZL_TYPE_Q4_K: dst = superblock(ZL_TYPE_Q4_K, &q4_k, 32, 1, v, h, dst); break;
        case ZL_TYPE_Q5_K: dst = superblock(ZL_TYPE_Q5_K, &q5_k, 32, 1, v, h, dst); break;
        case ZL_TYPE_Q6_K: dst = superblock(ZL_TYPE_Q6_K, &q6_k, 16, 0, v, h, dst); break;
        default: return 0;
        }
    }
    return 1;
}
