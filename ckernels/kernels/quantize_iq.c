/* quantize_iq.c - floats -> the IQ formats whose codes number vectors of a codebook: IQ1, IQ2, IQ3. And the door to IQ4.
 *
 * The blocks are drawn in dequantize_iq.c; how scales and vectors are chosen, and why so, in the twin, iq_quantizers.py. A value is s m:
 * s = u (2 l + 1), u = d unit, belongs to a quant block of 16 or 32 values, m to the vector.
 *
 *      256 values   -> blocks (8 or 16)   -> groups: 8 or 4 values, one vector each
 *
 * The search: for eight scales at once, one in each lane, the vector of a group that makes sum w (x - s m)^2 smallest.
 *
 *      costs of an element at each level   -> of pairs   -> of a half (64 or 81 numbers): two tables
 *      for each upper half that occurs: the smallest cost of the lower halves that go with it, + its own
 */
#include "codebook_lists.h"
#include "quantize_eight.h"

enum { SUPER = 256 };
enum { NO_SHIFT, SHIFT_OF_BLOCK, SHIFT_OF_VECTOR }; /* IQ1's signs of 1/8 */

typedef struct {
    int codebook, block, scales, shift, parity;
    float unit, top;            /* top: the largest magnitude */
    float by_top[8], by_mean[8]; /* the scales first tried: multiples of max |x| / top, plus multiples of sqrt(sum w x^2 / sum w) */
    float m[8];                 /* magnitudes, of IQ1 8 t */
} format;

#define NEAR_TOP {0.5f, 0.6625f, 0.825f, 0.9875f, 1.15f, 0, 0, 0}
#define TRITS {0.3f, 0.53f, 0.77f, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0.096f, 0.139f, 0.181f, 0.224f}, {-8, 0, 8}
#define THREE {8, 25, 43}
static const format iq1_s = {ZL_CODEBOOK_IQ1, 32, 8, SHIFT_OF_BLOCK, 0, 0.125f, 9, TRITS};
static const format iq1_m = {ZL_CODEBOOK_IQ1, 16, 8, SHIFT_OF_VECTOR, 0, 0.125f, 9, TRITS};
static const format iq2_xxs = {ZL_CODEBOOK_IQ2_XXS, 32, 16, 0, 1, 0.125f, 43, NEAR_TOP, {0, 0, 0, 0, 0, 0.0346f, 0.0519f, 0.0692f}, THREE};
static const format iq2_xs = {ZL_CODEBOOK_IQ2_XS, 16, 16, 0, 1, 0.125f, 43, NEAR_TOP, {0, 0, 0, 0, 0, 0.033f, 0.0495f, 0.066f}, THREE};
static const format iq2_s = {ZL_CODEBOOK_IQ2_S, 16, 16, 0, 0, 0.125f, 43, NEAR_TOP, {0, 0, 0, 0, 0, 0.033f, 0.0495f, 0.066f}, THREE};
static const format iq3_xxs = {ZL_CODEBOOK_IQ3_XXS, 32, 16, 0, 1, 0.25f, 62, NEAR_TOP, {0, 0, 0, 0, 0, 0.0259f, 0.0389f, 0.0519f},
                               {4, 12, 20, 28, 36, 44, 52, 62}};
static const format iq3_s = {ZL_CODEBOOK_IQ3_S, 32, 16, 0, 0, 1, 15, NEAR_TOP, {0, 0, 0, 0, 0, 0.105f, 0.158f, 0.211f},
                             {1, 3, 5, 7, 9, 11, 13, 15}};

/* ---- the search ------------------------------------------------------------------------------------------------------------------------- */

/* Costs of half a vector at eight scales. table: of all halves; least: of the cheapest; cheapest: its number */
typedef struct { v8 table[ZL_HALVES], least; v8i cheapest; } half_table;

