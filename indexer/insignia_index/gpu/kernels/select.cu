// From scores to statistics of slots, order statistics, hits and the best cells. Integers alone are added by
// several threads at once, so that every run gives the same.

// What a chain of additions has come to.
struct Moments {
    double sum, squares, maximum;
};
__device__ inline void begin(Moments& of) {
    of.sum = of.squares = 0;
    of.maximum = __longlong_as_double((i64)0xFFF0000000000000ull);
}
__device__ inline void add(Moments& to, double x) {
    to.sum = __dadd_rn(to.sum, x);
    to.squares = __dadd_rn(to.squares, __dmul_rn(x, x));
    to.maximum = x > to.maximum ? x : to.maximum;
}
// The chains together, by halves, as the processor takes them (kernels/moments.py).
__device__ inline void put_statistics(const Query& query, i64 slot, const Moments* p) {
    Moments all[CHAINS];
#pragma unroll
    for (int c = 0; c < CHAINS; ++c) all[c] = p[c];
#pragma unroll
    for (int half = CHAINS / 2; half; half /= 2) {
#pragma unroll
        for (int c = 0; c < half; ++c) {
            const Moments& other = all[c + half];
            all[c].sum = __dadd_rn(all[c].sum, other.sum);
            all[c].squares = __dadd_rn(all[c].squares, other.squares);
            all[c].maximum = other.maximum > all[c].maximum ? other.maximum : all[c].maximum;
        }
    }
    double* out = at<double>(query.statistics) + 3 * slot;
    out[0] = all[0].sum;
    out[1] = all[0].squares;
    out[2] = all[0].maximum;
}

// Scores of the block that a slot belongs to.
template <class V> __device__ inline const typename V::Score* slot_scores(const Query& query, i64 slot) {
    const Block& block = at<const Block>(query.blocks)[at<const u32>(query.slot_block)[slot]];
    return at<const typename V::Score>(query.scores) + block.first_row;
}

// Statistics of slots of at most LARGE_SLOT cells: CHAINS threads a slot, each adding what the processor's chain
// adds, in its order (kernels/moments.py).
template <class V> __device__ void slot_statistics(u64 batch) {
    __shared__ Moments parts[MAX_THREADS];
    const Query& query = query_of(batch);
    i64 slot = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / CHAINS;
    int chain = threadIdx.x % CHAINS;
    i64 first = 0, stop = 0;
    if (slot < query.n_slots) {
        first = at<const i64>(query.order_starts)[slot];
        stop = at<const i64>(query.order_starts)[slot + 1];
    }
    bool is_ours = slot < query.n_slots && stop - first <= LARGE_SLOT;
    Moments mine;
    begin(mine);
    if (is_ours) {
        const u16* order = at<const u16>(query.order);
        const typename V::Score* scores = slot_scores<V>(query, slot);
#pragma unroll 4
        for (i64 i = first + chain; i < stop; i += CHAINS) add(mine, (double)scores[order[i]]);
    }
    parts[threadIdx.x] = mine;
    __syncthreads();
    if (is_ours && !chain) put_statistics(query, slot, parts + threadIdx.x);
}

// The others: all threads of a block bring the slot's scores to shared memory, where CHAINS of them add without
// waiting for memory at every cell.
template <class V> __device__ void large_slot_statistics(u64 batch) {
    __shared__ typename V::Score staged[STAGED];
    __shared__ Moments parts[CHAINS];
    const Query& query = query_of(batch);
    const u16* order = at<const u16>(query.order);
    for (i64 slot = blockIdx.x; slot < query.n_slots; slot += gridDim.x) {
        i64 first = at<const i64>(query.order_starts)[slot], stop = at<const i64>(query.order_starts)[slot + 1];
        i64 n = stop - first;
        if (n <= LARGE_SLOT) continue;  // of all threads alike
        const typename V::Score* scores = slot_scores<V>(query, slot);
        Moments mine;
        begin(mine);
        for (i64 base = 0; base < n; base += STAGED) {
            int count = smaller(STAGED, n - base);
            __syncthreads();
            for (int j = threadIdx.x; j < count; j += blockDim.x) staged[j] = scores[order[first + base + j]];
            __syncthreads();
            if (threadIdx.x >= CHAINS) continue;
#pragma unroll 8
            for (int j = threadIdx.x; j < count; j += CHAINS) add(mine, (double)staged[j]);
        }
        if (threadIdx.x < CHAINS) parts[threadIdx.x] = mine;
        __syncthreads();
        if (threadIdx.x == 0) put_statistics(query, slot, parts);
    }
}

