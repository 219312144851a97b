/* linear_quantize.c - the activation format: what every product with a quantised weight reads of x.
 *
 * Per block of 32 values of a row:      amax = max |x|      d = amax / 127      q = round_half_even(x * (127 / amax)), within +-127
 *                                       s = sum of q[0..15], sum of q[16..31]
 * For long formats (linear.h) 256 values have one amax, and each of the eight blocks is rounded by amax 2^-j, with the largest j up to 4 that its
 * own largest magnitude allows: integers then join over 256 columns, shifted by 4 - j, and an outlier makes its own block coarse and few others.
 * (With one scale for 256 columns Gemma's logits were twice as far from the exact ones, 0.019 instead of 0.008 of mean KL.) There amax < 2^-115
 * counts as nothing, so that d 2^-4 is no denormal number.
 * A value that is not finite makes d NaN and q 0, so the NaN reaches every output of the row and of no other. amax < 2^-119 gives d = 0 and
 * q = 0: below it 127 / amax is no finite float.
 *
 * All of it is exact or a single correctly rounded operation, so the variants, and the NumPy twin, agree in every bit.
 */
#include "kernels.h"
#include "simd_int.h"

enum { BLOCK = 32, PARTS = BLOCK / L, LONG = 256 };
/* Bits of floats: below these a magnitude counts as nothing; infinity. */
enum { TINY = 0x04000000 /* 2^-119 */, LONG_TINY = 0x06000000 /* 2^-115 */, NOT_FINITE = 0x7f800000 };

/* the largest lane */
ZL_INLINE int32_t largest(vi v) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    __m256i part[L / 8], top;
    memcpy(part, &v, sizeof v);
    top = L == 16 ? _mm256_max_epi32(part[0], part[L / 8 - 1]) : part[0];
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
#else
    int32_t t[L];
    vi_store(t, v);
    for (int w = L / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
    return t[0];
#endif
}

/* 32 int32 within +-127 -> int8 */
ZL_INLINE void narrow(const vi *v, int8_t *q) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    __m256i part[4];
    memcpy(part, v, sizeof part);
    /* vpackssdw and vpacksswb work within 128-bit halves: the words come out as 0 2 4 6 1 3 5 7 */
    __m256i a = _mm256_packs_epi32(part[0], part[1]), b = _mm256_packs_epi32(part[2], part[3]);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
#else
    int32_t wide[BLOCK];
    for (int i = 0; i < PARTS; i++) vi_store(wide + i * L, v[i]);
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)wide[i];
#endif
}

/* The sums of the first and the last 16 of 32 int8. */
ZL_INLINE void half_sums(const int8_t *q, int32_t *s) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    const __m256i flipped = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)q), _mm256_set1_epi8(-128)); /* q + 128 */
    const __m256i eights = _mm256_sad_epu8(flipped, _mm256_setzero_si256()); /* sums of 8 bytes in 64-bit lanes */
    const __m256i sixteens = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4e));
    s[0] = _mm256_extract_epi32(sixteens, 0) - 16 * 128;
    s[1] = _mm256_extract_epi32(sixteens, 4) - 16 * 128;
#else
    s[0] = s[1] = 0;
    for (int i = 0; i < BLOCK / 2; i++) s[0] += q[i], s[1] += q[BLOCK / 2 + i];
#endif
}

/* The bits of the largest |x| of n values: magnitudes are ordered as integers, infinity and NaN above all. */
ZL_INLINE int32_t largest_bits(const float *x, const int n) {
    vi top = {0};
    for (int i = 0; i < n; i += L) {
        const vi size = vf_bits(vf_load(x + i)) & 0x7fffffff, more = size > top;
        top = (more & size) | (~more & top);
    }
    return largest(top);
}

/* Of a block of 256 columns whose largest magnitude has the bits `among`: the bits of what it is rounded by, and how often `among` was halved for it.
 * A magnitude is halved by taking one off its exponent. */
typedef struct {
    int32_t bits; /* 0 or not finite: then all eight are */
    int shift;
} long_block;
ZL_INLINE long_block long_block_of(const float *x, int32_t among) {
    if (among < LONG_TINY || among >= NOT_FINITE) return (long_block){among < LONG_TINY ? 0 : among, 0};
    const int32_t halvings = (among - largest_bits(x, BLOCK)) >> 23;
    const int shift = halvings < ZL_X_SHIFTS ? halvings : ZL_X_SHIFTS;
    return (long_block){among - (shift << 23), shift};
}