/* x, w (size / 2): 4 elements of 3 levels, or 2 of 8; sm: s m for each level */
ZL_INLINE void half_costs(const int size, const float *x, const float *w, const v8 *sm, half_table *to) {
    const int levels = size == 8 ? 3 : 8;
    v8 c[4][8], pair[2][9], least[4];
    to->cheapest = (v8i){0};
    for (int i = 0, place = 1; i < size / 2; i++, place *= levels) {
        v8i which = {0};
        for (int k = 0; k < levels; k++) {
            const v8 t = x[i] - sm[k];
            c[i][k] = w[i] * t * t;
            if (k) which = v8i_select(v8_less(c[i][k], least[i]), (v8i){0} + k * place, which);
            least[i] = k ? v8_min(c[i][k], least[i]) : c[i][k];
        }
        to->cheapest += which;
    }
    if (size == 4) {
        for (int k = 0; k < 64; k++) to->table[k] = c[0][k % 8] + c[1][k / 8];
        to->least = least[0] + least[1];
        return;
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 9; k++) pair[i][k] = c[2 * i][k % 3] + c[2 * i + 1][k / 3];
    for (int b = 0; b < 9; b++)
        for (int a = 0; a < 9; a++) to->table[a + 9 * b] = pair[0][a] + pair[1][b];
    to->least = (least[0] + least[1]) + (least[2] + least[3]);
}

ZL_INLINE v8 least_of_list(const zl_codebook_lists_ *book, int i, const half_table *lower) {
    const uint16_t *e = book->lower + book->start[i], *end = book->lower + book->start[i + 1];
#define LOWER(at) *(const v8 *)(const void *)((const uint8_t *)lower->table + (at))
    v8 least = LOWER(*e++);
    for (; e < end; e++) least = v8_min(LOWER(*e), least);
    return least;
}

/* The best vector's cost for each of eight scales, and which list it is in. x, w (size) */
typedef struct { v8 cost; v8i list; } found;
ZL_INLINE found search(const int size, const zl_codebook_lists_ *book, const float *x, const float *w, const v8 *sm) {
    half_table lower, upper;
    half_costs(size, x, w, sm, &lower);
    half_costs(size, x + size / 2, w + size / 2, sm, &upper);
    /* A bound: what the lists of the cheapest upper halves give. */
    v8 bound = v8_set1(__builtin_inff());
    int lists[8], seen = 0;
    for (int lane = 0; lane < 8; lane++) {
        const int i = book->list_of[upper.cheapest[lane]];
        int known = 0;
        for (int k = 0; k < seen; k++) known |= lists[k] == i;
        if (known) continue;
        lists[seen++] = i;
        bound = v8_min(upper.table[book->upper[i]] + least_of_list(book, i, &lower), bound);
    }
    /* Only lists that might be as good, at one scale at least, are gone through: with the cheapest lower half of all. Sums are rounded
     * monotonically, so none is lost. */
    uint8_t worth[ZL_HALVES];
    int n = 0;
    for (int i = 0; i < book->lists; i++) {
        worth[n] = (uint8_t)i;
        n += v8i_any(~v8_less(bound, upper.table[book->upper[i]] + lower.least));
    }
    found best = {v8_set1(__builtin_inff()), {0}};
    for (int k = 0; k < n; k++) {
        const v8 cost = upper.table[book->upper[worth[k]]] + least_of_list(book, worth[k], &lower);
        best.list = v8i_select(v8_less(cost, best.cost), (v8i){0} + worth[k], best.list);
        best.cost = v8_min(cost, best.cost);
    }
    return best;
}
static __attribute__((noinline)) found search8(const zl_codebook_lists_ *book, const float *x, const float *w, const v8 *sm) {
    return search(8, book, x, w, sm);
}
static __attribute__((noinline)) found search4(const zl_codebook_lists_ *book, const float *x, const float *w, const v8 *sm) {
    return search(4, book, x, w, sm);
}
/* What a vector of 8 would cost if the codebook had all of them: the first scales of IQ1, whose codebook has every third, are chosen by it. */
static found search_any(const float *x, const float *w, const v8 *sm) {
    v8 least[8];
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 3; k++) {
            const v8 t = x[i] - sm[k], c = w[i] * t * t;
            least[i] = k ? v8_min(c, least[i]) : c;
        }
    return (found){((least[0] + least[1]) + (least[2] + least[3])) + ((least[4] + least[5]) + (least[6] + least[7])), {0}};
}

