/* rows_scan.c - passes over one row of logits: what exact sampling from a whole vocabulary is made of.
 *
 * Nothing here sorts. A set of candidates is all keys above a threshold; core/scan.c finds it by a sample of the row and lists of the few
 * elements around it, and then one more pass lists or keeps what is above. -inf is a candidate that was taken away: it has no mass, and
 * no pass gives it back. A NaN is above nothing. A row that ends inside a vector is padded with -inf.
 */
#include "rows_scan.h"
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"
#include <float.h>

#define BLOCK 512  /* values per partial sum; whole masses of so many add up exactly in double */
#define UNROLLED 8 /* vectors per turn of the loops that do little with each */
#define MINUS_INF (-__builtin_inff())

/* Half the lanes of a vector as doubles, for which gcc's own conversion takes three times the instructions. */
typedef float half_vf __attribute__((vector_size(2 * L), may_alias));
typedef double half_vd __attribute__((vector_size(4 * L), may_alias));
#if defined(ZL_ISA_avx512)
ZL_INLINE half_vd doubles(half_vf v) { return (half_vd)_mm512_cvtps_pd((__m256)v); }
#elif defined(ZL_ISA_avx2)
ZL_INLINE half_vd doubles(half_vf v) { return (half_vd)_mm256_cvtps_pd((__m128)v); }
#else
ZL_INLINE half_vd doubles(half_vf v) { return __builtin_convertvector(v, half_vd); }
#endif

/* x[i .. i + L), -inf past the row's end */
ZL_INLINE vf load_or_none(const float *x, int64_t i, int64_t n) {
    if (i + L <= n) return vf_load(x + i);
    float last[L];
    vf_store(last, vf_set1(MINUS_INF));
    vf_store_n(last, vf_load_n(x + i, (int)(n - i)), (int)(n - i));
    return vf_load(last);
}
ZL_INLINE void store_up_to(float *x, vf v, int64_t i, int64_t n) {
    if (i + L <= n) vf_store(x + i, v);
    else vf_store_n(x + i, v, (int)(n - i));
}

float ZL_FN(row_best)(int64_t n, const float *x) {
    vf best = vf_set1(MINUS_INF), other = best;
    int64_t i = 0;
    for (; i + UNROLLED * L <= n; i += UNROLLED * L) {
#pragma GCC unroll 8
        for (int j = 0; j < UNROLLED; j += 2) best = vf_max(vf_load(x + i + j * L), best), other = vf_max(vf_load(x + i + (j + 1) * L), other);
    }
    for (; i < n; i += L) best = vf_max(load_or_none(x, i, n), best);
    return vf_hmax(vf_max(best, other));
}

/* ---- masses ------------------------------------------------------------------------------------------------------------------------- */

/* The sums of a block, in double: whole numbers of at most 2^ZL_MASS_BITS, so that every one of them is exact. */
typedef struct {
    half_vd low, high;
} masses;
ZL_INLINE void add_masses(masses *m, vf w) {
    half_vf low, high;
    memcpy(&low, &w, sizeof low), memcpy(&high, (const char *)&w + sizeof low, sizeof high);
    m->low += doubles(low), m->high += doubles(high);
}
/* Their total, -1 where one of them was none. */
ZL_INLINE int64_t total_of(const masses *m) {
    const half_vd both = m->low + m->high;
    double sum = 0;
    for (int i = 0; i < L / 2; i++) sum += both[i];
    return sum >= 0 && sum <= 0x1p53 ? (int64_t)sum : -1;
}

/* exp(d) 2^ZL_MASS_BITS in whole units, for -ZL_SPAN <= d <= 0, where it takes half of what vf_exp does; a NaN stays one.
 * exp(d) = 2^n exp(r) as there. t is n + 167 and so large that its last bit stands for 1: shifted to the exponent's place they are
 * 2^(n + 40). exp(r) = 1 + r + r^2 P(r), P minimax with the two 1 held (our own fit, 1.1e-7 of the value at most): exp(0) is exactly 1. */
