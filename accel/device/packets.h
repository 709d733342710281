// Packet protection (RFC 9001, 5.3 and 5.4) of a batch of packets of different keys, suites and lengths.
//
// Three launches: heads (an item for each packet), chunks (an item for every 128 bytes of key stream), tags (an item for
// each packet). A chunk hashes its own part; tags puts the parts together with powers of the hash key.
//
// A packet in ``source`` and in ``target``: three bytes of padding, so that the packet number is a word, then the packet
// as it is sent or as it was given, and as many bytes as are missing to a multiple of 16. A verdict on each stands behind
// all targets: its number (two words), and PACKET_DONE or PACKET_REJECTED; what was opened must not be touched before
// that was read.
#ifndef VANTUN_PACKETS_H
#define VANTUN_PACKETS_H

// Header of ``work``: how many packets, and where in ``target`` the verdicts begin, in units of 16 bytes.
#define HEADER_PACKETS 0
#define HEADER_VERDICTS 1

// Descriptor of a packet in ``work``, behind the header.
#define PACKET 8
#define PACKET_FIRST 0  // its first chunk
#define PACKET_SOURCE 1 // in units of 16 bytes
#define PACKET_TARGET 2 // in units of 16 bytes
#define PACKET_LENGTH 3 // bytes of payload
#define PACKET_SLOT 4   // key slot of phase 0
#define PACKET_NUMBER 5 // two words: the number; opening: the largest so far plus one
#define PACKET_PAYLOAD 16

#define PACKET_DONE 1
#define PACKET_REJECTED 2

// Record of a key in ``table``.
#define KEY 1024
#define KEY_SUITE 0 // 0 none, 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305
#define KEY_ROUNDS 1
#define KEY_IV 2
#define KEY_POWERS 8       // of the GHASH key, the first to the eighth, as ghash_product takes them
#define KEY_CHACHA 40      // the key
#define KEY_CHACHA_HEAD 48 // the header-protection key
#define KEY_AES 64         // round keys as planes
#define KEY_AES_HEAD 544   // round keys of header protection as planes
#define SUITE_CHACHA 3

// What a packet leaves for the next launch in ``scratch``: a record for each packet, then a hash for each chunk.
#define STATE 16
#define STATE_KEY 0    // slot, or NO_KEY
#define STATE_NONCE 1  // three words
#define STATE_MASK 4   // four words, which the hash is added to
#define STATE_R 8      // four words of Poly1305
#define STATE_NUMBER 12
#define STATE_HEAD 14  // first and last word of the plain header
#define NO_KEY 0xffffffffu
#define HASH 8

#define CHUNK 128
#define CHUNK_BLOCKS 8

typedef struct {
    GLOBAL const u8 *source;
    GLOBAL u8 *target, *verdict;
    GLOBAL u32 *state;
    GLOBAL u32 *hashes;
    u32 length, slot, first;
    u64 number;
} Packet;

DEVICE Packet read_packet(PARAMETERS, u32 index) {
    GLOBAL const u32 *descriptor = work + HEADER + PACKET * index;
    u32 count = work[HEADER_PACKETS];
    Packet packet;
    packet.source = source + 16 * (u64)descriptor[PACKET_SOURCE];
    packet.target = target + 16 * (u64)descriptor[PACKET_TARGET];
    packet.verdict = target + 16 * ((u64)work[HEADER_VERDICTS] + index);
    packet.state = scratch + STATE * (u64)index;
    packet.first = descriptor[PACKET_FIRST];
    packet.hashes = scratch + STATE * (u64)count + HASH * (u64)packet.first;
    packet.length = descriptor[PACKET_LENGTH];
    packet.slot = descriptor[PACKET_SLOT];
    packet.number = join(descriptor[PACKET_NUMBER], descriptor[PACKET_NUMBER + 1]);
    return packet;
}

DEVICE GLOBAL const u32 *key_record(GLOBAL const u32 *table, u32 slot) { return table + KEY * (u64)slot; }

