// The first launch of packet protection (packets.h): an item for each packet, which finds its number, key and nonce.
#ifndef VANTUN_HEADS_H
#define VANTUN_HEADS_H

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

#endif
