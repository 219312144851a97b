/* zl_text.h - the part of the C API that is about text: tokenizers and grammars. Like zl_api.h it is in the subset of C that cffi's cdef
 * reads, and stands behind it: zl_ctx and zl_status are declared there. Kernels do not see it.
 *
 * Arrays in, arrays out; memory is the caller's where it is not said otherwise.
 */

/* ---- strings: the byte loops of tokenizers --------------------------------------------------------------------------- */

/* Strings as they stand in a GGUF file, and a hash table over them. String i is data[offsets[i] + 8 .. offsets[i + 1]): before each
 * stands its length. All memory is the caller's. */
typedef struct {
    int64_t n;
    int64_t n_bytes;          /* of data                                                                             */
    const uint8_t *data;
    const int64_t *offsets;   /* [n + 1]                                                                             */
    int64_t n_slots;          /* a power of two, more than n                                                         */
    int32_t *slots;           /* [n_slots]                                                                           */
    uint64_t key[2];          /* of the hash; from a random source, so that no file can be made of strings that collide */
    int64_t longest;          /* bytes of the longest string, set by zl_strings_build                                */
    int spaces;               /* a space in a text that is looked up stands for U+2581; no string is longer than ZL_LONGEST_PIECE then */
} zl_strings;

/* Fill the slots. Of equal strings the first is found, with `last` the last. ZL_E_BOUNDS: offsets that descend or leave the data. */
int zl_strings_build(zl_strings *s, int last);
/* Look up n_ends pieces of a text, piece i ending before byte ends[i]: found[i] is a string's number or -1. */
int zl_strings_find(const zl_strings *s, const uint8_t *text, int64_t n, const int32_t *ends, int64_t n_ends, int32_t *found);
/* Byte-pair merging of a word: its characters, joined pair by pair, lowest rank first, of equal ranks the leftmost, until no pair has one.
 * A pair's rank: the number of the string left + separator + right (separator -1: none), or where `ranks` is given ranks[that number],
 * 2^32 - 1 for none. -> ends [up to n], the byte after each symbol that is left, and their number. */
int zl_merge(const zl_strings *s, const uint32_t *ranks, int separator, const uint8_t *text, int64_t n, int32_t *ends, int64_t *n_ends);

/* SentencePiece BPE: how the words of a text become ids. All memory is the caller's. */
typedef struct {
    const zl_strings *tokens; /* without `spaces` a text has U+2581 for each space                                   */
    const uint32_t *ranks;    /* [tokens->n] of zl_merge; NULL: the numbers themselves                               */
    const uint8_t *joinable;  /* [256] whether a byte stands before a space inside a token: no word ends after it    */
    const int32_t *bytes;     /* [256] the token of each byte, -1 for none                                           */
    int32_t unknown;          /* what a run of characters that are no token becomes; -1: the tokens of their bytes   */
} zl_pieces;

/* The ids of a text, its words merged each on its own, see core/pieces.c. cuts [n_cuts][3]: the first byte of what is cut out, the byte after its
 * last, and its id; ascending. -> ids [n] and their number. lacking [3]: the first byte that has no token and needs one (its id is -1), and the
 * ends of the piece that it is in; -1 for none. */
int zl_pieces_encode(const zl_pieces *p, const uint8_t *text, int64_t n, const int32_t *cuts, int64_t n_cuts, int32_t *ids, int64_t *n_ids,
                     int64_t *lacking);

/* ---- unigram tokenizers ------------------------------------------------------------------------------------------------ */

enum { ZL_LONGEST_PIECE = 1024 }; /* bytes */

/* A trie over some strings; core/unigram.c draws it. All memory is the caller's, of first there is one more than of the others. */
typedef struct {
    int64_t n, room;          /* nodes; how many there is room for: one and the bytes of all pieces                  */
    int32_t *first;           /* [room + 1]                                                                          */
    uint8_t *label;           /* [room]                                                                              */
    int32_t *token;           /* [room]                                                                              */
} zl_trie;

/* Build the trie of strings order[n] (spare [n]; both are used up). Of equal strings the one that stands last in `order` is found.
 * ZL_E_SHAPE: a piece of more than ZL_LONGEST_PIECE bytes, or too little room. */
