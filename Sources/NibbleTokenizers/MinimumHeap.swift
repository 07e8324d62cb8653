/// A binary heap of numbers that gives back the smallest first.
struct MinimumHeap {
    private var entries: [UInt64] = []

    mutating func push(_ entry: UInt64) {
        entries.append(entry)
        var place = entries.count - 1
        while place > 0, entries[place] < entries[(place - 1) / 2] {
            entries.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    mutating func popMinimum() -> UInt64? {
        guard let minimum = entries.first, let last = entries.popLast() else { return nil }
        guard !entries.isEmpty else { return minimum }
        entries[0] = last
        var place = 0
        while true {
            let left = 2 * place + 1
            guard left < entries.count else { return minimum }
            let child = left + 1 < entries.count && entries[left + 1] < entries[left] ? left + 1 : left
            guard entries[child] < entries[place] else { return minimum }
            entries.swapAt(place, child)
            place = child
        }
    }
}