/* One block that is rounded by a magnitude of these bits: its 32 values as int32 in r; the scale. */
ZL_INLINE float round_block(const float *x, int32_t bits, vi *r) {
    const vf limit = vf_set1(127.0f);
    if (bits < TINY || bits >= NOT_FINITE) {
        for (int i = 0; i < PARTS; i++) r[i] = (vi){0};
        return bits < TINY ? 0.0f : __builtin_nanf("");
    }
    float amax;
    memcpy(&amax, &bits, 4);
    const vf inverse = vf_set1(127.0f / amax);
    for (int i = 0; i < PARTS; i++) r[i] = vf_to_vi(vf_max(vf_min(vf_load(x + i * L) * inverse, limit), -limit));
    return amax / 127.0f;
}
ZL_INLINE float quantize_block(const float *x, vi *r) { return round_block(x, largest_bits(x, BLOCK), r); }

ZL_INLINE void row(int64_t n, const int per, const float *x, int8_t *q, float *d, int16_t *s) {
    int32_t among = 0;
    for (int64_t b = 0; b < n / BLOCK; b++, x += BLOCK, q += BLOCK, s += 2) {
        vi r[PARTS];
        int32_t sum[2];
        if (b % (per / BLOCK) == 0) among = largest_bits(x, per);
        d[b] = round_block(x, per == BLOCK ? among : long_block_of(x, among).bits, r);
        narrow(r, q);
        half_sums(q, sum);
        s[0] = (int16_t)sum[0], s[1] = (int16_t)sum[1];
    }
}

void ZL_FN(quantize_activation)(int64_t n, int per, const float *x, int8_t *q, float *d, int16_t *s) {
    if (per == BLOCK) row(n, BLOCK, x, q, d, s);
    else row(n, LONG, x, q, d, s);
}

/* The same blocks as a Q8_0 cache keeps them (attention.h): no sums, and the scale rounded to half precision. */
void ZL_FN(kv_store_q8)(int64_t n, const float *x, int8_t *codes, uint16_t *scales, int64_t stride) {
    for (int64_t b = 0; b < n / BLOCK; b++, x += BLOCK, codes += BLOCK * stride, scales += stride) {
        vi r[PARTS];
        int8_t q[BLOCK];
        uint16_t half[L];
        vf_to_f16(half, vf_set1(quantize_block(x, r)));
        narrow(r, q);
        for (int i = 0; i < BLOCK; i++) codes[i * stride] = q[i];
        *scales = half[0];
    }
}

/* The halves' sums side by side, negative, shifted. */
ZL_INLINE int32_t minus_both(const int32_t *sum, int shift) {
    return (int32_t)(((uint32_t)-sum[0] << shift & 0xffffu) | (uint32_t)-sum[1] << shift << 16);
}

/* n columns of g rows, `cols` apart. `g` is a constant where this is inlined, or the number of rows of a last group; `per` is one. */
ZL_INLINE void group(const int64_t g, int64_t n_cols, int64_t cols, const int per, const float *x, int32_t *to) {
    int32_t among[ZL_GROUP] = {0};
    for (int64_t b = 0; b < n_cols / BLOCK; b++, x += BLOCK, to += ZL_X_WORDS * g) {
        for (int64_t n = 0; n < g; n++) {
            vi r[PARTS];
            int32_t words[BLOCK / 4], sum[2];
            if (b % (per / BLOCK) == 0) among[n] = largest_bits(x + n * cols, per);
            const long_block l = per == BLOCK ? (long_block){among[n], 0} : long_block_of(x + n * cols, among[n]);
            const float d = round_block(x + n * cols, l.bits, r) * (per == BLOCK ? 1.0f : zl_x_unit(l.shift));
            const int left = ZL_X_SHIFTS - l.shift;
            narrow(r, (int8_t *)words);
            half_sums((const int8_t *)words, sum);
            for (int w = 0; w < BLOCK / 4; w++) to[w * g + n] = words[w];
            memcpy(&to[ZL_X_D * g + n], &d, 4);
            to[ZL_X_SUM * g + n] = per == BLOCK ? -sum[0] - sum[1] : minus_both(sum, left);
            to[ZL_X_HALF * g + n] = per == BLOCK ? -sum[0] : left;
            to[(ZL_X_HALF + 1) * g + n] = -sum[1];
        }
    }
}

#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
/* ---- eight blocks at a time: of eight rows, or of four rows and two columns of blocks ------------------------------------------------
 *
 *      8 blocks x 32 floats   ->  8 maxima side by side in one register (a tree of shuffles), so that divisions and special cases are done once
 *                             ->  8 registers of 8 quads   ->  transposed: quad v of the 8 blocks side by side, as the group wants them
 */