int zl_trie_build(zl_trie *t, const zl_strings *s, int32_t *order, int64_t n, int32_t *spare);

/* The strings of a trie in a text of UTF-8: the longest are taken first, over the whole text, then the next; of one length the one with the lowest
 * number; of one string from the left. What is taken is not looked into again. -> cuts [n][3]: first byte, the byte after the last, the number. */
int zl_specials_find(const zl_trie *t, const uint8_t *text, int64_t n, int32_t *cuts, int64_t *n_cuts);

typedef struct {
    const zl_trie *trie;      /* of the pieces                                                                       */
    const zl_strings *strings;
    const float *scores;      /* [strings->n], finite                                                                */
    float unknown_score;      /* of a character that is no piece                                                     */
    int32_t unknown_id;
    const int32_t *byte_ids;  /* [256] tokens that such a character's bytes become; NULL: the unknown token          */
} zl_unigram;

/* The pieces of a normalised text with the highest sum of scores; of equal sums the one found first, short pieces before long ones. A run
 * of unknown characters is one token. -> ids [n], ends [n] (the byte after each, NULL: not wanted) and their number. */
int zl_unigram_encode(const zl_unigram *u, const uint8_t *text, int64_t n, int32_t *ids, int32_t *ends, int64_t *n_ids);

enum {
    ZL_SPACES_PREFIX = 1,     /* a space goes before a text                                                          */
    ZL_SPACES_MERGE = 2,      /* none at the ends of a text, and one instead of several                              */
    ZL_SPACES_ESCAPE = 4      /* a space is written U+2581                                                           */
};

/* A character map as SentencePiece has it: the longest key that the rest of a text begins with is replaced. */
typedef struct {
    int64_t n_units;          /* of the double array; 0: no map                                                      */
    const uint32_t *units;
    int64_t n_replacements;   /* bytes                                                                               */
    const uint8_t *replacements; /* texts that a 0 ends; a key's value is where its own begins                       */
    const zl_trie *kept;      /* pieces that are not looked into; NULL: none                                         */
    int32_t flags;            /* ZL_SPACES_*                                                                         */
} zl_charsmap;

/* Normalise a text of UTF-8. With `out` NULL *n_out is the room that out needs, which spaces at the end take too. -> out, *n_out bytes of it,
 * and origin (NULL: not wanted; room for one more than out): the byte of the text that each byte comes from, and where what follows would
 * come from. ZL_E_BOUNDS: a map that leads outside itself, or holds a key or replacement of more than ZL_LONGEST_PIECE bytes. */
int zl_normalize(const zl_charsmap *m, const uint8_t *text, int64_t n, uint8_t *out, int32_t *origin, int64_t *n_out);

/* ---- words: cutting a text by a pre-tokenizer's tables, see core/words.c -------------------------------------------------- */

enum { ZL_CUT_EXPRESSION = 0, ZL_CUT_THREES = 1, ZL_CUT_THREES_JOINED = 2, ZL_CUT_TAIL = 3, ZL_CODE_POINTS = 0x110000 };

/* One cut. EXPRESSION: `next` is an automaton over classes. THREES: runs of class 1 in threes from the right, alone; JOINED: only cut before
 * a three; a run with class 2 after it is left. TAIL: the run of class 1 that ends the part. */
typedef struct {
    int kind;
    int n_classes;            /* of an EXPRESSION, up to 256                                                         */
    int n_states;             /* 0 the end, 1 the start                                                              */
    int checked;              /* set by zl_cuts_check                                                                */
    const uint8_t *classes;   /* [ZL_CODE_POINTS]                                                                    */
    const uint16_t *next;     /* [n_states][n_classes + 1], the last column for the end of a part; top bit: a match  */
} zl_cut;

/* Look once at tables that zl_split then trusts. ZL_E_BOUNDS: an entry that leads out of them. */
int zl_cuts_check(zl_cut *cuts, int n_cuts);
/* Cut a text of UTF-8. -> ends [up to n], the byte after each word, and their number. */
int zl_split(const zl_cut *cuts, int n_cuts, const uint8_t *text, int64_t n, int32_t *ends, int64_t *n_ends);

