import NibbleTensors
import Testing

/// Expects the bytes of an array to be those of a stored tensor: 0 and -0 differ, and NaN can be equal.
func expectSameBits<Element>(_ found: [Element], _ expected: Tensor, _ name: String) {
    let same = found.withUnsafeBytes { $0.elementsEqual(expected.bytes) }
    #expect(same, "\(name): the bits differ")
}
