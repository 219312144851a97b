/* emulated_avx512.h - the AVX-512 instructions that the kernels use, for machines that have none: so that the avx512 variant can be run.
 *
 * For tests only, by the build option emulate_avx512: it is included before the kernels' sources, which are then compiled for AVX2. Each
 * instruction is done in two halves by the AVX2 instruction of the same meaning, or as its definition, lane by lane. What this cannot
 * show: that the compiler emits the real instructions (a disassembly test does), and their speed.
 */
#ifndef ZL_EMULATED_AVX512_H
#define ZL_EMULATED_AVX512_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef union {
    __m512 f;
    __m512i i;
    __m256 half[2];
    __m256i half_i[2];
    float lane[16];
    int32_t word[16];
    uint8_t byte[64];
} emulated_;

#define EMULATE_1(name, expr) \
    static inline __m512 name##_(__m512 a_) { \
        emulated_ a = {.f = a_}, r; \
        for (int h = 0; h < 2; h++) r.half[h] = expr; \
        return r.f; \
    }
#define EMULATE_2(name, expr) \
    static inline __m512 name##_(__m512 a_, __m512 b_) { \
        emulated_ a = {.f = a_}, b = {.f = b_}, r; \
        for (int h = 0; h < 2; h++) r.half[h] = expr; \
        return r.f; \
    }
#define EMULATE_3(name, expr) \
    static inline __m512 name##_(__m512 a_, __m512 b_, __m512 c_) { \
        emulated_ a = {.f = a_}, b = {.f = b_}, c = {.f = c_}, r; \
        for (int h = 0; h < 2; h++) r.half[h] = expr; \
        return r.f; \
    }
EMULATE_3(emulated_fmadd, _mm256_fmadd_ps(a.half[h], b.half[h], c.half[h]))
EMULATE_3(emulated_fnmadd, _mm256_fnmadd_ps(a.half[h], b.half[h], c.half[h]))
EMULATE_2(emulated_max, _mm256_max_ps(a.half[h], b.half[h]))
EMULATE_2(emulated_min, _mm256_min_ps(a.half[h], b.half[h]))
EMULATE_1(emulated_sqrt, _mm256_sqrt_ps(a.half[h]))
EMULATE_1(emulated_round_even, _mm256_round_ps(a.half[h], 8))

static inline __m512i emulated_cvtps_epi32(__m512 a_) {
    emulated_ a = {.f = a_}, r;
    for (int h = 0; h < 2; h++) r.half_i[h] = _mm256_cvtps_epi32(a.half[h]);
    return r.i;
}
static inline __m512 emulated_cvtph_ps(__m256i a) {
    emulated_ r = {.half = {_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))}};
    return r.f;
}
static inline __m256i emulated_cvtps_ph(__m512 a_) {
    emulated_ a = {.f = a_};
    return _mm256_set_m128i(_mm256_cvtps_ph(a.half[1], 8), _mm256_cvtps_ph(a.half[0], 8));
}
static inline __m512i emulated_cvtepu16_epi32(__m256i a) {
    emulated_ r = {.half_i = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))}};
    return r.i;
}
static inline __m512d emulated_cvtps_pd(__m256 a) {
    union {
        __m512d d;
        __m256d half[2];
    } r = {.half = {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))}};
    return r.d;
}
static inline __m512i emulated_slli_epi32(__m512i a_, int n) {
    emulated_ a = {.i = a_};
    for (int i = 0; i < 16; i++) a.word[i] = (int32_t)((uint32_t)a.word[i] << n);
    return a.i;
}
static inline __m512 emulated_maskz_loadu_ps(__mmask16 m, const void *p) {
    emulated_ r = {.word = {0}};
    for (int i = 0; i < 16; i++)
        if (m >> i & 1) memcpy(&r.lane[i], (const float *)p + i, 4);
    return r.f;
}
static inline void emulated_mask_storeu_ps(void *p, __mmask16 m, __m512 a_) {
    emulated_ a = {.f = a_};
    for (int i = 0; i < 16; i++)
        if (m >> i & 1) memcpy((float *)p + i, &a.lane[i], 4);
}
static inline void emulated_stream_ps(void *p, __m512 a) { memcpy(p, &a, sizeof a); }
static inline __mmask16 emulated_test_epi32_mask(__m512i a_, __m512i b_) {
    emulated_ a = {.i = a_}, b = {.i = b_};
    unsigned m = 0;
    for (int i = 0; i < 16; i++) m |= (unsigned)((a.word[i] & b.word[i]) != 0) << i;
    return (__mmask16)m;
}
/* Four products of unsigned bytes of a and signed bytes of b, added to each word; no saturation. */
static inline __m512i emulated_dpbusd_epi32(__m512i sum_, __m512i a_, __m512i b_) {
    emulated_ sum = {.i = sum_}, a = {.i = a_}, b = {.i = b_};
    for (int i = 0; i < 16; i++)
        for (int j = 4 * i; j < 4 * i + 4; j++) sum.word[i] += (int32_t)a.byte[j] * (int8_t)b.byte[j];
    return sum.i;
}

