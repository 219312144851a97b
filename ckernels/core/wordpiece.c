/* wordpiece.c - WordPiece of a whole text in one call: what becomes of its code points, its words, and their tokens.
 *
 *      text      H  é  l  l  o  ,  _  u  n  a  f  f  a  b  l  e        `_`: a space
 *      entries   h  e  .  .  .  A  S  .  .  .  .  .  .  .  .  .        LETTER h, LETTER e, SAME, .., ALONE, SPACE
 *      runs     |              |  |  |                          |
 *      tokens    ▁hello         ▁,    ▁un aff able                     in one trie, U+2581 before those that begin a word
 *
 * Everything about Unicode is in the entries (Python makes them, models/wordpiece_forms.py). A run of code points between spaces and what stands
 * alone is one word, or none if nothing is left of it, and its ids depend on its bytes alone: a run that came before in the text has the ids it had
 * then, without being looked at again. `known` maps a hash to the last run that had it.
 *
 * The only thing that two code points have to do with one another is the order of marks that are kept: those between two letters stand in the order
 * of their classes. A mark is put in its place as it comes, which is cheap, for a word has at most ZL_LONGEST_WORD characters that matter.
 *
 * What it is not: it reads no file, and knows no token but the unknown one. Twin: tokenizer_wordpiece.py's encode_by_definition.
 */
#include "strings.h"
#include "trie.h"
#include "utf8.h"
#include <stdlib.h>

enum { KIND = 7, VALUE = 3, CODE = 0xffffff, CLASS = 24, FEWEST_KNOWN = 16, MOST_KNOWN = 1 << 16, ASCII = 128, START_BYTES = 3 };

static const uint8_t start_text[START_BYTES] = {0xe2, 0x96, 0x81}; /* U+2581 */

/* ---- the tables ------------------------------------------------------------------------------------------------------------------- */

static inline uint32_t entry_of(const zl_wordpiece *w, uint32_t code) { return w->entries[w->pages[code >> 8] * 256 + (code & 255)]; }

/* What can be wrong with an entry, whose code point has `bytes`. */
static int check_entry(const zl_wordpiece *w, int64_t code, int64_t bytes) {
    const uint32_t entry = entry_of(w, (uint32_t)code), kind = entry & KIND, value = entry >> VALUE;
    if (kind > ZL_FORM_SEVERAL) return zl_fail(ZL_E_BOUNDS, "wordpiece: U+%04llX is of kind %u", (long long)code, kind);
    if ((kind == ZL_FORM_LETTER || kind == ZL_FORM_ALONE_AS) && value >= ZL_CODE_POINTS)
        return zl_fail(ZL_E_BOUNDS, "wordpiece: U+%04llX becomes %u", (long long)code, value);
    if (kind != ZL_FORM_SEVERAL) return ZL_OK;
    if (value >= w->n_elements || w->elements[value] >= w->n_elements - value)
        return zl_fail(ZL_E_BOUNDS, "wordpiece: U+%04llX leads to element %u of %lld", (long long)code, value, (long long)w->n_elements);
    int64_t letters = 0;
    for (uint32_t i = 1; i <= w->elements[value]; i++) {
        const uint32_t letter = w->elements[value + i] & CODE;
        if (letter != CODE && letter >= ZL_CODE_POINTS) return zl_fail(ZL_E_BOUNDS, "wordpiece: U+%04llX becomes %u", (long long)code, letter);
        letters += letter != CODE;
    }
    if (letters > bytes) return zl_fail(ZL_E_BOUNDS, "wordpiece: U+%04llX has %lld bytes and becomes %lld letters", (long long)code, (long long)bytes, (long long)letters);
    return ZL_OK;
}

int zl_wordpiece_check(zl_wordpiece *w) {
    if (!w || !w->pages || !w->entries || (w->n_elements && !w->elements)) return zl_fail(ZL_E_ARG, "wordpiece: a null pointer");
    w->checked = 0;
    int status = zl_trie_check(w->trie);
    if (status) return status;
    if (w->n_pages < 1 || w->n_elements < 0) return zl_fail(ZL_E_SHAPE, "wordpiece: %lld pages, %lld elements", (long long)w->n_pages, (long long)w->n_elements);
    for (int64_t code = 0; code < ZL_CODE_POINTS && !status; code++) {
        const int64_t bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        if (!(code & 255) && w->pages[code >> 8] >= w->n_pages)
            return zl_fail(ZL_E_BOUNDS, "wordpiece: page %d of %lld", w->pages[code >> 8], (long long)w->n_pages);
        status = check_entry(w, code, bytes);
    }
    w->start = 0;
    for (int i = 0; i < START_BYTES && w->start >= 0; i++) w->start = zl_trie_child(w->trie, w->start, start_text[i]);
    w->checked = !status;
    return status;
}

/* ---- a word ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int n, run;                      /* letters so far; before which of them no mark is put */
    int too_long;
    uint32_t letters[ZL_LONGEST_WORD]; /* code point | class << 24 */
} word;

static void put(word *to, uint32_t letter) {
    if ((letter & CODE) == CODE) {
        to->run = to->n;
        return;
    }
    if (to->n == ZL_LONGEST_WORD) {
        to->too_long = 1;
        return;
    }
    int at = to->n++;
    for (; letter >> CLASS && at > to->run && to->letters[at - 1] >> CLASS > letter >> CLASS; at--) to->letters[at] = to->letters[at - 1];
    to->letters[at] = letter;
}