/* In that list, the vector whose lower half costs least at one scale: the first of equal ones. The same sums in the same order. */
static int vector_of(const zl_codebook_lists_ *book, int list, const float *x, const float *w, const float *m, float shift, float s) {
    const int half = book->size / 2;
    float c[4][8], least = 0;
    for (int i = 0; i < half; i++)
        for (int k = 0; k < book->levels; k++) {
            const float t = x[i] - s * (m[k] + shift);
            c[i][k] = w[i] * t * t;
        }
    int best = -1;
    for (int e = book->start[list]; e < book->start[list + 1]; e++) {
        const int h = book->lower[e] / 32;
        const float cost = half == 2 ? c[0][h % 8] + c[1][h / 8] : (c[0][h % 3] + c[1][h / 3 % 3]) + (c[2][h / 9 % 3] + c[3][h / 27]);
        if (best < 0 || cost < least) best = e, least = cost;
    }
    return best;
}

/* ---- a superblock ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint16_t d;             /* half precision */
    uint8_t scale[16];      /* l of each block */
    uint16_t vector[64];    /* of each group */
    uint8_t sign[32];       /* of each 8 values */
    uint8_t shift[32];      /* of each group, IQ1: 1 where 1/8 is subtracted */
} chosen;

/* A block for eight scales: its cost; of each group the list, for both shifts, and which shift (-1: minus). first: for the first scales */
typedef struct { v8i list[2][8], minus[8]; } block_choice;
static v8 block_cost(const format *f, const zl_codebook_lists_ *book, const float *x, const float *w, v8 s, int first, block_choice *to) {
    const int groups = f->block / book->size, shifts = f->shift ? 2 : 1;
    v8 sm[2][8], total[2] = {v8_set1(0), v8_set1(0)};
    for (int k = 0; k < book->levels; k++)
        for (int h = 0; h < shifts; h++) sm[h][k] = s * (f->m[k] + (f->shift ? (float)(1 - 2 * h) : 0.0f));
    for (int g = 0; g < groups; g++) {
        found r[2];
        for (int h = 0; h < shifts; h++) {
            const float *xg = x + g * book->size, *wg = w + g * book->size;
            r[h] = first && f->shift ? search_any(xg, wg, sm[h]) : (book->size == 8 ? search8 : search4)(book, xg, wg, sm[h]);
            to->list[h][g] = r[h].list;
        }
        to->minus[g] = (v8i){0};
        if (f->shift == SHIFT_OF_VECTOR) {
            to->minus[g] = v8_less(r[1].cost, r[0].cost);
            r[0].cost = v8_min(r[1].cost, r[0].cost);
        }
        for (int h = 0; h < shifts; h++) total[h] += r[h].cost;
    }
    if (f->shift == SHIFT_OF_BLOCK) {
        const v8i minus = v8_less(total[1], total[0]);
        for (int g = 0; g < groups; g++) to->minus[g] = minus;
        return v8_min(total[1], total[0]);
    }
    return total[0];
}

/* Signs off (IQ1 keeps them), an even number of minuses where only seven signs are stored: -> magnitudes */
static void take_signs(const format *f, const float *x, const float *w, float *magnitudes, uint8_t *signs) {
    for (int k = 0; k < SUPER / 8; k++, x += 8, w += 8, magnitudes += 8) {
        int sign = 0, cheapest = 0;
        float least = 0;
        for (int i = 0; i < 8; i++) {
            const float a = __builtin_fabsf(x[i]), cost = w[i] * a;
            magnitudes[i] = f->shift ? x[i] : a;
            sign |= (!f->shift && x[i] < 0) << i;
            if (!i || cost < least) cheapest = i, least = cost;
        }
        if (f->parity && __builtin_popcount((unsigned)sign) % 2) {
            sign ^= 1 << cheapest;
            magnitudes[cheapest] = -magnitudes[cheapest];
        }
        signs[k] = (uint8_t)sign;
    }
}

