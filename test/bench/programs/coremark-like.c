// The mix of work that embedded programs do, in the manner of (not taken from) the well-known CoreMark: a linked list that
// is searched, reversed and sorted; small integer matrices; a state machine over text; a CRC over all results.
#include "bench.h"

const char bench_name[] = "coremark-like";
const u32 bench_iterations = 1000;

// --- CRC-16, one bit at a time, polynomial 0xa001 ---

static u16 crc_byte(u16 crc, u8 byte) {
  for (u32 i = 0; i < 8; i++) {
    u32 carry = (crc ^ byte) & 1;
    crc >>= 1;
    byte >>= 1;
    if (carry) crc ^= 0xa001;
  }
  return crc;
}

static u16 crc_half(u16 crc, u16 value) { return crc_byte(crc_byte(crc, (u8)value), (u8)(value >> 8)); }

static u16 crc_word(u16 crc, u32 value) { return crc_half(crc_half(crc, (u16)value), (u16)(value >> 16)); }

// --- List ---

#define ITEMS 200

struct item {
  struct item *next;
  i16 key;
  i16 index;
};

static struct item items[ITEMS];

static struct item *make_list(u32 seed) {
  for (u32 i = 0; i < ITEMS; i++) {
    items[i].next = i + 1 < ITEMS ? &items[i + 1] : 0;
    items[i].key = (i16)(next_random(&seed) & 0x3ff);
    items[i].index = (i16)i;
  }
  return items;
}

__attribute__((noinline)) static struct item *find(struct item *list, i16 key) {
  while (list && list->key != key) list = list->next;
  return list;
}

__attribute__((noinline)) static struct item *reverse(struct item *list) {
  struct item *done = 0;
  while (list) {
    struct item *next = list->next;
    list->next = done;
    done = list;
    list = next;
  }
  return done;
}

typedef i32 order(const struct item *a, const struct item *b);

static i32 by_key(const struct item *a, const struct item *b) { return a->key - b->key; }
static i32 by_index(const struct item *a, const struct item *b) { return a->index - b->index; }

// Merge sort from the bottom up, stable, with a function for the order.
__attribute__((noinline)) static struct item *sort(struct item *list, order *compare) {
  for (u32 run = 1;; run *= 2) {
    struct item *rest = list, *sorted = 0, **tail = &sorted;
    u32 merges = 0;
    while (rest) {
      struct item *a = rest, *b = rest;
      u32 in_a = 0, in_b = run;
      while (in_a < run && b) in_a++, b = b->next;
      merges++;
      while (in_a > 0 || (in_b > 0 && b)) {
        struct item *pick;
        if (in_a == 0) pick = b, b = b->next, in_b--;
        else if (in_b == 0 || !b || compare(a, b) <= 0) pick = a, a = a->next, in_a--;
        else pick = b, b = b->next, in_b--;
        *tail = pick;
        tail = &pick->next;
      }
      rest = b;
    }
    *tail = 0;
    list = sorted;
    if (merges <= 1) return list;
  }
}

static u16 work_list(u32 seed) {
  struct item *list = make_list(seed);
  u16 crc = 0;
  for (i16 key = 0; key < 24; key++) {
    struct item *found = find(list, (i16)(key * 41));
    crc = crc_half(crc, found ? (u16)found->index : 0xffff);
    list = reverse(list);
  }
  list = sort(list, by_key);
  for (struct item *i = list; i; i = i->next) crc = crc_half(crc, (u16)i->key);
  list = sort(list, by_index);
  return crc_half(crc, (u16)list->next->key);
}

// --- Matrices ---

#define SIDE 12

static i16 left[SIDE][SIDE], right[SIDE][SIDE];
static i32 product[SIDE][SIDE];

__attribute__((noinline)) static void multiply(void) {
  for (u32 i = 0; i < SIDE; i++)
    for (u32 j = 0; j < SIDE; j++) {
      i32 sum = 0;
      for (u32 k = 0; k < SIDE; k++) sum += left[i][k] * right[k][j];
      product[i][j] = sum;
    }
}

// Products of two fields of bits, as fixed-point code does.
__attribute__((noinline)) static void multiply_fields(void) {
  for (u32 i = 0; i < SIDE; i++)
    for (u32 j = 0; j < SIDE; j++) {
      i32 sum = 0;
      for (u32 k = 0; k < SIDE; k++) {
        i32 p = left[i][k] * right[k][j];
        sum += ((p >> 2) & 0xf) * ((p >> 5) & 0x7f);
      }
      product[i][j] = sum;
    }
}