template <class V> __device__ inline int digit_shift(int pass) {
    int shift = V::KEY_BITS - DIGIT_BITS * (pass + 1);
    return shift > 0 ? shift : 0;
}
template <class V> __device__ inline int digit_width(int pass) {
    int left = V::KEY_BITS - DIGIT_BITS * pass;
    return left < DIGIT_BITS ? left : DIGIT_BITS;
}

// Count the next digit (`pass` 1 and on) of the keys that begin as each target does.
template <class V> __device__ void count_digits(u64 batch, int pass) {
    typedef typename V::Score Score;
    __shared__ u32 counts[TARGETS][DIGITS];
    const Query& query = query_of(batch);
    if (!query.n_targets || blockIdx.x >= query.n_tiles) return;
    int shift = digit_shift<V>(pass), above = shift + digit_width<V>(pass);
    // in registers: behind atomic additions the compiler would read them again for every cell
    int n_targets = (int)query.n_targets;
    u64 beginnings[TARGETS];
#pragma unroll
    for (int i = 0; i < TARGETS; ++i) beginnings[i] = at<const Target>(query.targets)[i].key >> above;
    for (int i = threadIdx.x; i < TARGETS * DIGITS; i += blockDim.x) counts[i / DIGITS][i % DIGITS] = 0;
    __syncthreads();
    for (i64 t = blockIdx.x; t < query.n_tiles; t += gridDim.x) {
        const Tile tile = at<const Tile>(query.tiles)[t];
        const Block& block = at<const Block>(query.blocks)[tile.block];
        const Score* scores = at<const Score>(query.scores) + block.first_row + tile.first;
        int n_cells = tile_cells<V>(block, tile);
        for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
            Score score = scores[cell];
            if (!(score == score)) continue;
            u64 key = order_key(score);
#pragma unroll
            for (int i = 0; i < TARGETS; ++i)
                if (i < n_targets && key >> above == beginnings[i])
                    atomicAdd(&counts[i][(key >> shift) & ((1u << (above - shift)) - 1)], 1u);
        }
    }
    __syncthreads();
    u32* totals = at<u32>(query.histograms) + (i64)pass * TARGETS * DIGITS;
    for (int i = threadIdx.x; i < TARGETS * DIGITS; i += blockDim.x)
        if (counts[i / DIGITS][i % DIGITS]) atomicAdd(&totals[i], counts[i / DIGITS][i % DIGITS]);
}

// Sums of equal runs of numbers, one run a thread, to `parts`: then what lies before each run.
__device__ inline void sum_runs(const u32* numbers, i64 n, u64* parts) {
    i64 run = (n + blockDim.x - 1) / blockDim.x, first = run * threadIdx.x;
    u64 sum = 0;
    for (i64 i = first; i < first + run && i < n; ++i) sum += numbers[i];
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        u64 before = 0;
        for (u32 t = 0; t < blockDim.x; ++t) {
            u64 here = parts[t];
            parts[t] = before;
            before += here;
        }
    }
    __syncthreads();
}

// Find the digit in which a target's rank lies. The targets share the counts of the first pass.
template <class V> __device__ void narrow_target(u64 batch, int pass) {
    __shared__ u64 parts[MAX_THREADS];
    const Query& query = query_of(batch);
    if (blockIdx.x >= query.n_targets) return;
    Target& target = at<Target>(query.targets)[blockIdx.x];
    const u32* counts = at<const u32>(query.histograms) + (i64)pass * TARGETS * DIGITS;
    if (pass) counts += (i64)blockIdx.x * DIGITS;
    sum_runs(counts, DIGITS, parts);
    i64 rank = target.rank, run = (DIGITS + blockDim.x - 1) / blockDim.x, first = run * threadIdx.x;
    u64 key = target.key;
    __syncthreads();  // all know the rank before one writes the next
    i64 below = (i64)parts[threadIdx.x];
    for (i64 digit = first; digit < first + run && digit < DIGITS; ++digit) {
        i64 count = counts[digit];
        if (below <= rank && rank < below + count) {  // true of one digit of one thread
            target.key = key | (u64)digit << digit_shift<V>(pass);
            target.rank = rank - below;
            target.count = count;
        }
        below += count;
    }
}