/* ---- pairs: byte-pair encoding of all words of a text, see core/pairs.c ------------------------------------------------------ */

enum { ZL_WHOLE_NEVER = 0, ZL_WHOLE_ALWAYS = 1, ZL_WHOLE_NEWLINES = 2 };

/* Symbols: the tokens, then the texts of `others`, then four for a character of 1 to 4 bytes that is neither. All memory is the caller's. */
typedef struct {
    int64_t n_slots;             /* a power of two, more than there are merges                                         */
    int32_t *slots;              /* [n_slots][4] left, right, what they make, rank; set by zl_pairs_build              */
    uint64_t key[2];             /* of the hash; from a random source                                                  */
    int64_t n_tokens;
    int64_t n_symbols;           /* tokens and others                                                                  */
    const int32_t *lengths;      /* [n_symbols + 4] bytes of a text that a symbol stands for                           */
    const int32_t *bytes;        /* [256] the symbol of each byte; NULL: symbols begin as characters                   */
    const uint16_t *letters;     /* [256] the letter that a byte is spelt with in a token, below 0x800; NULL: itself   */
    const int32_t *lone;         /* [256] the token of a byte whose symbol is none, -1 without                         */
    const zl_strings *tokens;
    const zl_strings *others;    /* NULL: none                                                                         */
    int whole;                   /* which words, being tokens, are these                                               */
    int checked;                 /* set by zl_pairs_build                                                              */
} zl_pairs;

/* What each merge "left right" joins, and what that makes: -> parts [merges][3], numbers of tokens, -1 for a text that is none. */
int zl_pairs_parts(const zl_strings *tokens, const zl_strings *merges, int32_t *parts);
/* Fill the slots. parts [n_merges][3]: symbols; a merge's rank is its place, of equal ones the first counts. */
int zl_pairs_build(zl_pairs *p, const int32_t *parts, int64_t n_merges);
/* Encode words, word i ending before byte ends[i]; none is empty. seen [n_seen]: scratch, a power of two; -> ids [up to n], id_ends [n_ends]: the number of
 * ids up to the end of each word. */
int zl_pairs_encode(const zl_pairs *p, const uint8_t *text, int64_t n, const int32_t *ends, int64_t n_ends, int32_t *seen, int64_t n_seen,
                    int32_t *ids, int32_t *id_ends);

/* ---- WordPiece: words and their parts, see core/wordpiece.c ---------------------------------------------------------------- */

enum { ZL_LONGEST_WORD = 100 }; /* characters, as they are when all is done to them */

/* What becomes of a code point: the low three bits of its entry; the others are the entry's value. */
enum zl_form {
    ZL_FORM_SAME = 0,         /* it is a letter of a word, as it stands                                              */
    ZL_FORM_ALONE = 1,        /* it is a word of its own                                                             */
    ZL_FORM_SPACE = 2,        /* nothing, and no word goes on across it                                              */
    ZL_FORM_NOTHING = 3,      /* nothing, and a word goes on                                                         */
    ZL_FORM_LETTER = 4,       /* the letter `value`                                                                  */
    ZL_FORM_ALONE_AS = 5,     /* a word of its own, the code point `value`                                           */
    ZL_FORM_SEVERAL = 6       /* elements[value] letters, which follow there, see zl_wordpiece                       */
};

/* All memory is the caller's; zl_wordpiece_check sets what is said. */
typedef struct {
    const zl_trie *trie;      /* of the tokens; one that begins a word has U+2581 before it                          */
    int32_t unknown;          /* what a word becomes that no tokens make, or that is too long                        */
    int32_t start;            /* the trie's node for U+2581, -1: no token begins a word; set                         */
    const uint16_t *pages;    /* [ZL_CODE_POINTS / 256] the page of 256 code points each                             */
    int64_t n_pages;
    const uint32_t *entries;  /* [n_pages][256]                                                                      */
    int64_t n_elements;
    const uint32_t *elements; /* a letter: code point | class << 24. Letters of a class other than 0 that follow one another are put in the order
                               * of their classes, equal ones as they stand; 0xffffff is no letter, and ends such a run */
    int checked;              /* set                                                                                 */
} zl_wordpiece;

