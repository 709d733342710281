// Reed-Solomon code 1 over GF(2^8) modulo 0x11d, for a batch of spans of any shapes, encode and decode alike.
//
// Two launches: coefficients (an item for each coefficient of each matrix) and combine (an item for each span, group of
// four targets and sixteen bytes). To encode, the sources are the data units, the targets the parity units; to decode,
// parity units stand in the places of lost data units, which are the targets.
#ifndef VANTUN_CODE1_H
#define VANTUN_CODE1_H

// ``table``: logarithms [256], then powers of 2 [512], a word each.
#define POWERS 256
#define ORDER 255

// ``work``: the header, then matrices, then spans, of 8 words each, then what they point to.
#define HEADER_MATRICES 0
#define HEADER_SPANS 1
#define MATRIX 8
#define MATRIX_FIRST 0  // its first coefficient = the first item of ``coefficients``
#define MATRIX_K 1
#define MATRIX_M 2
#define MATRIX_COLUMN 3
#define MATRIX_ROWS 4   // word of ``work`` where its m rows are; behind them, to decode, its m lost positions
#define MATRIX_DECODE 5 // 1 = of a decode
#define SPAN 8
#define SPAN_FIRST 0 // first item of ``combine``
#define SPAN_K 1
#define SPAN_M 2
#define SPAN_UNITS 3   // word of ``work`` where its k sources and m targets are, in units of 16 bytes
#define SPAN_MATRIX 4  // first coefficient of its matrix
#define SPAN_COLUMNS 5 // units of 16 bytes of a shard
#define GROUP 4 // targets of an item

// ``scratch``: a table for each coefficient; of a group's targets, those of the same source behind each other.
#define COEFFICIENT 8 // words of each

// What an item multiplies with: a table for each coefficient, eight words. Words are taken in pairs.
#if defined(__CUDACC__) || defined(BYTE_PERMUTE)
// Products of a byte's low three bits, of the next three, and of the top two: 8 + 8 + 4 bytes, looked up within
// registers by a byte permutation. Five instructions for four bytes and a target; whole nibbles take seven.
//
// A selector has four nibbles, so the bits of a word's four bytes have to be put together. Two words are interleaved
// instead, a bit field of one byte beside that of the other: seven instructions for a word, not eleven. Sums are kept
// in that order: bytes 0 and 1 of both words, then bytes 2 and 3.
#define SELECTORS 6

// One instruction. __byte_perm masks its selector first, which would be a quarter of the inner loop; ours have no bit
// that would have to be masked.
DEVICE u32 permute(u32 low, u32 high, u32 chosen) {
#if defined(__CUDACC__)
    u32 bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(chosen));
    return bytes;
#else
    return __byte_perm(low, high, chosen);
#endif
}

DEVICE void write_table(const u32 *doubled, GLOBAL u32 *out) {
    UNROLL
    for (int part = 0; part < 3; part++) {
        u32 a = doubled[3 * part], b = doubled[3 * part + 1], c = part < 2 ? doubled[3 * part + 2] : 0;
        u32 low = a << 8 | b << 16 | (a ^ b) << 24;
        out[2 * part] = low;
        out[2 * part + 1] = low ^ c * 0x01010101u;
    }
}

// The upper half of a word: a GPU multiplies beside its logic, which is what there is most to do of.
DEVICE u32 upper_half(u32 x) {
#if defined(__CUDACC__)
    u32 half;
    asm("mul.hi.u32 %0, %1, 65536;" : "=r"(half) : "r"(x));
    return half;
#else
    return x >> 16;
#endif
}

// Bits below ``mask`` of each byte of two words, as two selectors.
DEVICE void interleave(u32 first, u32 second, u32 mask, u32 *chosen) {
    u32 both = (first & mask) | (second & mask << 4);
    chosen[0] = both;
    chosen[3] = upper_half(both);
}

