// How many postings of a container lie before places in it, so that a tile finds its part at once.
//
// A list has a mark a tile (none in a block of one tile), a bitmap one for every GROUP_WORDS words of its mask.

template <class V> __device__ void mark_container(const Block& block, i64 index) {
    u64 entry = at<const u64>(block.entries)[index];
    u64 address = block.payload + entry_offset(entry);
    u16* marks = at<u16>(block.marks) + at<const u32>(block.mark_starts)[index];
    i64 count = entry_count(entry);
    if (entry_kind(entry) == LIST && block.n_cells > V::TILE) {
        const u16* ids = at<const u16>(address + count * sizeof(typename V::Stored));
        i64 below = 0;
        for (i64 first = 0; first < block.n_cells; first += V::TILE) {
            i64 above = count;
            while (below < above) {  // the first id of the tile or a later one
                i64 middle = (below + above) / 2;
                if (ids[middle] < first) below = middle + 1;
                else above = middle;
            }
            *marks++ = (u16)below;   // ids ascend, so that fewer than 65,536 lie below any cell of the block
        }
    }
    if (entry_kind(entry) == BITMAP) {
        const u32* masks = at<const u32>(address);
        u32 before = 0;
        for (i64 word = 0; word < mask_words(block.n_cells); ++word) {
            if (word % GROUP_WORDS == 0) *marks++ = (u16)before;
            before += __popc(masks[word]);
        }
    }
}

// `block`: address of a Block.
template <class V> __device__ void mark_block(u64 address) {
    const Block& block = *at<const Block>(address);
    i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < block.n_entries; i += step)
        mark_container<V>(block, i);
}

extern "C" __global__ void mark_half(u64 block, i64) { mark_block<Half>(block); }
extern "C" __global__ void mark_single(u64 block, i64) { mark_block<Single>(block); }