__attribute__((noinline)) static u16 sum_matrix(u16 crc, i32 limit) {
  i32 sum = 0, last = 0, runs = 0;
  for (u32 i = 0; i < SIDE; i++)
    for (u32 j = 0; j < SIDE; j++) {
      i32 v = product[i][j];
      sum += v;
      if (sum > limit) {
        runs += 10;
        sum = 0;
      } else if (v > last) {
        runs++;
      }
      last = v;
    }
  return crc_word(crc, (u32)runs);
}

static u16 work_matrix(u32 seed) {
  for (u32 i = 0; i < SIDE; i++)
    for (u32 j = 0; j < SIDE; j++) {
      left[i][j] = (i16)(next_random(&seed) & 0xff);
      right[i][j] = (i16)(next_random(&seed) & 0x7f);
    }
  u16 crc = 0;
  for (i16 step = 1; step <= 2; step++) {
    for (u32 i = 0; i < SIDE; i++)
      for (u32 j = 0; j < SIDE; j++) left[i][j] = (i16)(left[i][j] + step);
    multiply();
    crc = sum_matrix(crc, 40000);
    multiply_fields();
    crc = sum_matrix(crc, 9000);
  }
  return crc;
}

// --- State machine: what kinds of number are in a text ---

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, SCIENTIFIC, WRONG, STATES };

static bool digit(char c) { return c >= '0' && c <= '9'; }

// Reads one number up to a comma and returns the state that it ended in.
__attribute__((noinline)) static enum state classify(const char **text, u32 *entered) {
  enum state state = START;
  const char *p = *text;
  for (; *p && *p != ','; p++) {
    char c = *p;
    enum state next = WRONG;
    switch (state) {
    case START:
      if (digit(c)) next = INTEGER;
      else if (c == '+' || c == '-') next = SIGN;
      else if (c == '.') next = POINT;
      break;
    case SIGN:
      if (digit(c)) next = INTEGER;
      else if (c == '.') next = POINT;
      break;
    case INTEGER:
      if (digit(c)) next = INTEGER;
      else if (c == '.') next = FRACTION;
      else if (c == 'e' || c == 'E') next = EXPONENT;
      break;
    case POINT:
    case FRACTION:
      if (digit(c)) next = FRACTION;
      else if (state == FRACTION && (c == 'e' || c == 'E')) next = EXPONENT;
      break;
    case EXPONENT:
      if (digit(c)) next = SCIENTIFIC;
      else if (c == '+' || c == '-') next = EXPONENT_SIGN;
      break;
    case EXPONENT_SIGN:
    case SCIENTIFIC:
      if (digit(c)) next = SCIENTIFIC;
      break;
    default:
      break;
    }
    if (next != state) entered[next]++;
    state = next;
    if (state == WRONG) {
      while (*p && *p != ',') p++;
      break;
    }
  }
  *text = *p == ',' ? p + 1 : p;
  return state;
}

static const char numbers[] = "5012,-874,+122.04,.5,1e9,-2.5E-7,0x5,1..2,77,-.25e3,3.14159265,+6.02e23,12a4,,9999999,-0.0,"
                              "1e+5,7E,8.e2,+-3,42,100000,-1.5,2.25,3.375,1e1,1e-1,-1e-1,.e,5.0e05,--1,0,00,";
static char text[sizeof numbers];

static u16 work_text(u32 seed) {
  u32 entered[STATES] = {0}, ended[STATES] = {0};
  for (u32 i = 0; i < sizeof numbers; i++) text[i] = numbers[i];
  for (u32 pass = 0; pass < 3; pass++) {
    const char *p = text;
    while (*p) ended[classify(&p, entered)]++;
    // Spoil a few characters, so that the next pass takes other ways.
    for (u32 i = 0; i < 4; i++) {
      u32 at = next_random(&seed) % (sizeof numbers - 1);
      if (text[at] != ',') text[at] = "0.e-+x"[next_random(&seed) % 6];
    }
  }
  u16 crc = 0;
  for (u32 i = 0; i < STATES; i++) crc = crc_word(crc_word(crc, entered[i]), ended[i]);
  return crc;
}

u32 bench(u32 iterations) {
  u32 sum = 0, seed = 0x1234567;
  for (u32 n = 0; n < iterations; n++) {
    u32 now = next_random(&seed);
    u16 crc = crc_half(0, work_list(now));
    crc = crc_half(crc, work_matrix(now));
    crc = crc_half(crc, work_text(now));
    sum = mix(sum, crc);
  }
  return sum;
}
