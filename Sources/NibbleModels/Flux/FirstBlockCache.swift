internal import NibbleCheckpoints
internal import NibbleTensors

/// Skips most of a step where its first block does nearly what it did in the step before: then the others would too, and
/// what they added last time is added again (ParaAttention's first-block cache, which Nunchaku has as well).
///
/// For one picture: the first step fills it.
public final class FirstBlockCache {
    /// How much a first block's contribution may change, relative to the last one that was followed by the others.
    public enum Threshold: Sendable, Hashable {
        /// The first block decides for all others. 0.12 is usual.
        case whole(Float)
        /// The first double block decides for the double blocks, the first single block for the single ones.
        case stacks(double: Float, single: Float)
    }

    /// Blocks that follow each other, of which the first decides for the rest.
    struct Stack {
        let blocks: Range<Int>
        let threshold: Float
        /// What the first block added to the image's tokens when the rest was run last.
        var first: Tensor?
        /// What the rest added then, to the rows that anyone reads afterwards.
        var rest: Tensor?
    }

    let threshold: Threshold
    var stacks: [Stack] = []
    /// Blocks that were skipped so far.
    public internal(set) var skippedBlocks = 0

    /// A cache that is empty.
    public init(_ threshold: Threshold) { self.threshold = threshold }

    /// About how many bytes it holds, and needs while it is used, for a picture's tokens.
    static func byteCount(tokens: Int, hidden: Int) -> Int { 6 * tokens * hidden * MemoryLayout<Float>.stride }

    /// Divides a transformer's blocks up, the first time.
    func prepare(doubleBlocks: Int, blockCount: Int) {
        guard stacks.isEmpty else { return }
        let parts: [(Range<Int>, Float)] =
            switch threshold {
            case .whole(let threshold): [(0..<blockCount, threshold)]
            case .stacks(let double, let single): [(0..<doubleBlocks, double), (doubleBlocks..<blockCount, single)]
            }
        stacks = parts.filter { !$0.0.isEmpty }.map { Stack(blocks: $0.0, threshold: $0.1) }
    }
}

extension FluxTransformer {
    /// Takes a passage through all blocks, or as many as the cache finds necessary.
    func run(
        _ passage: FluxPassage, _ cache: FirstBlockCache, residency: Residency, on compute: Compute,
        beforeBlock: (_ block: Int) throws -> Void
    ) rethrows {
        func apply(_ block: Int) throws {
            try beforeBlock(block)
            if residency == .stream { weights(of: block).fetch() }
            self.apply(block, to: passage, on: compute)
            if residency == .stream { weights(of: block).release() }
        }
        cache.prepare(doubleBlocks: config.doubleBlocks, blockCount: blockCount)
        let image = passage.stream.rows(passage.textTokens..<passage.stream.rows)
        for index in cache.stacks.indices {
            let stack = cache.stacks[index]
            // After the last block nobody reads the text's rows.
            let rows = index + 1 < cache.stacks.count ? passage.stream : image
            let before = image.copy()
            try apply(stack.blocks.lowerBound)
            let first = image.difference(from: before, on: compute)
            if let rest = stack.rest, let last = stack.first, first.change(from: last, on: compute) < stack.threshold {
                compute.add(rest, to: rows)
                cache.skippedBlocks += stack.blocks.count - 1
                continue
            }
            let middle = rows.copy()
            for block in stack.blocks.dropFirst() { try apply(block) }
            cache.stacks[index].first = first
            cache.stacks[index].rest = rows.difference(from: middle, on: compute)
        }
    }
}

extension Tensor {
    fileprivate func copy() -> Tensor {
        let copy = Tensor(zeros: shape, dtype)
        copy.mutableAddress.copyMemory(from: address, byteCount: bytes.count)
        return copy
    }

    /// What it is now less what it was.
    fileprivate func difference(from before: Tensor, on compute: Compute) -> Tensor {
        let difference = copy()
        compute.add(before, to: difference, gate: Tensor([Float](repeating: -1, count: width), shape: [width]))
        return difference
    }

    /// Σ |last − self| / Σ |last|: row by row, so that the number of threads changes nothing.
    fileprivate func change(from last: Tensor, on compute: Compute) -> Float {
        let sums = Tensor(zeros: [rows, 2], .float32)
        let (width, this) = (width, self)
        compute.pool.run(rows) { row, _ in
            let old = last.address.assumingMemoryBound(to: Float.self) + row * width
            let new = this.address.assumingMemoryBound(to: Float.self) + row * width
            var (difference, magnitude): (Float, Float) = (0, 0)
            for column in 0..<width {
                difference += abs(old[column] - new[column])
                magnitude += abs(old[column])
            }
            let target = sums.mutableAddress.assumingMemoryBound(to: Float.self) + 2 * row
            (target[0], target[1]) = (difference, magnitude)
        }
        let values = sums.floats()
        let difference = stride(from: 0, to: values.count, by: 2).reduce(0.0) { $0 + Double(values[$1]) }
        let magnitude = stride(from: 1, to: values.count, by: 2).reduce(0.0) { $0 + Double(values[$1]) }
        return Float(difference / magnitude)
    }
}