// Chunks of key stream: AES-GCM's first begins with the block that masks the tag, ChaCha20's without it.
DEVICE u32 chunks_of(u32 suite, u32 length) {
    return (length + (suite == SUITE_CHACHA ? 0 : 16) + CHUNK - 1) / CHUNK;
}

// Two words of the mask of header protection (RFC 9001, 5.4.3 and 5.4.4), of which five bytes count.
DEVICE void header_mask(GLOBAL const u32 *key, const u32 *sample, u32 *mask) {
    if (key[KEY_SUITE] == SUITE_CHACHA) {
        u32 stream[16];
        chacha20_block(key + KEY_CHACHA_HEAD, sample[0], sample + 1, stream);
        mask[0] = stream[0], mask[1] = stream[1];
    } else {
        u32 blocks[32];
        UNROLL
        for (int i = 0; i < 32; i++) blocks[i] = i < 4 ? sample[i] : 0;
        aes_encrypt(key + KEY_AES_HEAD, key[KEY_ROUNDS], blocks);
        mask[0] = blocks[0], mask[1] = blocks[1];
    }
}

// Add the mask to the first byte, which is the last of the head's first word, and to the number, its last word.
DEVICE void apply_mask(u32 *head, const u32 *mask) {
    head[0] ^= (mask[0] & 0x1f) << 24;
    head[3] ^= mask[0] >> 8 | mask[1] << 24;
}

// The header as the block of additional data: 13 bytes and zeros.
DEVICE void header_block(const u32 *head, u32 *block) {
    UNROLL
    for (int i = 0; i < 3; i++) block[i] = head[i] >> 24 | head[i + 1] << 8;
    block[3] = head[3] >> 24;
}

// Choose the key by the header's phase, and leave the nonce for the chunks.
DEVICE void begin_packet(Packet *packet, GLOBAL const u32 *table, u32 slot, const u32 *head, u64 number) {
    GLOBAL const u32 *key = key_record(table, slot);
    GLOBAL u32 *state = packet->state;
    u32 nonce[3];
    nonce[0] = key[KEY_IV];
    nonce[1] = key[KEY_IV + 1] ^ swap_bytes((u32)(number >> 32));
    nonce[2] = key[KEY_IV + 2] ^ swap_bytes((u32)number);
    state[STATE_KEY] = slot;
    UNROLL
    for (int i = 0; i < 3; i++) state[STATE_NONCE + i] = nonce[i];
    state[STATE_NUMBER] = (u32)number;
    state[STATE_NUMBER + 1] = (u32)(number >> 32);
    state[STATE_HEAD] = head[0];
    state[STATE_HEAD + 1] = head[3];
    if (key[KEY_SUITE] == SUITE_CHACHA) {
        u32 stream[16];
        chacha20_block(key + KEY_CHACHA, 0, nonce, stream);
        UNROLL
        for (int i = 0; i < 4; i++) {
            state[STATE_R + i] = stream[i];
            state[STATE_MASK + i] = stream[4 + i];
        }
    }
}

// The slot of the phase that a header's first byte names; NO_KEY where that has none.
DEVICE u32 phase_slot(GLOBAL const u32 *table, u32 slot, const u32 *head) {
    u32 phase = slot + (head[0] >> 26 & 1);
    return key_record(table, phase)[KEY_SUITE] ? phase : NO_KEY;
}

KERNEL(seal_heads, 0) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 head[4];
    load16(packet.source, head);
    u32 slot = phase_slot(table, packet.slot, head);
    packet.state[STATE_KEY] = NO_KEY;
    if (slot != NO_KEY) begin_packet(&packet, table, slot, head, packet.number);
}

// The full packet number (RFC 9000, A.3) whose low 32 bits are ``low``, around ``expected``.
DEVICE u64 full_number(u64 expected, u32 low) {
    const u64 window = 1ull << 32;
    u64 candidate = (expected & ~(window - 1)) | low;
    if (candidate + window / 2 <= expected && candidate < (1ull << 62) - window) return candidate + window;
    if (candidate > expected + window / 2 && candidate >= window) return candidate - window;
    return candidate;
}

