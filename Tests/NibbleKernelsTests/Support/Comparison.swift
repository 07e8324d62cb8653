import Testing

/// Expects every value within its bound of the expected one, and otherwise tells the worst cell.
func expectClose(
    _ actual: [Float], _ expected: [Double], within bound: [Double], _ label: @autoclosure () -> String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    var worst = (index: -1, ratio: 1.0)
    var failures = 0
    for index in actual.indices {
        let error = abs(Double(actual[index]) - expected[index])
        if error <= bound[index] { continue }
        failures += 1
        let ratio = error.isFinite && bound[index] > 0 ? error / bound[index] : .infinity
        if ratio >= worst.ratio { worst = (index, ratio) }
    }
    guard failures > 0 else { return }
    let at = max(worst.index, 0)
    Issue.record(
        """
        \(label()): \(failures) of \(actual.count) out of bounds, worst at \(at): \(actual[at]), \
        expected \(expected[at]), bound \(bound[at])
        """, sourceLocation: sourceLocation)
}