// Count the scores of every tile that equal the cut-off, and those that equal the last of the top.
template <class V> __device__ void count_ties(u64 batch) {
    typedef typename V::Score Score;
    __shared__ u32 counts[2];
    const Query& query = query_of(batch);
    u32* ties = at<u32>(query.tile_ties);
    if (query.hit_mode != TIES_FIRST && query.top_mode != TIES_FIRST) return;
    for (i64 t = blockIdx.x; t < query.n_tiles; t += gridDim.x) {
        const Tile tile = at<const Tile>(query.tiles)[t];
        const Block& block = at<const Block>(query.blocks)[tile.block];
        const Score* scores = at<const Score>(query.scores) + block.first_row + tile.first;
        int n_cells = tile_cells<V>(block, tile);
        __syncthreads();
        if (threadIdx.x < 2) counts[threadIdx.x] = 0;
        __syncthreads();
        u32 n_hit = 0, n_top = 0;
        for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
            Score score = scores[cell];
            n_hit += (double)score == query.cutoff;
            n_top += score == score && order_key(score) == query.top_key;
        }
        if (n_hit) atomicAdd(&counts[0], n_hit);
        if (n_top) atomicAdd(&counts[1], n_top);
        __syncthreads();
        if (threadIdx.x < 2) ties[threadIdx.x * query.n_tiles + t] = counts[threadIdx.x];
    }
}

// From the ties of every tile to those of the tiles before it.
__device__ inline void scan_tile_ties(u64 batch) {
    __shared__ u64 parts[MAX_THREADS];
    const Query& query = query_of(batch);
    if ((blockIdx.x == 0 ? query.hit_mode : query.top_mode) != TIES_FIRST) return;
    u32* ties = at<u32>(query.tile_ties) + blockIdx.x * query.n_tiles;
    sum_runs(ties, query.n_tiles, parts);
    i64 run = (query.n_tiles + blockDim.x - 1) / blockDim.x, first = run * threadIdx.x;
    u32 before = (u32)parts[threadIdx.x];
    for (i64 t = first; t < first + run && t < query.n_tiles; ++t) {
        u32 here = ties[t];
        ties[t] = before;
        before += here;
    }
}

__device__ inline void add_hit(const Query& query, u32 block, i64 row) {
    i64 slot = at<const i64>(query.slot_starts)[block] + at<const u16>(query.codes)[row];
    atomicAdd(&at<u64>(query.slot_hits)[slot], 1ull);
}

template <class Score> __device__ inline void put_top(const Query& query, i64 place, i64 row, Score score) {
    if (place >= query.top_above + query.top_ties) return;
    at<i64>(query.top_rows)[place] = row;
    at<Score>(query.top_scores)[place] = score;
}

// Take the first ties of the tile in row order, as many as the tiles before it left over: each thread looks at
// a run of cells. `is_top`: for the top, else for the hits.
template <class V>
__device__ void take_first_ties(const Query& query, i64 t, bool is_top, u32* parts) {
    typedef typename V::Score Score;
    const Tile tile = at<const Tile>(query.tiles)[t];
    const Block& block = at<const Block>(query.blocks)[tile.block];
    i64 first_row = block.first_row + tile.first;
    const Score* scores = at<const Score>(query.scores) + first_row;
    int n_cells = tile_cells<V>(block, tile);
    i64 before = at<const u32>(query.tile_ties)[is_top * query.n_tiles + t];
    i64 wanted = is_top ? query.top_ties : query.hit_ties;
    if (before >= wanted) return;  // of all threads alike
    int run = (n_cells + blockDim.x - 1) / blockDim.x, first = run * threadIdx.x;
    int stop = first + run < n_cells ? first + run : n_cells;
    u32 n = 0;
    for (int cell = first; cell < stop; ++cell)
        n += is_top ? scores[cell] == scores[cell] && order_key(scores[cell]) == query.top_key
                    : (double)scores[cell] == query.cutoff;
    __syncthreads();
    parts[threadIdx.x] = n;
    __syncthreads();
    for (u32 j = 0; j < threadIdx.x; ++j) before += parts[j];
    for (int cell = first; cell < stop && before < wanted; ++cell) {
        Score score = scores[cell];
        if (is_top && score == score && order_key(score) == query.top_key)
            put_top<Score>(query, query.top_above + before++, first_row + cell, score);
        if (!is_top && (double)score == query.cutoff) {
            add_hit(query, tile.block, first_row + cell);
            ++before;
        }
    }
}