KERNEL(open_heads, 0) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 head[4], sample[4], mask[2];
    load16(packet.source, head);
    load16(packet.source + PACKET_PAYLOAD, sample); // of a short packet also the tag: it stands behind
    header_mask(key_record(table, packet.slot), sample, mask);
    apply_mask(head, mask);
    u32 slot = phase_slot(table, packet.slot, head);
    packet.state[STATE_KEY] = NO_KEY;
    if (slot != NO_KEY) begin_packet(&packet, table, slot, head, full_number(packet.number, swap_bytes(head[3])));
}

// Add sixteen bytes of key stream to block ``index`` of the payload, if there is one; what lies behind its end is zero.
DEVICE void cross_block(const Packet *packet, u32 index, const u32 *stream) {
    u32 begin = 16 * index, words[4];
    if (begin >= packet->length) return;
    load16(packet->source + PACKET_PAYLOAD + begin, words);
    UNROLL
    for (int i = 0; i < 4; i++) words[i] ^= stream[i];
    keep_bytes(words, packet->length - begin);
    store16(packet->target + PACKET_PAYLOAD + begin, words);
}

// Block ``index`` of a ciphertext, padded with zeros.
DEVICE void load_block(GLOBAL const u8 *payload, u32 index, u32 length, u32 *words) {
    load16(payload + 16 * index, words);
    keep_bytes(words, length - 16 * index);
}

DEVICE void gcm_chunk(const Packet *packet, GLOBAL const u32 *key, u32 chunk, GLOBAL const u8 *ciphertext) {
    u32 blocks[32];
    UNROLL
    for (u32 i = 0; i < CHUNK_BLOCKS; i++) {
        UNROLL
        for (int w = 0; w < 3; w++) blocks[4 * i + w] = packet->state[STATE_NONCE + w];
        blocks[4 * i + 3] = swap_bytes(CHUNK_BLOCKS * chunk + 1 + i);
    }
    aes_encrypt(key + KEY_AES, key[KEY_ROUNDS], blocks);
    if (chunk == 0) {
        UNROLL
        for (int w = 0; w < 4; w++) packet->state[STATE_MASK + w] = blocks[w];
    }
    UNROLL
    for (u32 i = 0; i < CHUNK_BLOCKS; i++)
        if (chunk + i > 0) cross_block(packet, CHUNK_BLOCKS * chunk + i - 1, blocks + 4 * i);
    u32 begin = chunk ? CHUNK_BLOCKS * chunk - 1 : 0, end = CHUNK_BLOCKS * chunk + CHUNK_BLOCKS - 1;
    u64 power[2] = {join(key[KEY_POWERS], key[KEY_POWERS + 1]), join(key[KEY_POWERS + 2], key[KEY_POWERS + 3])};
    u64 y[2] = {0, 0};
    KEEP_LOOP
    for (u32 i = begin; i < end && 16 * i < packet->length; i++) {
        u32 words[4];
        load_block(ciphertext, i, packet->length, words);
        ghash_add(y, words);
        ghash_product(y, power);
    }
    GLOBAL u32 *hash = packet->hashes + HASH * chunk;
    hash[0] = (u32)y[0], hash[1] = (u32)(y[0] >> 32), hash[2] = (u32)y[1], hash[3] = (u32)(y[1] >> 32);
}

DEVICE void load_r(GLOBAL const u32 *state, u32 *r) {
    u32 words[4];
    UNROLL
    for (int i = 0; i < 4; i++) words[i] = state[STATE_R + i];
    poly_clamp(words, r);
}