typedef struct { __m256 v[8]; } eight;

ZL_INLINE __m256 max_tree(const eight *m) { /* lane i: the largest of the 8 lanes of m[i] */
    __m256 a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = _mm256_max_ps(_mm256_unpacklo_ps(m->v[2 * i], m->v[2 * i + 1]), _mm256_unpackhi_ps(m->v[2 * i], m->v[2 * i + 1]));
    for (int i = 0; i < 2; i++) b[i] = _mm256_max_ps(_mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0x44), _mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0xee));
    return _mm256_max_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31));
}

ZL_INLINE void transpose(eight *r) { /* 8 x 8 words */
    eight t, u;
    for (int i = 0; i < 4; i++) {
        t.v[2 * i] = _mm256_unpacklo_ps(r->v[2 * i], r->v[2 * i + 1]);
        t.v[2 * i + 1] = _mm256_unpackhi_ps(r->v[2 * i], r->v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            u.v[4 * i + 2 * k] = _mm256_shuffle_ps(t.v[4 * i + k], t.v[4 * i + 2 + k], 0x44);
            u.v[4 * i + 2 * k + 1] = _mm256_shuffle_ps(t.v[4 * i + k], t.v[4 * i + 2 + k], 0xee);
        }
    }
    for (int k = 0; k < 4; k++) {
        r->v[k] = _mm256_permute2f128_ps(u.v[k], u.v[4 + k], 0x20);
        r->v[4 + k] = _mm256_permute2f128_ps(u.v[k], u.v[4 + k], 0x31);
    }
}

/* Word w of the eight blocks: of eight rows, or of four rows and then of four rows in the next block. */
ZL_INLINE void store_words(int32_t *to, int w, __m256i v) {
    if (ZL_GROUP == 8) {
        _mm256_storeu_si256((__m256i *)(void *)(to + w * 8), v);
    } else {
        _mm_storeu_si128((__m128i *)(void *)(to + w * 4), _mm256_castsi256_si128(v));
        _mm_storeu_si128((__m128i *)(void *)(to + (ZL_X_WORDS + w) * 4), _mm256_extracti128_si256(v, 1));
    }
}

/* The largest magnitude of each of eight blocks, infinity where there is anything that is not finite. */
ZL_INLINE __m256 eight_largest(const float *const *x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    eight m;
    for (int i = 0; i < 8; i++) {
        /* as integers, so that a NaN is larger than all else; magnitudes are ordered as their bits are */
        __m256i a = _mm256_castps_si256(_mm256_andnot_ps(sign, _mm256_loadu_ps(x[i])));
        for (int k = 1; k < 4; k++) a = _mm256_max_epi32(a, _mm256_castps_si256(_mm256_andnot_ps(sign, _mm256_loadu_ps(x[i] + 8 * k))));
        /* from here on as floats: what is not finite becomes infinity, which max_ps keeps */
        m.v[i] = _mm256_castsi256_ps(_mm256_min_epi32(a, _mm256_set1_epi32(NOT_FINITE)));
    }
    return max_tree(&m);
}

