// Parity of code 1 in bit planes, with the coefficients compiled in: ROWS rows of the matrix, from column 0 on.
//
// An item takes 32 bytes of each data unit. Their bits are put into eight planes (plane b has bit b of each byte), where
// a product by a constant is a choice of planes to be added, and sums stay in planes until all units are in. Which
// planes, add_products knows: accel/device/compiled_code1.py writes it, a case for each column. All items of a launch
// read the same text, whatever k their spans have, so the threads of a warp part only where a span ends.
#include "dialect.h"
#ifndef VANTUN_STRIPS_H
#define VANTUN_STRIPS_H

// ``work`` has, behind HEADER_STRIPS, three words for each kernel of this kind, and strips where they say so.
#define STRIPS_ITEMS 0 // items of the kernel's launch
#define STRIPS_BEGIN 1 // word of ``work`` where its strips begin
#define STRIPS_COUNT 2
#define STRIP 8
#define STRIP_FIRST 0   // first item
#define STRIP_K 1
#define STRIP_UNITS 2   // word of ``work`` where its k sources are, in units of 16 bytes
#define STRIP_TARGETS 3 // the same of its targets
#define STRIP_MANY 4    // targets, at most ROWS: of the first rows
#define STRIP_COLUMNS 5 // units of 16 bytes of a shard

#define PLANES 8

// Add what ``column`` contributes to each row: sum[row] += coefficient * planes.
DEVICE void add_products(u32 column, const u32 *planes, u32 (*sum)[PLANES]);

// One instruction on a GPU; said so, because compilers that count two operations undo it for a pair they can share.
DEVICE u32 add3(u32 a, u32 b, u32 c) {
#if defined(__CUDACC__)
    u32 sum;
    asm("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
#else
    return a ^ b ^ c;
#endif
}

// Of every 2 * shift bits, those above in *a change places with those below in *b.
DEVICE void swap_bits(u32 *a, u32 *b, u32 shift, u32 mask) {
    u32 low = *a, high = *b;
    *a = (low & mask) | (high << shift & ~mask);
    *b = (low >> shift & mask) | (high & ~mask);
}

// Eight words to eight planes, and back.
DEVICE void transpose(u32 *words) {
    UNROLL
    for (int i = 0; i < 4; i++) swap_bits(words + i, words + i + 4, 4, 0x0f0f0f0fu);
    UNROLL
    for (int i = 0; i < 4; i++) swap_bits(words + i + (i & 2), words + i + (i & 2) + 2, 2, 0x33333333u);
    UNROLL
    for (int i = 0; i < 8; i += 2) swap_bits(words + i, words + i + 1, 1, 0x55555555u);
}

// 32 bytes, or the 16 that are left.
DEVICE void load_planes(GLOBAL const u8 *place, u32 left, u32 *words) {
    load16(place, words);
    UNROLL
    for (int w = 4; w < PLANES; w++) words[w] = 0;
    if (left > 1) load16(place + 16, words + 4);
}

DEVICE void combine_strip(PARAMETERS, GLOBAL const u32 *list, u32 item) {
    u32 begin = list[STRIPS_BEGIN];
    GLOBAL const u32 *strip = work + begin + STRIP * find_owner(work, begin, STRIP, list[STRIPS_COUNT], item);
    GLOBAL const u32 *units = work + strip[STRIP_UNITS];
    u32 k = strip[STRIP_K], place = item - strip[STRIP_FIRST], left = strip[STRIP_COLUMNS] - 2 * place;
    u64 byte = 32 * (u64)place;
    u32 sum[ROWS][PLANES], next[PLANES];
    UNROLL
    for (int r = 0; r < ROWS; r++)
        for (int b = 0; b < PLANES; b++) sum[r][b] = 0;
    load_planes(source + 16 * (u64)units[0] + byte, left, next);
    KEEP_LOOP
    for (u32 j = 0; j < k; j++) {
        u32 planes[PLANES];
        UNROLL
        for (int b = 0; b < PLANES; b++) planes[b] = next[b];
        if (j + 1 < k) load_planes(source + 16 * (u64)units[j + 1] + byte, left, next); // is on its way meanwhile
        transpose(planes);
        add_products(j, planes, sum);
    }
    // Read here, not above: sixteen rows leave no register for what the loop does not need.
    GLOBAL const u32 *targets = work + strip[STRIP_TARGETS];
    u32 many = strip[STRIP_MANY];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        if (r < (int)many) {
            GLOBAL u8 *to = target + 16 * (u64)targets[r] + byte;
            transpose(sum[r]);
            store16(to, sum[r]);
            if (left > 1) store16(to + 16, sum[r] + 4);
        }
    }
}

#endif