static v8 first_scales(const format *f, const float *x, const float *w) {
    v8 top = v8_set1(0), squares = v8_set1(0), sum = v8_set1(0);
    for (int i = 0; i < f->block; i += 8) {
        const v8 v = v8_load(x + i), a = v8_abs(v), wv = v8_load(w + i);
        top = v8_select(a > top, a, top);
        squares += wv * v * v;
        sum += wv;
    }
    const float all = sum8(sum), mean = sum8(squares) / (all > 0x1p-126f ? all : 0x1p-126f);
    return top[lane_of_most(top)] / f->top * v8_load(f->by_top) + v8_sqrt(v8_set1(mean))[0] * v8_load(f->by_mean);
}

static void choose(const format *f, const float *x, const float *importance, chosen *to) {
    const zl_codebook_lists_ *book = zl_codebook_lists(f->codebook);
    const int groups = f->block / book->size;
    float w[SUPER], magnitudes[SUPER], q[SUPER], s[16], most = 0;
    block_choice choice;
    memset(to, 0, sizeof *to);
    if (!(weights(SUPER, x, importance, w) >= ZL_QUANTIZE_TINY)) return;
    take_signs(f, x, w, magnitudes, to->sign);
    for (int b = 0; b < SUPER / f->block; b++) {
        const v8 tried = first_scales(f, magnitudes + b * f->block, w + b * f->block);
        s[b] = tried[lane_of_least(block_cost(f, book, magnitudes + b * f->block, w + b * f->block, tried, 1, &choice))];
        most = s[b] > most ? s[b] : most;
    }
    const float u = most / (float)(2 * f->scales - 1);
    for (int b = 0; b < SUPER / f->block; b++) {
        const float *xb = magnitudes + b * f->block, *wb = w + b * f->block;
        const int near = (int)(s[b] / u * 0.5f) - 4, start = near < 0 ? 0 : near > f->scales - 8 ? f->scales - 8 : near;
        v8 odd;
        for (int i = 0; i < 8; i++) odd[i] = (float)(2 * (start + i) + 1);
        const int lane = lane_of_least(block_cost(f, book, xb, wb, u * odd, 0, &choice));
        to->scale[b] = (uint8_t)(start + lane);
        for (int g = 0; g < groups; g++) {
            const int at = b * groups + g, minus = f->shift && choice.minus[g][lane];
            const float shift = f->shift ? (float)(1 - 2 * minus) : 0.0f;
            const int e = vector_of(book, choice.list[minus][g][lane], xb + g * book->size, wb + g * book->size, f->m, shift, u * odd[lane]);
            const uint64_t vector = book->size == 8 ? ((const uint64_t *)book->vectors)[e] : ((const uint32_t *)book->vectors)[e];
            to->vector[at] = (uint16_t)e;
            if (f->shift) to->shift[at] = (uint8_t)minus;
            for (int i = 0; i < book->size; i++) {
                const int byte = (int)(vector >> (8 * i) & 255);
                q[at * book->size + i] = (f->shift ? (float)(8 * (int8_t)byte) + shift : (float)byte) * odd[lane];
            }
        }
    }
    v8 sx = v8_set1(0), sq = v8_set1(0);
    for (int i = 0; i < SUPER; i += 8) {
        const v8 v = v8_load(q + i), wq = v8_load(w + i) * v;
        sx += wq * v8_load(magnitudes + i);
        sq += wq * v;
    }
    to->d = half_of(sum8(sx) / sum8(sq) / f->unit);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------------------------------ */

ZL_INLINE void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
ZL_INLINE void put32(uint8_t *p, uint32_t v) { put16(p, v), put16(p + 2, v >> 16); }
/* n fields of `bits` bits, the first of a byte lowest, into bytes that are 0 */
ZL_INLINE void put_field(uint8_t *p, int i, int bits, int v) { p[i * bits / 8] |= (uint8_t)(v << (i * bits % 8)); }
/* of 32 values: four times seven signs, scale in the upper 4 bits */
ZL_INLINE uint32_t signs_and_scale(const chosen *c, int j) {
    uint32_t word = (uint32_t)c->scale[j] << 28;
    for (int k = 0; k < 4; k++) word |= (uint32_t)(c->sign[4 * j + k] & 127) << (7 * k);
    return word;
}

static void put_iq3_xxs(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int k = 0; k < 64; k++) p[2 + k] = (uint8_t)c->vector[k];
    for (int j = 0; j < 8; j++) put32(p + 66 + 4 * j, signs_and_scale(c, j));
}
static void put_iq3_s(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int k = 0; k < 64; k++) p[2 + k] = (uint8_t)c->vector[k], put_field(p + 66, k, 1, c->vector[k] >> 8);
    memcpy(p + 74, c->sign, 32);
    for (int j = 0; j < 8; j++) put_field(p + 106, j, 4, c->scale[j]);
}
static void put_iq2_xxs(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int k = 0; k < 32; k++) p[2 + k / 4 * 8 + k % 4] = (uint8_t)c->vector[k];
    for (int j = 0; j < 8; j++) put32(p + 6 + 8 * j, signs_and_scale(c, j));
}
static void put_iq2_xs(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int k = 0; k < 32; k++) put16(p + 2 + 2 * k, c->vector[k] | (uint32_t)(c->sign[k] & 127) << 9);
    for (int j = 0; j < 16; j++) put_field(p + 66, j, 4, c->scale[j]);
}
static void put_iq2_s(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int k = 0; k < 32; k++) p[2 + k] = (uint8_t)c->vector[k], put_field(p + 66, k, 2, c->vector[k] >> 8);
    memcpy(p + 34, c->sign, 32);
    for (int j = 0; j < 16; j++) put_field(p + 74, j, 4, c->scale[j]);
}
static void put_iq1_s(const chosen *c, uint8_t *p) {
    put16(p, c->d);
    for (int j = 0; j < 8; j++) {
        uint32_t word = (uint32_t)(c->scale[j] << 12 | c->shift[4 * j] << 15);
        for (int k = 0; k < 4; k++) p[2 + 4 * j + k] = (uint8_t)c->vector[4 * j + k], word |= (uint32_t)(c->vector[4 * j + k] >> 8) << (3 * k);
        put16(p + 34 + 2 * j, word);
    }
}
static void put_iq1_m(const chosen *c, uint8_t *p) { /* d in the upper nibbles of the four scale words */
    for (int k = 0; k < 32; k++) p[k] = (uint8_t)c->vector[k], put_field(p + 32, k, 4, c->vector[k] >> 8 | c->shift[k] << 3);
    for (int j = 0; j < 4; j++) {
        uint32_t word = (uint32_t)(c->d >> (4 * j) & 15) << 12;
        for (int k = 0; k < 4; k++) word |= (uint32_t)c->scale[4 * j + k] << (3 * k);
        put16(p + 48 + 2 * j, word);
    }
}