DEVICE void chacha_chunk(const Packet *packet, GLOBAL const u32 *key, u32 chunk, GLOBAL const u8 *ciphertext) {
    u32 nonce[3], r[5], y[5] = {0, 0, 0, 0, 0};
    UNROLL
    for (int i = 0; i < 3; i++) nonce[i] = packet->state[STATE_NONCE + i];
    KEEP_LOOP
    for (u32 part = 0; part < 2; part++) {
        u32 stream[16];
        chacha20_block(key + KEY_CHACHA, 2 * chunk + part + 1, nonce, stream);
        UNROLL
        for (u32 i = 0; i < 4; i++) cross_block(packet, CHUNK_BLOCKS * chunk + 4 * part + i, stream + 4 * i);
    }
    load_r(packet->state, r);
    u32 begin = CHUNK_BLOCKS * chunk;
    KEEP_LOOP
    for (u32 i = begin; i < begin + CHUNK_BLOCKS && 16 * i < packet->length; i++) {
        u32 words[4];
        load_block(ciphertext, i, packet->length, words);
        poly_add_block(y, words);
        poly_product(y, r);
    }
    GLOBAL u32 *hash = packet->hashes + HASH * chunk;
    UNROLL
    for (int i = 0; i < 5; i++) hash[i] = y[i];
}

// One chunk: key stream and its part of the hash; ``opening`` says which side is the ciphertext.
DEVICE void do_chunk(PARAMETERS, u32 item, u32 opening) {
    u32 index = find_owner(work, HEADER, PACKET, work[HEADER_PACKETS], item);
    Packet packet = read_packet(ARGUMENTS, index);
    u32 slot = packet.state[STATE_KEY];
    if (slot == NO_KEY) return;
    GLOBAL const u32 *key = key_record(table, slot);
    u32 chunk = item - packet.first;
    if (chunk >= chunks_of(key[KEY_SUITE], packet.length)) return; // counted for the longer suite
    GLOBAL const u8 *ciphertext = (opening ? packet.source : packet.target) + PACKET_PAYLOAD;
    if (key[KEY_SUITE] == SUITE_CHACHA)
        chacha_chunk(&packet, key, chunk, ciphertext);
    else
        gcm_chunk(&packet, key, chunk, ciphertext);
}

KERNEL(seal_chunks, 1) { do_chunk(ARGUMENTS, item, 0); }

KERNEL(open_chunks, 1) { do_chunk(ARGUMENTS, item, 1); }

// Put the chunks' hashes together: the additional data, each chunk behind as many products as it has blocks, lengths.
DEVICE void gcm_tag(const Packet *packet, GLOBAL const u32 *key, const u32 *block, u32 *tag) {
    u64 y[2] = {0, 0}, power[2];
    u32 chunks = chunks_of(key[KEY_SUITE], packet->length), left = (packet->length + 15) / 16;
    ghash_add(y, block);
    KEEP_LOOP
    for (u32 chunk = 0; chunk <= chunks + 1; chunk++) {
        // Turns: the additional data alone, then the chunks, then the lengths; each adds what it has and multiplies.
        u32 most = chunk == 1 ? CHUNK_BLOCKS - 1 : CHUNK_BLOCKS;
        u32 blocks = chunk == 0 || chunk > chunks ? 1 : (left < most ? left : most);
        if (chunk > chunks) {
            u32 lengths[4] = {0, swap_bytes(8 * 13), 0, swap_bytes(8 * packet->length)};
            ghash_add(y, lengths);
        }
        if (blocks) {
            GLOBAL const u32 *from = key + KEY_POWERS + 4 * (blocks - 1);
            power[0] = join(from[0], from[1]), power[1] = join(from[2], from[3]);
            ghash_product(y, power);
        }
        if (chunk >= 1 && chunk <= chunks) {
            GLOBAL const u32 *hash = packet->hashes + HASH * (chunk - 1);
            y[0] ^= join(hash[0], hash[1]), y[1] ^= join(hash[2], hash[3]);
            left -= blocks;
        }
    }
    tag[0] = swap_bytes((u32)(y[1] >> 32)), tag[1] = swap_bytes((u32)y[1]);
    tag[2] = swap_bytes((u32)(y[0] >> 32)), tag[3] = swap_bytes((u32)y[0]);
    UNROLL
    for (int i = 0; i < 4; i++) tag[i] ^= packet->state[STATE_MASK + i];
}