ZL_INLINE vf mass_of(vf d) {
    const vf shift = vf_set1(12582912.0f + (float)(ZL_MASS_BITS + 127)); /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    const vf t = vf_fma(d, vf_set1(1.44269504088896341f), shift), n = t - shift;
    vf r = vf_fnma(n, vf_set1(0.693145751953125f), d);
    r = vf_fnma(n, vf_set1(1.42860682030941723212e-6f), r);
    vf p = vf_fma(r, vf_set1(8.312525227665901e-3f), vf_set1(4.1890114545822144e-2f));
    p = vf_fma(p, r, vf_set1(1.6667114198207855e-1f));
    p = vf_fma(p, r, vf_set1(4.99992311000824e-1f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_round(p * (vf)((vi)t << 23));
}
/* The masses of x[i .. i + L) -> w; *first += mass (x - best) */
ZL_INLINE void weigh(vf x, float best, float *w, masses *sum, vf *first) {
    const vf d = vf_max(vf_set1(-ZL_SPAN), x - best); /* the second where it is a NaN */
    const vf m = mass_of(d);
    vf_store(w, m);
    add_masses(sum, m);
    *first = vf_fma(m, d, *first);
}
/* w = exp(x - best) 2^ZL_MASS_BITS, whole numbers; *total = their sum, -1 where x holds a NaN; *first = the sum of mass (x - best) */
void ZL_FN(row_weights)(int64_t n, const float *x, float best, float *w, int64_t *total, double *first) {
    *total = 0, *first = 0.0;
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        masses sum = {0};
        vf moment = vf_zero();
        int64_t i = b;
#pragma GCC unroll 4 /* constants that find no register are loaded once for all */
        for (; i + L <= end; i += L) weigh(vf_load(x + i), best, w + i, &sum, &moment);
        if (i < end) {
            float last[L];
            weigh(load_or_none(x, i, n), best, last, &sum, &moment);
            vf_store_n(w + i, vf_load(last), (int)(end - i));
        }
        const int64_t mass = total_of(&sum);
        if (mass < 0) {
            *total = -1;
            return;
        }
        *total += mass, *first += (double)vf_sum(moment);
    }
}

/* Of the elements above -inf: sums[0] = their number, sums[1] = sum of x - shift, sums[2] = sum of (x - shift)^2 */
void ZL_FN(row_moments)(int64_t n, const float *x, float shift, double *sums) {
    sums[0] = sums[1] = sums[2] = 0.0;
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        vf sum = vf_zero(), square = vf_zero();
        vi count = vi_set1(0);
        for (int64_t i = b; i < end; i += L) {
            const vf v = load_or_none(x, i, n);
            const vi there = v > MINUS_INF;
            const vf d = vi_bits(vf_bits(v - shift) & there); /* 0 where it was taken away */
            sum += d, square = vf_fma(d, d, square), count -= there;
        }
        sums[0] += (double)vf_sum(vi_to_vf(count)), sums[1] += (double)vf_sum(sum), sums[2] += (double)vf_sum(square);
    }
}

/* out = -|x - middle|: the nearest to the middle have the largest keys. -inf stays what it is. */
ZL_INLINE vf nearness(vf x, float middle) { return vi_bits(vf_bits(x - middle) | vf_bits(vf_set1(-0.0f))); }
void ZL_FN(row_near)(int64_t n, const float *x, float middle, float *out) {
    int64_t i = 0;
#pragma GCC unroll 4
    for (; i + L <= n; i += L) vf_store(out + i, nearness(vf_load(x + i), middle));
    if (i < n) vf_store_n(out + i, nearness(load_or_none(x, i, n), middle), (int)(n - i));
}

/* ---- the search for a threshold -------------------------------------------------------------------------------------------------------- */

/* A NaN, of inf - inf, goes to the last bucket with -inf: vf_min gives its second argument then. */
ZL_INLINE vi bucket_of(vf key, float top, float per) { return vf_to_vi(vf_min((top - key) * per, vf_set1((float)(ZL_BUCKETS - 1)))); }

/* Of ZL_SAMPLED elements in every `every` times as many, by bucket: their number and mass, 1 each where w is NULL. Both (ZL_BUCKETS). What is
 * -inf or NaN is in the last bucket and counts too: these are bounds of a search, whose answer is exact whatever they say. Returns how
 * many buckets there are to 1 of the keys: those of a row that is nearly flat would all be in a few, were it always the same number. */
float ZL_FN(row_sample)(int64_t n, const float *key, const float *w, float top, int64_t every, int32_t *number, double *mass) {
    int32_t at[ZL_SAMPLED + L];
    vf least = vf_set1(top);
    for (int64_t b = 0; b < n; b += every * ZL_SAMPLED)
        for (int64_t i = b; i < b + ZL_SAMPLED && i < n; i += L) {
            const vf k = load_or_none(key, i, n);
            least = vf_min(least, vf_select(k >= top - ZL_SPAN, k, least));
        }
    const float span = top + vf_hmax(-least), per = (float)(ZL_BUCKETS - 1) / (span > 1e-3f ? span : 1e-3f);
    for (int b = 0; b < ZL_BUCKETS; b++) number[b] = 0, mass[b] = 0.0;
    for (int64_t b = 0; b < n; b += every * ZL_SAMPLED) {
        const int m = b + ZL_SAMPLED <= n ? ZL_SAMPLED : (int)(n - b);
        for (int i = 0; i < m; i += L) vi_store(at + i, bucket_of(load_or_none(key, b + i, n), top, per));
        for (int i = 0; i < m; i++) number[at[i]]++;
        for (int i = 0; w && i < m; i++) mass[at[i]] += (double)w[b + i];
    }
    for (int b = 0; !w && b < ZL_BUCKETS; b++) mass[b] = (double)number[b];
    return per;
}