// Hits of every slot, and the rows and scores of the top, in no order.
template <class V> __device__ void finish_tiles(u64 batch) {
    typedef typename V::Score Score;
    __shared__ u32 parts[MAX_THREADS];
    const Query& query = query_of(batch);
    u32* counters = at<u32>(query.counters);
    // in registers, as above
    const double cutoff = query.cutoff;
    const u64 top_key = query.top_key;
    const bool ties_are_hits = query.hit_mode == TIES_ALL, has_top = query.top_mode != TIES_NONE;
    const bool ties_are_top = query.top_mode == TIES_ALL;
    for (i64 t = blockIdx.x; t < query.n_tiles; t += gridDim.x) {
        const Tile tile = at<const Tile>(query.tiles)[t];
        const Block& block = at<const Block>(query.blocks)[tile.block];
        i64 first_row = block.first_row + tile.first;
        const Score* scores = at<const Score>(query.scores) + first_row;
        int n_cells = tile_cells<V>(block, tile);
        for (int cell = threadIdx.x; cell < n_cells; cell += blockDim.x) {
            Score score = scores[cell];
            if (!(score == score)) continue;
            double value = (double)score;
            if (value > cutoff || (ties_are_hits && value == cutoff))
                add_hit(query, tile.block, first_row + cell);
            if (!has_top) continue;
            u64 key = order_key(score);
            if (key > top_key) put_top<Score>(query, atomicAdd(&counters[0], 1u), first_row + cell, score);
            else if (ties_are_top && key == top_key)
                put_top<Score>(
                    query, query.top_above + atomicAdd(&counters[1], 1u), first_row + cell, score);
        }
        if (query.hit_mode == TIES_FIRST) take_first_ties<V>(query, t, false, parts);
        if (query.top_mode == TIES_FIRST) take_first_ties<V>(query, t, true, parts);
    }
}

extern "C" __global__ void statistics_half(u64 batch, i64) { slot_statistics<Half>(batch); }
extern "C" __global__ void statistics_single(u64 batch, i64) { slot_statistics<Single>(batch); }
extern "C" __global__ void large_half(u64 batch, i64) { large_slot_statistics<Half>(batch); }
extern "C" __global__ void large_single(u64 batch, i64) { large_slot_statistics<Single>(batch); }
extern "C" __global__ void digits_half(u64 batch, i64 pass) { count_digits<Half>(batch, (int)pass); }
extern "C" __global__ void digits_single(u64 batch, i64 pass) { count_digits<Single>(batch, (int)pass); }
extern "C" __global__ void narrow_half(u64 batch, i64 pass) { narrow_target<Half>(batch, (int)pass); }
extern "C" __global__ void narrow_single(u64 batch, i64 pass) { narrow_target<Single>(batch, (int)pass); }
extern "C" __global__ void ties_half(u64 batch, i64) { count_ties<Half>(batch); }
extern "C" __global__ void ties_single(u64 batch, i64) { count_ties<Single>(batch); }
extern "C" __global__ void scan_ties(u64 batch, i64) { scan_tile_ties(batch); }
extern "C" __global__ void finish_half(u64 batch, i64) { finish_tiles<Half>(batch); }
extern "C" __global__ void finish_single(u64 batch, i64) { finish_tiles<Single>(batch); }