DEVICE void chacha_tag(const Packet *packet, const u32 *block, u32 *tag) {
    u32 r[5], power[5], y[5] = {0, 0, 0, 0, 0}, s[4];
    load_r(packet->state, r);
    poly_add_block(y, block);
    poly_product(y, r);
    UNROLL
    for (int i = 0; i < 5; i++) power[i] = r[i];
    for (int i = 0; i < 3; i++) poly_product(power, power);
    u32 whole = packet->length / CHUNK, left = (packet->length % CHUNK + 15) / 16;
    KEEP_LOOP
    for (u32 chunk = 0; chunk < whole; chunk++) {
        poly_product(y, power);
        UNROLL
        for (int i = 0; i < 5; i++) y[i] += packet->hashes[HASH * chunk + i];
    }
    if (left) {
        KEEP_LOOP
        for (u32 i = 0; i < left; i++) poly_product(y, r);
        UNROLL
        for (int i = 0; i < 5; i++) y[i] += packet->hashes[HASH * whole + i];
    }
    u32 lengths[4] = {13, 0, packet->length, 0};
    poly_add_block(y, lengths);
    poly_product(y, r);
    UNROLL
    for (int i = 0; i < 4; i++) s[i] = packet->state[STATE_MASK + i];
    poly_finish(y, s, tag);
}

DEVICE void make_tag(const Packet *packet, GLOBAL const u32 *key, const u32 *head, u32 *tag) {
    u32 block[4];
    header_block(head, block);
    if (key[KEY_SUITE] == SUITE_CHACHA)
        chacha_tag(packet, block, tag);
    else
        gcm_tag(packet, key, block, tag);
}

// The plain header: what the launch of heads found, and the connection id between.
DEVICE void load_head(const Packet *packet, u32 *head) {
    load16(packet->source, head);
    head[0] = packet->state[STATE_HEAD];
    head[3] = packet->state[STATE_HEAD + 1];
}

// The tag behind the payload, wherever that ends, and zeros up to the next multiple of 16.
DEVICE void store_tag(const Packet *packet, const u32 *tag) {
    const u32 zeros[4] = {0, 0, 0, 0};
    GLOBAL u8 *payload = packet->target + PACKET_PAYLOAD, *place = payload + packet->length;
    if (packet->length % 16) store16(payload + (packet->length / 16 + 1) * 16, zeros);
    UNROLL
    for (u32 i = 0; i < 16; i++) place[i] = (u8)(tag[i / 4] >> 8 * (i % 4));
}

DEVICE void load_tag(const Packet *packet, u32 *tag) {
    GLOBAL const u8 *place = packet->source + PACKET_PAYLOAD + packet->length;
    UNROLL
    for (u32 w = 0; w < 4; w++)
        tag[w] = place[4 * w] | place[4 * w + 1] << 8 | place[4 * w + 2] << 16 | (u32)place[4 * w + 3] << 24;
}

DEVICE void store_verdict(const Packet *packet, u32 verdict) {
    u32 found[4] = {packet->state[STATE_NUMBER], packet->state[STATE_NUMBER + 1], verdict, 0};
    store16(packet->verdict, found);
}

KERNEL(seal_tags, 2) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 slot = packet.state[STATE_KEY], head[4], tag[4] = {0, 0, 0, 0}, sample[4], mask[2];
    if (slot != NO_KEY) {
        load_head(&packet, head);
        make_tag(&packet, key_record(table, slot), head, tag);
        store_tag(&packet, tag);
        load16(packet.target + PACKET_PAYLOAD, sample);
        header_mask(key_record(table, packet.slot), sample, mask);
        apply_mask(head, mask);
        store16(packet.target, head);
    }
    store_verdict(&packet, slot != NO_KEY ? PACKET_DONE : PACKET_REJECTED);
}

KERNEL(open_tags, 2) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 slot = packet.state[STATE_KEY], head[4], tag[4], given[4], wrong = 1;
    if (slot != NO_KEY) {
        load_head(&packet, head);
        make_tag(&packet, key_record(table, slot), head, tag);
        store16(packet.target, head);
        load_tag(&packet, given);
        wrong = 0;
        UNROLL
        for (int i = 0; i < 4; i++) wrong |= tag[i] ^ given[i];
    }
    store_verdict(&packet, wrong ? PACKET_REJECTED : PACKET_DONE);
}

#endif