static const struct {
    int type, bytes;
    const format *f;
    void (*put)(const chosen *, uint8_t *);
} kinds[] = {
    {ZL_TYPE_IQ1_S, 50, &iq1_s, put_iq1_s},       {ZL_TYPE_IQ1_M, 56, &iq1_m, put_iq1_m},    {ZL_TYPE_IQ2_XXS, 66, &iq2_xxs, put_iq2_xxs},
    {ZL_TYPE_IQ2_XS, 74, &iq2_xs, put_iq2_xs},    {ZL_TYPE_IQ2_S, 82, &iq2_s, put_iq2_s},    {ZL_TYPE_IQ3_XXS, 98, &iq3_xxs, put_iq3_xxs},
    {ZL_TYPE_IQ3_S, 110, &iq3_s, put_iq3_s},
};

int ZL_FN(quantize_iq)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    if (ZL_FN(quantize_iq4)(type, n, at, cols, x, importance, dst)) return 1;
    size_t k = 0;
    while (k < sizeof kinds / sizeof kinds[0] && kinds[k].type != type) k++;
    if (k == sizeof kinds / sizeof kinds[0]) return 0;
    for (int64_t i = 0; i < n; i += SUPER, dst += kinds[k].bytes) {
        chosen c;
        choose(kinds[k].f, x + i, importance ? importance + (at + i) % cols : NULL, &c);
        memset(dst, 0, (size_t)kinds[k].bytes);
        kinds[k].put(&c, dst);
    }
    return 1;
}
