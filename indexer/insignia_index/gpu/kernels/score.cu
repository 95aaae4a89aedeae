// Scores of a tile of cells, in shared memory, in the processor's order of addition: full columns, then
// bitmaps, then lists, each in gene order (kernels/score.py). So the scores are the same bit for bit.

// Containers of up to GENES genes in one block.
template <class V> struct Found {
    u64 address[GENES];                  // of values; of a bitmap: of its mask
    u64 other[GENES];                    // address of a list's ids, of a bitmap's marks
    typename V::Score weight[GENES];
    u32 first[GENES], stop[GENES];       // a list's postings of this tile
    u16 index[N_KINDS][GENES];           // genes of a kind, in order
    u8 kind[GENES];
    int n[N_KINDS];
};

// Entry of a gene in a block, and its index; false if the block has no posting of it.
__device__ inline bool find_entry(const Block& block, i64 gene, u64& entry, i64& index) {
    if (gene >> 6 >= block.n_words) return false;
    u64 word = at<const u64>(block.words)[gene >> 6], bit = 1ull << (gene & 63);
    if (!(word & bit)) return false;
    index = (i64)at<const u32>(block.ranks)[gene >> 6] + __popcll(word & (bit - 1));
    entry = at<const u64>(block.entries)[index];
    return true;
}

template <class V>
__device__ inline void find_container(
    const Block& block, const Tile& tile, i64 gene, typename V::Score weight, int i, Found<V>& found
) {
    u64 entry;
    i64 index;
    found.kind[i] = NO_KIND;
    if (!find_entry(block, gene, entry, index)) return;
    int kind = entry_kind(entry);
    u64 address = block.payload + entry_offset(entry);
    i64 count = entry_count(entry);
    u64 marks = block.marks + sizeof(u16) * (u64)at<const u32>(block.mark_starts)[index];
    // a power of two: the product with a stored value is the product with the value itself
    double scale = __longlong_as_double((i64)(1023 + 128 - entry_exponent(entry)) << 52);
    found.kind[i] = (u8)kind;
    found.address[i] = address;
    found.weight[i] = (typename V::Score)__dmul_rn((double)weight, scale);
    found.other[i] = kind == LIST ? address + count * sizeof(typename V::Stored) : marks;
    if (kind != LIST) return;
    found.first[i] = 0;
    found.stop[i] = (u32)count;
    if (block.n_cells > V::TILE) {
        int t = tile.first / V::TILE;
        found.first[i] = at<const u16>(marks)[t];
        if ((i64)tile.first + V::TILE < block.n_cells) found.stop[i] = at<const u16>(marks)[t + 1];
    }
}

// Fill `found` with the query's genes from number `chunk` on, when no thread looks at it any more. The threads
// have met in the end.
template <class V>
__device__ void find_containers(
    const Query& query, const Block& block, const Tile& tile, i64 chunk, Found<V>& found
) {
    const i64* genes = at<const i64>(query.genes) + chunk;
    const typename V::Score* weights = at<const typename V::Score>(query.weights) + chunk;
    int n = smaller(GENES, query.n_genes - chunk);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        find_container<V>(block, tile, genes[i], weights[i], i, found);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        int kind = found.kind[i], before = 0;
        if (kind == NO_KIND) continue;
        for (int j = 0; j < i; ++j) before += found.kind[j] == kind;
        found.index[kind][before] = (u16)i;
    }
    for (int kind = threadIdx.x; kind < N_KINDS; kind += blockDim.x) {
        int count = 0;
        for (int i = 0; i < n; ++i) count += found.kind[i] == kind;
        found.n[kind] = count;
    }
    __syncthreads();
}

// Full columns are padded to 4 bytes and a tile begins at an even cell: two float16 values are one load. What
// lies behind an odd last cell goes to a place of the tile that is not looked at.
__device__ inline void add_full(const Found<Half>& found, int first, int n_cells, float* scores) {
    for (int cell = 2 * threadIdx.x; cell < n_cells; cell += 2 * blockDim.x) {
        float even = scores[cell], odd = scores[cell + 1];
#pragma unroll 4
        for (int i = 0; i < found.n[FULL]; ++i) {
            int g = found.index[FULL][i];
            u32 pair = at<const u32>(found.address[g])[(first + cell) / 2];
            even = add_product(even, found.weight[g], half_to_float((u16)pair));
            odd = add_product(odd, found.weight[g], half_to_float((u16)(pair >> 16)));
        }
        scores[cell] = even;
        scores[cell + 1] = odd;
    }
}

__device__ inline void add_full(const Found<Single>& found, int first, int n_cells, double* scores) {
    for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
        double sum = scores[cell];
#pragma unroll 4
        for (int i = 0; i < found.n[FULL]; ++i) {
            int g = found.index[FULL][i];
            sum = add_product(sum, found.weight[g], (double)at<const float>(found.address[g])[first + cell]);
        }
        scores[cell] = sum;
    }
}