/* x[i]: block i; among: its largest magnitude or, for long formats, that of 256 columns. */
ZL_INLINE void eight_blocks(const float *const *x, __m256 among, const int is_long, int32_t *to) {
    const __m256 sign = _mm256_set1_ps(-0.0f), limit = _mm256_set1_ps(127.0f);
    const __m256i bits = _mm256_castps_si256(among), bad = _mm256_cmpgt_epi32(bits, _mm256_set1_epi32(NOT_FINITE - 1));
    const __m256i tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(is_long ? LONG_TINY : TINY), bits);
    __m256 amax = among;
    __m256i left = _mm256_setzero_si256();
    if (is_long) { /* long_block_of, eight times; where it is bad or tiny the shift is 0 */
        const __m256i own = _mm256_castps_si256(eight_largest(x));
        __m256i shift = _mm256_min_epi32(_mm256_srli_epi32(_mm256_sub_epi32(bits, own), 23), _mm256_set1_epi32(ZL_X_SHIFTS));
        shift = _mm256_andnot_si256(_mm256_or_si256(bad, tiny), shift);
        amax = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(shift, 23)));
        left = _mm256_sub_epi32(_mm256_set1_epi32(ZL_X_SHIFTS), shift);
    }
    __m256 d = _mm256_div_ps(among, limit);
    if (is_long) d = _mm256_mul_ps(d, _mm256_set1_ps(zl_x_unit(0)));
    d = _mm256_blendv_ps(_mm256_andnot_ps(_mm256_castsi256_ps(tiny), d), _mm256_set1_ps(__builtin_nanf("")), _mm256_castsi256_ps(bad));
    float inverse[8];
    int32_t keep[8];
    _mm256_storeu_ps(inverse, _mm256_div_ps(limit, amax));
    _mm256_storeu_si256((__m256i *)(void *)keep, _mm256_andnot_si256(_mm256_or_si256(bad, tiny), _mm256_set1_epi32(-1)));
    eight q;
    for (int i = 0; i < 8; i++) {
        const __m256 by = _mm256_set1_ps(inverse[i]);
        __m256i r[4];
        for (int k = 0; k < 4; k++) {
            const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x[i] + 8 * k), by);
            r[k] = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(v, limit), _mm256_xor_ps(limit, sign)));
        }
        /* vpackssdw and vpacksswb work within 128-bit halves: the words come out as 0 2 4 6 1 3 5 7 */
        __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(r[0], r[1]), _mm256_packs_epi32(r[2], r[3]));
        bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        q.v[i] = _mm256_castsi256_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(keep[i])));
    }
    transpose(&q);
    __m256i minus[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int v = 0; v < 8; v++) {
        const __m256i words = _mm256_castps_si256(q.v[v]);
        store_words(to, v, words);
        /* -1 times a quad: four products, summed */
        minus[v / 4] = _mm256_add_epi32(minus[v / 4], _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), words), _mm256_set1_epi16(-1)));
    }
    store_words(to, ZL_X_D, _mm256_castps_si256(d));
    if (is_long) {
        const __m256i first = _mm256_sllv_epi32(minus[0], left), last = _mm256_slli_epi32(_mm256_sllv_epi32(minus[1], left), 16);
        store_words(to, ZL_X_HALVES, _mm256_blend_epi16(first, last, 0xaa));
    } else store_words(to, ZL_X_SUM, _mm256_add_epi32(minus[0], minus[1]));
    store_words(to, ZL_X_HALF, is_long ? left : minus[0]);
    store_words(to, ZL_X_HALF + 1, minus[1]);
}

enum { ACROSS = 8 / ZL_GROUP };
ZL_INLINE void eight_at(const float *x, int64_t cols, const float **at) {
    for (int i = 0; i < 8; i++) at[i] = x + i % ZL_GROUP * cols + i / ZL_GROUP * BLOCK;
}
/* Of the whole group's rows the largest magnitude of 256 columns, once or twice side by side. */
ZL_INLINE __m256 long_largest(const float *x, int64_t cols) {
    __m256 m = _mm256_setzero_ps();
    for (int b = 0; b < 8; b += ACROSS) {
        const float *at[8];
        eight_at(x + b * BLOCK, cols, at);
        m = _mm256_max_ps(m, eight_largest(at));
    }
    return ACROSS == 1 ? m : _mm256_max_ps(m, _mm256_permute2f128_ps(m, m, 1));
}
ZL_INLINE void whole_group(int64_t cols, const int per, const float *x, int32_t *to) {
    __m256 amax = _mm256_setzero_ps();
    int64_t b = 0;
    for (; b + ACROSS <= cols / BLOCK; b += ACROSS, x += ACROSS * BLOCK, to += ACROSS * ZL_X_WORDS * ZL_GROUP) {
        const float *at[8];
        eight_at(x, cols, at);
        if (per == BLOCK) {
            eight_blocks(at, eight_largest(at), 0, to);
        } else {
            if (b % 8 == 0) amax = long_largest(x, cols);
            eight_blocks(at, amax, 1, to);
        }
    }
    if (b < cols / BLOCK) group(ZL_GROUP, cols - b * BLOCK, cols, per, x, to);
}
#else
ZL_INLINE void whole_group(int64_t cols, const int per, const float *x, int32_t *to) { group(ZL_GROUP, cols, cols, per, x, to); }
#endif

ZL_INLINE void any_group(int64_t g, int64_t cols, const int per, const float *x, int32_t *to) {
    if (g == ZL_GROUP) whole_group(cols, per, x, to);
    else if (g == 1) group(1, cols, cols, per, x, to);
    else group(g, cols, cols, per, x, to);
}
void ZL_FN(quantize_group)(int64_t g, int64_t cols, int per, const float *x, int32_t *to) {
    if (per == BLOCK) any_group(g, cols, BLOCK, x, to);
    else any_group(g, cols, LONG, x, to);
}