DEVICE void make_selectors(const u32 *pair, u32 *chosen) {
    interleave(pair[0], pair[1] << 4, 0x07070707u, chosen);
    interleave(pair[0] >> 3, pair[1] << 1, 0x07070707u, chosen + 1);
    interleave(pair[0] >> 6, pair[1] >> 2, 0x03030303u, chosen + 2);
}

DEVICE void add_product(const u32 *chosen, const u32 *t, u32 *sum) {
    UNROLL
    for (int i = 0; i < 2; i++) {
        const u32 *of = chosen + 3 * i;
        sum[i] ^= permute(t[0], t[1], of[0]) ^ permute(t[2], t[3], of[1]) ^ permute(t[4], 0, of[2]);
    }
}

// From sums to the words of a pair.
DEVICE void order_sums(u32 *sum) {
    u32 first = permute(sum[0], sum[1], 0x6420);
    sum[1] = permute(sum[0], sum[1], 0x7531);
    sum[0] = first;
}
#else
// The coefficient times each power of two, in every byte; a word's bits choose by masks.
#define SELECTORS 16

DEVICE void write_table(const u32 *doubled, GLOBAL u32 *out) {
    UNROLL
    for (int bit = 0; bit < 8; bit++) out[bit] = doubled[bit] * 0x01010101u;
}

DEVICE void make_selectors(const u32 *pair, u32 *chosen) {
    UNROLL
    for (int i = 0; i < SELECTORS; i++) chosen[i] = (pair[i / 8] >> i % 8 & 0x01010101u) * 0xff;
}

DEVICE void add_product(const u32 *chosen, const u32 *t, u32 *sum) {
    UNROLL
    for (int i = 0; i < SELECTORS; i++) sum[i / 8] ^= chosen[i] & t[i % 8];
}

DEVICE void order_sums(u32 *sum) { (void)sum; }
#endif

// Twice each byte.
DEVICE u32 twice(u32 x) { return ((x & 0x7f7f7f7fu) << 1) ^ ((x >> 7 & 0x01010101u) * 0x1du); }

DEVICE u32 logarithm(GLOBAL const u32 *table, u32 x) { return table[x]; }

DEVICE u32 row_point(GLOBAL const u32 *rows, u32 p) { return 128 + rows[p]; }

// log C[row][column] of the encode matrix: (128 + column) / (x + column); in characteristic 2, + is exclusive or.
DEVICE u32 encode_power(GLOBAL const u32 *table, GLOBAL const u32 *rows, u32 p, u32 y) {
    return logarithm(table, 128 ^ y) + ORDER - logarithm(table, row_point(rows, p) ^ y);
}

// log of the coefficient that source j has in lost unit q: the closed form of accel/ir/fec_closed_form.py, with a
// factor 0 left out. z is the point of a present unit or, in a lost place, of the parity unit that stands there.
DEVICE u32 decode_power(GLOBAL const u32 *table, GLOBAL const u32 *matrix, GLOBAL const u32 *rows, u32 q, u32 j) {
    u32 m = matrix[MATRIX_M], column = matrix[MATRIX_COLUMN];
    GLOBAL const u32 *lost = rows + m;
    u32 y = (column + lost[q]) & 127, z = (column + j) & 127, up = logarithm(table, 128 ^ z), down = 0;
    for (u32 p = 0; p < m; p++) {
        if (lost[p] == j) {
            z = row_point(rows, p);
            up = 0;
        }
    }
    for (u32 p = 0; p < m; p++) {
        u32 other = (column + lost[p]) & 127, x = row_point(rows, p);
        up += logarithm(table, x ^ y) + logarithm(table, z ^ other);
        down += logarithm(table, z ^ x) + logarithm(table, y ^ other);
    }
    down += logarithm(table, 128 ^ y) + logarithm(table, z ^ y);
    return up % ORDER + ORDER - down % ORDER;
}

// One coefficient of a matrix, and where its table goes.
typedef struct {
    u32 value;
    GLOBAL u32 *table;
} Coefficient;