/* What is listed: ids of keys from `low` on and below `high`, of those equal to `low` up to `last`. */
typedef struct {
    const float *key;
    float low, high;
    int64_t last, room, found;
    int32_t *ids;
} listing;
ZL_INLINE void list_lanes(listing *a, int64_t at, uint64_t lanes) {
    for (; lanes; lanes &= lanes - 1) {
        const int64_t id = at + __builtin_ctzll(lanes);
        if (id > a->last && a->key[id] == a->low) continue;
        if (a->found >= a->room) {
            a->found = a->room + 1;
            return;
        }
        a->ids[a->found++] = (int32_t)id;
    }
}
/* counted: what is added up of the keys from `high` on: 0 nothing, 1 their masses w, 2 their number. -1 where a mass was none. It ends early
 * where there is no more room. */
ZL_INLINE int64_t list(listing *a, int64_t n, const float *w, const int counted) {
    enum { TURN = 4 };
    const vf low = vf_set1(a->low), high = vf_set1(a->high);
    int64_t above = 0;
    for (int64_t b = 0; b < n && a->found <= a->room; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        masses sum = {0};
        vi number = vi_set1(0);
        int64_t i = b;
        for (; i + TURN * L <= end; i += TURN * L) {
            vi in[TURN], some = vi_set1(0);
#pragma GCC unroll 4
            for (int j = 0; j < TURN; j++) {
                const vf key = vf_load(a->key + i + j * L);
                in[j] = key >= low;
                if (counted) {
                    const vi over = key >= high;
                    in[j] &= ~over;
                    if (counted == 1) add_masses(&sum, vi_bits(vf_bits(vf_load(w + i + j * L)) & over));
                    else number -= over;
                }
                some |= in[j];
            }
            if (!vi_any(some)) continue;
            uint64_t lanes = 0;
#pragma GCC unroll 4
            for (int j = 0; j < TURN; j++) lanes |= (uint64_t)vi_lanes(in[j]) << (j * L);
            list_lanes(a, i, lanes);
        }
        for (; i < end; i += L) {
            const vf key = load_or_none(a->key, i, n);
            const vi over = key >= high;
            if (counted == 1) add_masses(&sum, vi_bits(vf_bits(i + L <= n ? vf_load(w + i) : vf_load_n(w + i, (int)(n - i))) & over));
            number -= over;
            list_lanes(a, i, vi_lanes((key >= low) & ~over));
        }
        const int64_t mass = counted == 1 ? total_of(&sum) : counted ? (int64_t)vf_sum(vi_to_vf(number)) : 0;
        if (mass < 0) return -1;
        above += mass;
    }
    return above;
}
/* The ids of keys from `low` (above -inf) on and below `high`, of those equal to `low` up to `last`, ascending -> ids, `room` at most; how
 * many there are, room + 1 for more than fit. *above, unless it is NULL (`high` then is infinite): the mass of the keys from `high` on, their
 * number where w is NULL; -1 where a mass was none. */
int64_t ZL_FN(row_list)(int64_t n, const float *key, const float *w, float low, int64_t last, float high, int32_t *ids, int64_t room, int64_t *above) {
    listing a = {key, low > -FLT_MAX ? low : -FLT_MAX, high, last, room, 0, ids};
    const int64_t sum = !above ? list(&a, n, w, 0) : w ? list(&a, n, w, 1) : list(&a, n, w, 2);
    if (above) *above = sum;
    return a.found;
}

/* ---- what is left ------------------------------------------------------------------------------------------------------------------- */

/* out = x where it is above `least`, or equal to it with an id up to `last`, else -inf; out may be x. How many are left. */
int64_t ZL_FN(row_keep)(int64_t n, const float *x, float least, int64_t last, float *out) {
    int64_t kept = 0;
    const int64_t edge = last + 1 < n ? last + 1 : n; /* ids before it keep what equals `least` */
    const vf none = vf_set1(MINUS_INF), above = vf_set1(least), from = vf_set1(least > -FLT_MAX ? least : -FLT_MAX);
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        vi count = vi_set1(0);
        int64_t i = b;
        if (end <= edge)
#pragma GCC unroll 4
            for (; i + L <= end; i += L) {
                const vf v = vf_load(x + i);
                const vi in = v >= from;
                count -= in;
                vf_store(out + i, vf_select(in, v, none));
            }
        for (; i < end; i += L) {
            const vf v = load_or_none(x, i, n);
            vi in = v > above;
            if (i < edge) {
                int32_t lane[L];
                for (int l = 0; l < L; l++) lane[l] = i + l < edge ? -1 : 0;
                in |= (v >= from) & vi_load(lane);
            }
            count -= in;
            store_up_to(out, vf_select(in, v, none), i, n);
        }
        kept += (int64_t)vf_sum(vi_to_vf(count));
    }
    return kept;
}
