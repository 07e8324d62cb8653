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
        /// What the first block added to the image's tokens when the rest was run last, and what the rest added then, to
        /// the rows that anyone reads afterwards: memory of the cache's own, the same for all steps.
        var last: (first: Tensor, rest: Tensor)?
    }

    let threshold: Threshold
    var stacks: [Stack] = []
    /// The gate of a subtraction: `[hidden]`, all -1.
    private var minusOnes = Tensor([], shape: [0])
    /// Blocks that were skipped so far.
    public internal(set) var skippedBlocks = 0

    /// A cache that is empty.
    public init(_ threshold: Threshold) { self.threshold = threshold }

    /// About how many bytes it holds, and needs while it is used, for a picture's tokens.
    static func byteCount(tokens: Int, hidden: Int) -> Int { 6 * tokens * hidden * MemoryLayout<Float>.stride }

    /// Divides a transformer's blocks up, the first time.
    func prepare(doubleBlocks: Int, blockCount: Int, hidden: Int) {
        guard stacks.isEmpty else { return }
        minusOnes = Tensor([Float](repeating: -1, count: hidden), shape: [hidden])
        let parts: [(Range<Int>, Float)] =
            switch threshold {
            case .whole(let threshold): [(0..<blockCount, threshold)]
            case .stacks(let double, let single): [(0..<doubleBlocks, double), (doubleBlocks..<blockCount, single)]
            }
        stacks = parts.filter { !$0.0.isEmpty }.map { Stack(blocks: $0.0, threshold: $0.1) }
    }

    /// y = x - before.
    func subtract(_ before: Tensor, from x: Tensor, into y: Tensor, on compute: Compute) {
        compute.convert(x, into: y)
        compute.add(before, to: y, gate: minusOnes)
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
        cache.prepare(doubleBlocks: config.doubleBlocks, blockCount: blockCount, hidden: config.hidden)
        let workspace = compute.workspace
        let image = passage.stream.rows(passage.textTokens..<passage.stream.rows)
        for index in cache.stacks.indices {
            let blocks = cache.stacks[index].blocks
            // After the last block nobody reads the text's rows.
            let rows = index + 1 < cache.stacks.count ? passage.stream : image
            try workspace.scope {
                let first = workspace.tensor(image.shape, .float32)
                try workspace.scope {
                    let before = workspace.tensor(image.shape, .float32)
                    compute.convert(image, into: before)
                    try apply(blocks.lowerBound)
                    cache.subtract(before, from: image, into: first, on: compute)
                }
                if let last = cache.stacks[index].last,
                    compute.change(from: last.first, to: first) < cache.stacks[index].threshold
                {
                    compute.add(last.rest, to: rows)
                    cache.skippedBlocks += blocks.count - 1
                    return
                }
                let middle = workspace.tensor(rows.shape, .float32)
                compute.convert(rows, into: middle)
                for block in blocks.dropFirst() { try apply(block) }
                let last =
                    cache.stacks[index].last
                    ?? (Tensor(zeros: first.shape, .float32), Tensor(zeros: rows.shape, .float32))
                compute.convert(first, into: last.first)
                cache.subtract(middle, from: rows, into: last.rest, on: compute)
                cache.stacks[index].last = last
            }
        }
    }
}

extension Compute {
    /// Σ |new − old| / Σ |old|: row by row, so that the number of threads changes nothing.
    fileprivate func change(from old: Tensor, to new: Tensor) -> Float {
        workspace.scope {
            let sums = workspace.tensor([old.rows, 2], .float32)
            let width = old.width
            run("first-block change", old.rows) { row, _ in
                let old = old.address.assumingMemoryBound(to: Float.self) + row * old.rowStride
                let new = new.address.assumingMemoryBound(to: Float.self) + row * new.rowStride
                var (difference, magnitude): (Float, Float) = (0, 0)
                for column in 0..<width {
                    difference += abs(old[column] - new[column])
                    magnitude += abs(old[column])
                }
                let target = sums.mutableAddress.assumingMemoryBound(to: Float.self) + 2 * row
                (target[0], target[1]) = (difference, magnitude)
            }
            var (difference, magnitude) = (0.0, 0.0)
            let all = sums.address.assumingMemoryBound(to: Float.self)
            for row in 0..<sums.rows {
                difference += Double(all[2 * row])
                magnitude += Double(all[2 * row + 1])
            }
            return Float(difference / magnitude)
        }
    }
}