// ``table`` of logarithms has 0 for 0, so that a factor that is left out counts nothing.
DEVICE Coefficient find_coefficient(PARAMETERS, u32 item) {
    u32 index = find_owner(work, HEADER, MATRIX, work[HEADER_MATRICES], item);
    GLOBAL const u32 *matrix = work + HEADER + MATRIX * index;
    GLOBAL const u32 *rows = work + matrix[MATRIX_ROWS];
    u32 place = item - matrix[MATRIX_FIRST], k = matrix[MATRIX_K], t = place / k, j = place % k;
    u32 power = matrix[MATRIX_DECODE] ? decode_power(table, matrix, rows, t, j)
                                      : encode_power(table, rows, t, (matrix[MATRIX_COLUMN] + j) & 127);
    u32 group = t / GROUP * GROUP, many = matrix[MATRIX_M] - group < GROUP ? matrix[MATRIX_M] - group : GROUP;
    Coefficient found;
    found.value = table[POWERS + power];
    found.table = scratch + COEFFICIENT * (u64)(matrix[MATRIX_FIRST] + group * k + j * many + t - group);
    return found;
}

KERNEL(code1_coefficients, 0) {
    Coefficient coefficient = find_coefficient(ARGUMENTS, item);
    u32 doubled[8];
    doubled[0] = coefficient.value;
    UNROLL
    for (int bit = 1; bit < 8; bit++) doubled[bit] = twice(doubled[bit - 1]);
    write_table(doubled, coefficient.table);
}

// What an item of ``combine`` works on: sixteen bytes, from ``byte`` on, of k sources and of ``many`` targets.
typedef struct {
    GLOBAL const u32 *units, *targets, *coefficients;
    u32 k, many;
    u64 byte;
} Group;

DEVICE Group read_group(PARAMETERS, u32 item) {
    u32 spans = work[HEADER_SPANS], begin = HEADER + MATRIX * work[HEADER_MATRICES];
    GLOBAL const u32 *span = work + begin + SPAN * find_owner(work, begin, SPAN, spans, item);
    u32 m = span[SPAN_M], columns = span[SPAN_COLUMNS], place = item - span[SPAN_FIRST], t = place / columns * GROUP;
    Group group;
    group.k = span[SPAN_K];
    group.many = m - t < GROUP ? m - t : GROUP;
    group.units = work + span[SPAN_UNITS];
    group.targets = group.units + group.k + t;
    group.coefficients = scratch + COEFFICIENT * ((u64)span[SPAN_MATRIX] + (u64)t * group.k);
    group.byte = 16 * (u64)(place % columns);
    return group;
}

KERNEL(code1_combine, 1) {
    Group group = read_group(ARGUMENTS, item);
    GLOBAL const u32 *coefficients = group.coefficients;
    u32 many = group.many;
    u32 sum[GROUP][4];
    UNROLL
    for (u32 r = 0; r < GROUP; r++)
        for (int w = 0; w < 4; w++) sum[r][w] = 0;
    KEEP_LOOP
    for (u32 j = 0; j < group.k; j++) {
        u32 words[4], chosen[2][SELECTORS];
        load16(source + 16 * (u64)group.units[j] + group.byte, words);
        UNROLL
        for (int pair = 0; pair < 2; pair++) make_selectors(words + 2 * pair, chosen[pair]);
        UNROLL
        for (u32 r = 0; r < GROUP; r++) {
            if (r < many) {
                u32 products[8];
                load16((GLOBAL const u8 *)(coefficients + COEFFICIENT * r), products);
                load16((GLOBAL const u8 *)(coefficients + COEFFICIENT * r + 4), products + 4);
                UNROLL
                for (int pair = 0; pair < 2; pair++) add_product(chosen[pair], products, sum[r] + 2 * pair);
            }
        }
        coefficients += COEFFICIENT * many;
    }
    UNROLL
    for (u32 r = 0; r < GROUP; r++) {
        if (r < many) {
            UNROLL
            for (int pair = 0; pair < 2; pair++) order_sums(sum[r] + 2 * pair);
            store16(target + 16 * (u64)group.targets[r] + group.byte, sum[r]);
        }
    }
}

#endif
