// Scores of a tile of cells, in shared memory, in the processor's order of addition: full columns, then
// bitmaps, then lists, each in gene order (kernels/score.py). So the scores are the same bit for bit.

// Containers of up to GENES genes in one block.
template <class V> struct Found {
    u64 address[GENES];                  // of values; of a bitmap: of its mask
    u64 other[GENES];                    // address of a list's ids, of a bitmap's marks
    typename V::Score weight[GENES];
    u32 first[GENES], stop[GENES];       // a list's postings of this tile
    u8 order[GENES];                     // genes by kind, in their order
    u8 kind[GENES];
    int start[N_KINDS], n[N_KINDS];      // of a kind in `order`

    __device__ int gene(int of_kind, int i) const { return order[start[of_kind] + i]; }
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
        for (int j = 0; j < n; ++j) before += found.kind[j] < kind || (found.kind[j] == kind && j < i);
        found.order[before] = (u8)i;
    }
    for (int kind = threadIdx.x; kind < N_KINDS; kind += blockDim.x) {
        int before = 0, count = 0;
        for (int i = 0; i < n; ++i) {
            before += found.kind[i] < kind;
            count += found.kind[i] == kind;
        }
        found.start[kind] = before;
        found.n[kind] = count;
    }
    __syncthreads();
}

// Full columns are padded to 4 bytes and a tile begins at an even cell: two float16 values are one load. What
// lies behind an odd last cell goes to a place of the tile that is not looked at.
__device__ inline void add_full(const Found<Half>& found, int first, int n_cells, Pair<float>* scores) {
    for (int pair = threadIdx.x; 2 * pair < n_cells; pair += blockDim.x) {
        Pair<float> sum = scores[pair];
#pragma unroll 4
        for (int i = 0; i < found.n[FULL]; ++i) {
            int g = found.gene(FULL, i);
            u32 both = at<const u32>(found.address[g])[first / 2 + pair];
            sum.even = add_product(sum.even, found.weight[g], half_to_float((u16)both));
            sum.odd = add_product(sum.odd, found.weight[g], half_to_float((u16)(both >> 16)));
        }
        scores[pair] = sum;
    }
}

__device__ inline void add_full(const Found<Single>& found, int first, int n_cells, Pair<double>* pairs) {
    double* scores = &pairs->even;
    for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
        double sum = scores[cell];
#pragma unroll 4
        for (int i = 0; i < found.n[FULL]; ++i) {
            int g = found.gene(FULL, i);
            sum = add_product(sum, found.weight[g], (double)at<const float>(found.address[g])[first + cell]);
        }
        scores[cell] = sum;
    }
}

// Words of the masks of STAGED_GENES bitmaps within a tile, each with the number of values before it: the word
// in the lower half, the number in the upper.
template <class V> struct StagedMasks {
    enum { WORDS = V::TILE / 32, GROUPS = WORDS / GROUP_WORDS };
    u64 place[STAGED_GENES][WORDS];
};

template <class V>
__device__ inline const typename V::Stored* bitmap_values(const Found<V>& found, const Block& block, int g) {
    return at<const typename V::Stored>(found.address[g] + sizeof(u32) * mask_words(block.n_cells));
}

// Those of the query's bitmaps from number `chunk` on; zeros behind the last of them and behind the block's end.
// The first values of every group are on their way when all threads have passed the barrier that follows.
template <class V>
__device__ inline void stage_masks(
    const Found<V>& found, const Block& block, int chunk, int first, int n_cells, StagedMasks<V>& staged
) {
    int n_words = (int)mask_words(n_cells), first_word = first / 32;
    for (int j = threadIdx.x; j < STAGED_GENES * staged.GROUPS; j += blockDim.x) {
        int s = j / staged.GROUPS, word = j % staged.GROUPS * GROUP_WORDS;
        bool is_there = chunk + s < found.n[BITMAP] && word < n_words;
        int g = is_there ? found.gene(BITMAP, chunk + s) : 0;
        u64 before = is_there ? at<const u16>(found.other[g])[(first_word + word) / GROUP_WORDS] : 0;
        if (is_there) prefetch(bitmap_values<V>(found, block, g) + before);
#pragma unroll
        for (int w = 0; w < GROUP_WORDS; ++w) {
            u32 mask = is_there && word + w < n_words ? at<const u32>(found.address[g])[first_word + word + w] : 0;
            staged.place[s][word + w] = before << 32 | mask;
            before += __popc(mask);
        }
    }
}