/* Look once at tables that zl_wordpiece_encode then trusts. ZL_E_BOUNDS: an entry that leads out of them, or to more letters than its code point
 * has bytes. */
int zl_wordpiece_check(zl_wordpiece *w);
/* The ids of a text: its words, of each the longest token it begins with, then the longest of what is left, and so on. -> ids [n] and their number. */
int zl_wordpiece_encode(const zl_wordpiece *w, const uint8_t *text, int64_t n, int32_t *ids, int64_t *n_ids);

/* ---- grammars: machines that read bytes, see core/grammar_machine.h ----------------------------------------------------------- */

/* A grammar, compiled. Its states are numbers; it grows while it is used, so it is for one thread at a time. Every function gives ZL_E_BUDGET
 * when the machine passes its limits, and ZL_E_BOUNDS for a state that is none. */
typedef struct zl_machine zl_machine;
void zl_machine_free(zl_machine *m);
int zl_machine_start(const zl_machine *m, int32_t *state);             /* the state before the first byte                    */
int zl_machine_finished(zl_machine *m, int32_t state, int *finished);  /* whether a text may end here                        */
/* Read n bytes from `state` on: how many were read, and the state after them; the byte after the last that was read is refused. */
int zl_machine_read(zl_machine *m, int32_t state, const uint8_t *text, int64_t n, int64_t *n_read, int32_t *after);
int zl_machine_next(zl_machine *m, int32_t state, int32_t *next);      /* -> next [256], the state after each byte, or -1    */
/* The bytes that must follow, `room` at most, up to where the text may end or two bytes may follow: -> out, *n, and the state after them. */
int zl_machine_forced(zl_machine *m, int32_t state, uint8_t *out, int64_t room, int64_t *n, int32_t *after);
/* Set limits (0: as they are), and say what is used: bytes and states. */
int zl_machine_limit(zl_machine *m, int64_t bytes, int64_t work, int64_t *used, int64_t *n_states);

/* Rules for a pushdown machine, core/grammar_pushdown.c: automata whose edges read a byte of a range or call a rule. Copied. */
typedef struct {
    int64_t n_nodes;           /* of the automata of all rules                                                         */
    const int32_t *edge_first; /* [n_nodes + 1] edges of node i: edge_first[i] .. edge_first[i + 1]                    */
    const uint8_t *edge_low;   /* of each edge its lowest byte,                                                        */
    const uint8_t *edge_high;  /* the highest,                                                                         */
    const int32_t *edge_next;  /* and the node after it                                                                */
    const int32_t *call_first; /* [n_nodes + 1] likewise calls                                                         */
    const int32_t *call_rule;  /* of each call the rule,                                                               */
    const int32_t *call_next;  /* and the node where it goes on                                                        */
    const uint8_t *final;      /* [n_nodes] whether a rule may end here                                                */
    int64_t n_rules;
    const int32_t *rule_node;  /* [n_rules] where it begins; that node is not final                                    */
    const int32_t *rule_group; /* [n_rules] ascending. A rule that another calls before it has read a byte is in the same group or in a later one */
    int32_t start;             /* the node that a text begins at                                                       */
    int n_classes;             /* up to 256                                                                            */
    const uint8_t *class_of;   /* [256] bytes that all edges treat alike                                               */
} zl_pushdown_rules;
int zl_pushdown_new(const zl_pushdown_rules *rules, zl_machine **out);

/* A JSON Schema, core/json_schema.c: places within a value, and who is asked about them (`who` is passed on). Each gives 0, or anything else for
 * what went wrong there, which is ZL_E_BUDGET here. */