/* The letters of text[0 .. n), which no space and nothing alone is in. */
static void spell(const zl_wordpiece *w, const uint8_t *text, int64_t n, word *to) {
    to->n = to->run = to->too_long = 0;
    for (int64_t i = 0, length; i < n && !to->too_long; i += length) {
        const uint32_t code = zl_code_point(text, i, n, &length), entry = entry_of(w, code), value = entry >> VALUE;
        if ((entry & KIND) == ZL_FORM_SAME) put(to, code);
        else if ((entry & KIND) == ZL_FORM_LETTER) put(to, value);
        else if ((entry & KIND) == ZL_FORM_SEVERAL)
            for (uint32_t k = 1; k <= w->elements[value]; k++) put(to, w->elements[value + k]);
    }
}

/* The ids of a word in UTF-8, n bytes, one at least: no more than it has characters, and their number. */
static int64_t cut(const zl_wordpiece *w, const uint8_t *text, int64_t n, int32_t *ids) {
    int64_t count = 0;
    int32_t begin = w->start;
    for (int64_t at = 0, end = 0; at < n; at = end, begin = 0) {
        int32_t found = -1;
        /* What begins a word does not go on one: below the root of the trie it is not looked at. */
        const int other = at && n - at >= START_BYTES && !memcmp(text + at, start_text, START_BYTES);
        int32_t node = other ? -1 : begin;
        for (int64_t i = at; i < n && node >= 0 && (node = zl_trie_child(w->trie, node, text[i])) >= 0; i++)
            if (w->trie->token[node] >= 0) found = w->trie->token[node], end = i + 1;
        if (found < 0) return ids[0] = w->unknown, 1;
        ids[count++] = found;
    }
    return count;
}

/* The ids of text[0 .. n) as `spell` has it; up to n of them, for a code point has no more letters than bytes. */
static int64_t encode_run(const zl_wordpiece *w, const uint8_t *text, int64_t n, int32_t *ids) {
    word letters;
    uint8_t spelt[4 * ZL_LONGEST_WORD];
    int64_t bytes = 0;
    spell(w, text, n, &letters);
    if (letters.too_long) return ids[0] = w->unknown, 1;
    for (int i = 0; i < letters.n; i++) bytes += zl_write_code_point(letters.letters[i] & CODE, spelt + bytes);
    return bytes ? cut(w, spelt, bytes, ids) : 0;
}

/* ---- a text ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t begin, n;     /* the run in the text; n 0: none yet */
    int32_t first, n_ids; /* where its ids are */
} known_run;

/* The byte after the run that begins at `begin`. in_word [ASCII]: whether such a code point is part of one. */
static inline int64_t run_end(const zl_wordpiece *w, const uint8_t *in_word, const uint8_t *text, int64_t begin, int64_t n) {
    int64_t i = begin, length;
    while (i < n) {
        if (text[i] < ASCII) {
            if (!in_word[text[i]]) break;
            i++;
            continue;
        }
        const uint32_t kind = entry_of(w, zl_code_point(text, i, n, &length)) & KIND;
        if (kind == ZL_FORM_SPACE || kind == ZL_FORM_ALONE || kind == ZL_FORM_ALONE_AS) break;
        i += length;
    }
    return i;
}

int zl_wordpiece_encode(const zl_wordpiece *w, const uint8_t *text, int64_t n, int32_t *ids, int64_t *n_ids) {
    if (!w || !n_ids || (n && (!text || !ids))) return zl_fail(ZL_E_ARG, "wordpiece: a null pointer");
    if (w->checked != 1) return zl_fail(ZL_E_ARG, "wordpiece: the tables have not been checked");
    if (n < 0 || n >= INT32_MAX) return zl_fail(ZL_E_SHAPE, "wordpiece: a text of %lld bytes", (long long)n);
    int64_t room = FEWEST_KNOWN, count = 0;
    while (room < n / 4 && room < MOST_KNOWN) room *= 2;
    known_run *known = calloc((size_t)room, sizeof *known);
    if (!known) return zl_fail(ZL_E_MEMORY, "remembering words needs %lld bytes", (long long)(room * (int64_t)sizeof *known));
    uint8_t in_word[ASCII];
    for (uint32_t i = 0; i < ASCII; i++) {
        const uint32_t kind = entry_of(w, i) & KIND;
        in_word[i] = kind != ZL_FORM_SPACE && kind != ZL_FORM_ALONE && kind != ZL_FORM_ALONE_AS;
    }
    for (int64_t begin = 0, end; begin < n; begin = end) {
        end = run_end(w, in_word, text, begin, n);
        if (end == begin) { /* a space, or a word of one character */
            int64_t length;
            const uint32_t code = zl_code_point(text, begin, n, &length), entry = entry_of(w, code);
            uint8_t spelt[4];
            end += length;
            if ((entry & KIND) == ZL_FORM_SPACE) continue;
            length = zl_write_code_point((entry & KIND) == ZL_FORM_ALONE ? code : entry >> VALUE, spelt);
            count += cut(w, spelt, length, ids + count);
            continue;
        }
        const int64_t length = end - begin;
        known_run *run = known + (zl_hash_word(text + begin, length) & (uint64_t)(room - 1));
        if (run->n == length && !memcmp(text + run->begin, text + begin, (size_t)length)) {
            for (int64_t i = 0; i < run->n_ids; i++) ids[count + i] = ids[run->first + i];
        } else {
            const int64_t made = encode_run(w, text + begin, length, ids + count);
            *run = (known_run){(int32_t)begin, (int32_t)length, (int32_t)count, (int32_t)made};
        }
        count += run->n_ids;
    }
    free(known);
    *n_ids = count;
    return ZL_OK;
}