// A thread a cell: the 32 threads of a warp read one word of the mask and neighbouring values.
template <class V>
__device__ void add_bitmaps(
    const Found<V>& found, const Block& block, int first, int n_cells, typename V::Score* scores
) {
    typedef typename V::Stored Stored;
    u64 mask_bytes = sizeof(u32) * mask_words(block.n_cells);
    for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
        int word = (first + cell) >> 5, group = word / GROUP_WORDS;
        u32 bit = 1u << ((first + cell) & 31);
        typename V::Score sum = scores[cell];
#pragma unroll 4
        for (int i = 0; i < found.n[BITMAP]; ++i) {
            int g = found.index[BITMAP][i];
            const u32* masks = at<const u32>(found.address[g]);
            u32 mask = masks[word];
            i64 rank = (i64)at<const u16>(found.other[g])[group] + __popc(mask & (bit - 1));
            for (int before = group * GROUP_WORDS; before < word; ++before) rank += __popc(masks[before]);
            if (mask & bit) {
                Stored value = at<const Stored>(found.address[g] + mask_bytes)[rank];
                sum = add_fused(sum, found.weight[g], V::widen(value));
            }
        }
        scores[cell] = sum;
    }
}

// Postings of a list that a thread reads while the threads wait for one another: those of 1/16 of a tile.
enum { HELD = 2 };
template <class V> struct Held {
    typename V::Stored value[HELD];
    int cell[HELD];                      // -1: none
};

template <class V> __device__ inline void hold(const Found<V>& found, int i, int first, Held<V>& held) {
    int g = found.index[LIST][i];
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
        u32 j = found.first[g] + threadIdx.x + h * blockDim.x;
        held.cell[h] = -1;
        if (j < found.stop[g]) {
            held.cell[h] = (int)at<const u16>(found.other[g])[j] - first;
            held.value[h] = at<const typename V::Stored>(found.address[g])[j];
        }
    }
}

// The ids of one list differ, so that no two threads meet; after each list all wait.
template <class V>
__device__ void add_lists(const Found<V>& found, int first, typename V::Score* scores) {
    typedef typename V::Stored Stored;
    int n = found.n[LIST];
    Held<V> now, next;
    if (n) hold<V>(found, 0, first, next);
    for (int i = 0; i < n; ++i) {
        int g = found.index[LIST][i];
        now = next;
        if (i + 1 < n) hold<V>(found, i + 1, first, next);
#pragma unroll
        for (int h = 0; h < HELD; ++h)
            if (now.cell[h] >= 0)
                scores[now.cell[h]] = add_product(scores[now.cell[h]], found.weight[g], V::widen(now.value[h]));
        for (u32 j = found.first[g] + threadIdx.x + HELD * blockDim.x; j < found.stop[g]; j += blockDim.x) {
            int cell = (int)at<const u16>(found.other[g])[j] - first;
            Stored value = at<const Stored>(found.address[g])[j];
            scores[cell] = add_product(scores[cell], found.weight[g], V::widen(value));
        }
        __syncthreads();
    }
}

// Weighted sums of the tile's cells. The containers are found once, or, of more than GENES genes, once a kind.
template <class V>
__device__ void add_tile(
    const Query& query, const Block& block, const Tile& tile, int n_cells, Found<V>& found,
    typename V::Score* scores
) {
    for (int cell = threadIdx.x; cell < n_cells + 1; cell += blockDim.x) scores[cell] = 0;
    for (int kind = FULL; kind >= LIST; --kind) {
        for (i64 chunk = 0; chunk < query.n_genes; chunk += GENES) {
            if (kind == FULL || query.n_genes > GENES) find_containers<V>(query, block, tile, chunk, found);
            if (kind == FULL) add_full(found, tile.first, n_cells, scores);
            if (kind == BITMAP) add_bitmaps<V>(found, block, tile.first, n_cells, scores);
            if (kind == LIST) add_lists<V>(found, tile.first, scores);
            __syncthreads();
        }
    }
}

// A block of threads a tile: sums, division, filter (NaN), and the counts of the scores' highest digits.
template <class V> __device__ void score_tile(u64 batch) {
    typedef typename V::Score Score;
    __shared__ Score scores[V::TILE + 2];
    __shared__ u64 room[(sizeof(Found<V>) + 7) / 8];
    static_assert(sizeof(Found<V>) >= DIGITS * sizeof(u32), "the histogram takes the containers' place");
    const Query& query = query_of(batch);
    if (blockIdx.x >= query.n_tiles) return;
    const Tile tile = at<const Tile>(query.tiles)[blockIdx.x];
    const Block& block = at<const Block>(query.blocks)[tile.block];
    int n_cells = tile_cells<V>(block, tile);
    i64 first_row = block.first_row + tile.first;
    Score* out = at<Score>(query.scores) + first_row;
    u32* counts = (u32*)room;
    if (block.words) add_tile<V>(query, block, tile, n_cells, *(Found<V>*)room, scores);
    for (int digit = threadIdx.x; digit < DIGITS; digit += blockDim.x) counts[digit] = 0;
    __syncthreads();
    for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
        Score score;
        if (!block.words) {
            score = out[cell];  // another device's, brought here
        } else {
            i64 row = first_row + cell;
            bool passes = !query.passes || at<const u32>(query.passes)[row >> 5] >> (row & 31) & 1;
            if (passes) score = divide(scores[cell], (Score)query.divisor);
            else set_nan(score);
            out[cell] = score;
        }
        if (query.n_targets && score == score)
            atomicAdd(&counts[order_key(score) >> (V::KEY_BITS - DIGIT_BITS)], 1u);
    }
    __syncthreads();
    u32* totals = at<u32>(query.histograms);
    for (int digit = threadIdx.x; digit < DIGITS; digit += blockDim.x)
        if (counts[digit]) atomicAdd(&totals[digit], counts[digit]);
}

extern "C" __global__ void score_half(u64 batch, i64) { score_tile<Half>(batch); }
extern "C" __global__ void score_single(u64 batch, i64) { score_tile<Single>(batch); }