typedef struct {
    void *who;
    /* What each byte does at a place, and what the value is if it ended there: -> row [257], pairs [256][2]; see the file. */
    int (*row)(void *who, int32_t place, int32_t *row, int32_t *pairs);
    /* Where it goes on when the value that `frame` waits for has ended so: -> *place, or -1. */
    int (*after)(void *who, int32_t frame, int32_t result, int32_t *place);
    /* What a schema says, ZL_SAY_* below, of a, b, c: -> out. NULL: there is nothing of the kind. */
    int (*say)(void *who, int32_t what, int32_t a, int32_t b, int32_t c, int32_t *out);
    int32_t first, last;       /* the place before the document, and the one after its value                           */
    int32_t root;              /* or the plan of the document's value, and these two are not looked at; -1: none       */
} zl_json_schema;
int zl_json_schema_new(const zl_json_schema *ask, zl_machine **out);
enum {
    ZL_SAY_PLAN,         /* plan -> results of null, true, false; places after -, 0 .. 9; the string's place; array; object; each -1 for none */
    ZL_SAY_OBJECT,       /* object -> the result if it ends here, the place of the next name; -1 for none               */
    ZL_SAY_VALUE,        /* object, result of a name -> the plan of the value after it                                  */
    ZL_SAY_ARRAY,        /* array -> the result if it ends here, the plan of the next item; -1 for none                 */
    ZL_SAY_PROPERTY_END, /* object, result of a name, result of its value -> the object with it, -1 for none            */
    ZL_SAY_ITEM_END,     /* array, result of an item -> the array with it, -1 for none                                  */
    ZL_SAY_LISTENER,     /* listener -> [256] the one after each byte of the text; the result if it ends here; the one after any character, where
                          * all lead to the same; -1 for none */
    ZL_SAY_MOST_OF_PLAN = 17, ZL_TEXT_FREE = -1, ZL_TEXT_ASKED = -2
};
/* Texts, sorted, no two alike, of which strings may be: text i is data[offsets[i] .. offsets[i + 1]). */
int zl_json_schema_list(zl_machine *m, const uint8_t *data, const int64_t *offsets, int64_t n, int32_t *list);
/* An automaton of texts in UTF-8, copied: state 0 is the first, and from every state an end can be reached. */
typedef struct {
    int32_t n_states, n_classes; /* up to 256                                                                          */
    const uint8_t *class_of;     /* [256] bytes that all states treat alike                                            */
    const int32_t *next;         /* [n_states][n_classes] the state after, -1 for none                                 */
    const int32_t *shortest;     /* [n_states] how many characters more a text has at least                            */
} zl_json_automaton;
int zl_json_schema_automaton(zl_machine *m, const zl_json_automaton *automaton, int32_t *number);
/* A string, core/json_schema_places.c: -> the place after its first quote. */
typedef struct {
    int32_t list;           /* texts that are known; ZL_TEXT_FREE: none; ZL_TEXT_ASKED: what each byte leads to is asked (ZL_SAY_LISTENER) */
    int32_t least, most;    /* ZL_TEXT_FREE: how many characters; most -1: any number; with an automaton the most      */
    int32_t other;          /* the result of a text that is not in the list, -1: may not come                          */
    int32_t first;          /* the first listener; with a list, of a text that is not in it, if `other` is -1; -1: none      */
    const int32_t *results; /* [n] the result of each text of the list, -1: may not come                              */
    int32_t automaton;      /* which knows what else would be asked, and then `first` is 0; -1: none                    */
    const int32_t *ends;    /* [n_states] the result of a text that ends in each of its states, -1: none does           */
} zl_json_text;
int zl_json_schema_text(zl_machine *m, const zl_json_text *text, int32_t *place);

/* The tokens of a vocabulary as tries, core/grammar_mask.c. Token i is data[offsets[i] .. offsets[i + 1]); one without bytes is never allowed,
 * but for `ends`, which are where a text may end. */
enum { ZL_LONGEST_RUN = 32 }; /* characters of a token that is looked for by how many it has */
typedef struct zl_vocabulary zl_vocabulary;
int zl_vocabulary_new(const uint8_t *data, const int64_t *offsets, int64_t n, const int32_t *ends, int64_t n_ends, zl_vocabulary **out);
void zl_vocabulary_free(zl_vocabulary *v);
/* mask [(n + 31) / 32], bit i & 31 of word i >> 5: whether token i may follow; and how many may (2: two or more), and the
 * first of them (-1: none). */
int zl_vocabulary_mask(const zl_vocabulary *v, zl_machine *m, int32_t state, uint32_t *mask, int64_t *n_allowed, int32_t *one);
