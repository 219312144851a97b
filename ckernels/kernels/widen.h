/* widen.h - what functions that widen a quant block of a panel (formats_wide.h) are made of: words, small fields, codes and scales put.
 *
 * Such a function takes a quant block at p and writes its blocks of 32 at `to`. What it is not: it knows no format.
 */
#ifndef ZL_WIDEN_H
#define ZL_WIDEN_H
#include "formats_wide.h"

typedef uint16_t half_lanes __attribute__((vector_size(2 * L)));
typedef uint8_t byte_lanes __attribute__((vector_size(L)));
ZL_INLINE vu u16_lanes(const uint8_t *p) { half_lanes v; memcpy(&v, p, sizeof v); return __builtin_convertvector(v, vu); }
ZL_INLINE vu u8_lanes(const uint8_t *p) { byte_lanes v; memcpy(&v, p, sizeof v); return __builtin_convertvector(v, vu); }
ZL_INLINE vf f16_lanes(const uint8_t *p) { return vf_from_f16((const uint16_t *)(const void *)p); }

/* word i of each row, of a type's quant block at p */
ZL_INLINE const uint8_t *word_at(const int type, const uint8_t *p, int i) {
    const wide_shape s = wide_shape_of(type);
    return p + L * s.n_leads * s.lead_size + i * VB;
}
ZL_INLINE vu word(const int type, const uint8_t *p, int i) { return (vu)vb_load(word_at(type, p, i)); }

/* Small unsigned numbers of each row as floats. */
ZL_INLINE vf floats(vu v) { return vi_to_vf((vi)v); }

/* Four bits, or four pairs, of the lowest bits of each lane -> one a byte. */
ZL_INLINE vu four_bits(vu x) { x &= 15; return (x | x << 7 | x << 14 | x << 21) & 0x01010101u; }
ZL_INLINE vu four_pairs(vu x) { x &= 255; return (x | x << 6 | x << 12 | x << 18) & 0x03030303u; }

/* Code vector v of block j: signed bytes c. */
ZL_INLINE void put(const int type, uint8_t *to, int j, int v, vb c) {
    const int codes = wide_codes(type);
    vb_store(to + j * wide_size(type) + v * VB, codes == SIGNED_CODES ? c ^ ZL_SIGNED_ZERO : c + (uint8_t)codes_bias(codes));
}
ZL_INLINE void put_scale(const int type, uint8_t *to, int j, int at, vf v) { vb_store(to + j * wide_size(type) + at, (vb)v); }

/* The floats of a long format's superblock; there is a dmin where there are minimums. */
typedef struct {
    vf d, dmin;
} long_floats;

/* word `index` of a table for each lane */
ZL_INLINE vu gather(const void *table, vu index) {
#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H)
    return (vu)_mm512_i32gather_epi32((__m512i)index, table, 4);
#else /* avx2 has an instruction for it too, which is slow, and does not come here: book_loads.h */
    vu v;
    for (int i = 0; i < L; i++) v[i] = ((const uint32_t *)table)[index[i]];
    return v;
#endif
}

/* What a table of 16 bytes has for the low nibble of each byte; upper bits are clear. */
ZL_INLINE vb lookup(const int8_t *table, vu nibbles) {
#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H)
    return (vb)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), (__m512i)nibbles);
#elif defined(ZL_ISA_avx2)
    return (vb)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), (__m256i)nibbles);
#elif defined(ZL_ISA_neon) || defined(ZL_ISA_dotprod)
    return (vb)vqtbl1q_s8(vld1q_s8(table), (uint8x16_t)nibbles);
#else
    vb v, n = (vb)nibbles;
    for (int i = 0; i < VB; i++) v[i] = (uint8_t)table[n[i]];
    return v;
#endif
}
#endif