/* Two products of signed halves of words, added to each word; no saturation. */
static inline __m512i emulated_dpwssd_epi32(__m512i sum_, __m512i a_, __m512i b_) {
    emulated_ sum = {.i = sum_}, a = {.i = a_}, b = {.i = b_};
    for (int h = 0; h < 2; h++) sum.half_i[h] = _mm256_add_epi32(sum.half_i[h], _mm256_madd_epi16(a.half_i[h], b.half_i[h]));
    return sum.i;
}
static inline __m512i emulated_shuffle_epi8(__m512i a_, __m512i at_) {
    emulated_ a = {.i = a_}, at = {.i = at_}, r;
    for (int h = 0; h < 2; h++) r.half_i[h] = _mm256_shuffle_epi8(a.half_i[h], at.half_i[h]);
    return r.i;
}
static inline __m512i emulated_broadcast_i32x4(__m128i a) {
    emulated_ r = {.half_i = {_mm256_broadcastsi128_si256(a), _mm256_broadcastsi128_si256(a)}};
    return r.i;
}

static inline float emulated_flushed(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x; }
/* Two fused multiply-adds per lane, of the high halves first; denormal numbers are zeros. */
static inline __m512 emulated_dpbf16_ps(__m512 sum_, __m512bh a_, __m512bh b_) {
    emulated_ sum = {.f = sum_}, a, b;
    memcpy(&a, &a_, 64), memcpy(&b, &b_, 64);
    for (int i = 0; i < 16; i++) {
        for (int shift = 0; shift <= 16; shift += 16) {
            const uint32_t u = ((uint32_t)a.word[i] << shift) & 0xffff0000u, v = ((uint32_t)b.word[i] << shift) & 0xffff0000u;
            float x, y;
            memcpy(&x, &u, 4), memcpy(&y, &v, 4);
            sum.lane[i] = emulated_flushed(__builtin_fmaf(emulated_flushed(x), emulated_flushed(y), emulated_flushed(sum.lane[i])));
        }
    }
    return sum.f;
}
static inline __m512bh emulated_cvtne2ps_pbh(__m512 high_, __m512 low_) {
    emulated_ in[2] = {{.f = low_}, {.f = high_}};
    uint16_t out[32];
    __m512bh r;
    for (int i = 0; i < 32; i++) {
        const uint32_t u = (uint32_t)in[i / 16].word[i % 16];
        const int nan = (u & 0x7fffffffu) > 0x7f800000u, denormal = (u & 0x7f800000u) == 0;
        out[i] = (uint16_t)(nan ? u >> 16 | 0x40u : denormal ? u >> 16 & 0x8000u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
    }
    memcpy(&r, out, 64);
    return r;
}

#define _mm512_fmadd_ps emulated_fmadd_
#define _mm512_fnmadd_ps emulated_fnmadd_
#define _mm512_max_ps emulated_max_
#define _mm512_min_ps emulated_min_
#define _mm512_sqrt_ps emulated_sqrt_
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(a, mode) emulated_round_even_(a) /* the kernels use mode 8 alone: to nearest, ties to even */
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_cvtps_pd emulated_cvtps_pd
#define _mm512_cvtph_ps emulated_cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, mode) emulated_cvtps_ph(a)
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 emulated_slli_epi32
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_stream_ps emulated_stream_ps
#define _mm512_test_epi32_mask emulated_test_epi32_mask
#define _mm512_dpbusd_epi32 emulated_dpbusd_epi32
#define _mm512_dpwssd_epi32 emulated_dpwssd_epi32
#define _mm512_shuffle_epi8 emulated_shuffle_epi8
#define _mm512_broadcast_i32x4 emulated_broadcast_i32x4
#define _mm512_dpbf16_ps emulated_dpbf16_ps
#define _mm512_cvtne2ps_pbh emulated_cvtne2ps_pbh
#endif