// A thread takes two neighbouring cells, whose values are neighbours too if the gene has both; the 32 threads of a
// warp read two words of each mask and neighbouring values. All loads of STAGED_GENES genes are under way at once,
// also for cells without a posting: what lies there is the next value, or behind the last one the block's tables.
template <class V>
__device__ void add_bitmaps(
    const Found<V>& found, const Block& block, int first, int n_cells, StagedMasks<V>& staged,
    Pair<typename V::Score>* scores
) {
    typedef typename V::Stored Stored;
    // the same in every step: blockDim.x is a multiple of 16, which are the pairs of a word
    const u32 even_bit = 1u << (2 * threadIdx.x & 31), odd_bit = 2 * even_bit, below = even_bit - 1;
    for (int chunk = 0; chunk < found.n[BITMAP]; chunk += STAGED_GENES) {
        stage_masks<V>(found, block, chunk, first, n_cells, staged);
        __syncthreads();
        const Stored* values[STAGED_GENES];
        typename V::Score weights[STAGED_GENES];
#pragma unroll
        for (int s = 0; s < STAGED_GENES; ++s) {
            int g = found.gene(BITMAP, smaller(chunk + s, found.n[BITMAP] - 1));
            values[s] = bitmap_values<V>(found, block, g);
            weights[s] = found.weight[g];
        }
#pragma unroll 1
        for (u32 pair = threadIdx.x; 2 * pair < (u32)n_cells; pair += blockDim.x) {
            u32 masks[STAGED_GENES];
            Stored first_value[STAGED_GENES], second_value[STAGED_GENES];
#pragma unroll
            for (int s = 0; s < STAGED_GENES; ++s) {
                u64 place = staged.place[s][pair / 16];
                const Stored* value = values[s] + ((u32)(place >> 32) + __popc((u32)place & below));
                masks[s] = (u32)place;
                first_value[s] = __ldg(value);
                second_value[s] = __ldg(value + 1);
            }
            Pair<typename V::Score> sum = scores[pair];
#pragma unroll
            for (int s = 0; s < STAGED_GENES; ++s) {
                bool has_even = masks[s] & even_bit;
                if (has_even) sum.even = add_fused(sum.even, weights[s], V::widen(first_value[s]));
                Stored odd = has_even ? second_value[s] : first_value[s];
                if (masks[s] & odd_bit) sum.odd = add_fused(sum.odd, weights[s], V::widen(odd));
            }
            scores[pair] = sum;
        }
        __syncthreads();
    }
}

// Postings of a list that a thread reads while the threads wait for one another: those of 1/16 of a tile.
enum { HELD = 2 };
template <class V> struct Held {
    typename V::Stored value[HELD];
    int cell[HELD];                      // -1: none
};

template <class V> __device__ inline void hold(const Found<V>& found, int i, int first, Held<V>& held) {
    int g = found.gene(LIST, i);
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
        int g = found.gene(LIST, i);
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

// What a block of threads has at hand of its tile's containers.
template <class V> struct Containers {
    Found<V> found;
    StagedMasks<V> staged;
};

// Weighted sums of the tile's cells. The containers are found once, or, of more than GENES genes, once a kind.
template <class V>
__device__ void add_tile(
    const Query& query, const Block& block, const Tile& tile, int n_cells, Containers<V>& containers,
    Pair<typename V::Score>* pairs
) {
    Found<V>& found = containers.found;
    typename V::Score* scores = &pairs->even;
    for (int cell = threadIdx.x; cell < n_cells + 1; cell += blockDim.x) scores[cell] = 0;
    for (int kind = FULL; kind >= LIST; --kind) {
        for (i64 chunk = 0; chunk < query.n_genes; chunk += GENES) {
            if (kind == FULL || query.n_genes > GENES) find_containers<V>(query, block, tile, chunk, found);
            if (kind == FULL) add_full(found, tile.first, n_cells, pairs);
            if (kind == BITMAP) add_bitmaps<V>(found, block, tile.first, n_cells, containers.staged, pairs);
            if (kind == LIST) add_lists<V>(found, tile.first, scores);
            __syncthreads();
        }
    }
}

// A block of threads a tile: sums, division, filter (NaN), and the counts of the scores' highest digits.
template <class V> __device__ void score_tile(u64 batch) {
    typedef typename V::Score Score;
    __shared__ Pair<Score> pairs[V::TILE / 2 + 1];
    __shared__ u64 room[sizeof(Containers<V>) / sizeof(u64)];
    static_assert(sizeof(room) >= DIGITS * sizeof(u32), "the histogram takes the containers' place");
    const Query& query = query_of(batch);
    if (blockIdx.x >= query.n_tiles) return;
    const Tile tile = at<const Tile>(query.tiles)[blockIdx.x];
    const Block& block = at<const Block>(query.blocks)[tile.block];
    int n_cells = tile_cells<V>(block, tile);
    i64 first_row = block.first_row + tile.first;
    Score* out = at<Score>(query.scores) + first_row;
    u32* counts = (u32*)room;
    if (block.words) add_tile<V>(query, block, tile, n_cells, *(Containers<V>*)room, pairs);
    const Score* scores = &pairs->even;
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

extern "C" __global__ void SCORING_BOUNDS score_half(u64 batch, i64) { score_tile<Half>(batch); }
extern "C" __global__ void SCORING_BOUNDS score_single(u64 batch, i64) { score_tile<Single>(batch); }
