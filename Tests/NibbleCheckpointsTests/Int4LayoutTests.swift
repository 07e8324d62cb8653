import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// The packed layouts against places and checksums that DeepCompressor's and Nunchaku's own packers gave.
@Suite struct Int4LayoutTests {
    /// CRC-32 as zlib computes it.
    static func crc32(_ bytes: some Sequence<UInt8>) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { sum, byte in
            (0..<8).reduce(sum ^ UInt32(byte)) { bits, _ in bits >> 1 ^ (bits & 1 == 1 ? 0xedb8_8320 : 0) }
        }
    }

    static func tensor<Element>(_ values: [Element], _ shape: Shape, _ dtype: DType) -> Tensor {
        let tensor = Tensor(zeros: shape, dtype)
        values.withUnsafeBytes {
            tensor.mutableAddress.copyMemory(from: $0.baseAddress ?? tensor.address, byteCount: $0.count)
        }
        return tensor
    }

    /// A matrix of `value(row, column)`.
    static func matrix<Element>(
        _ rows: Int, _ columns: Int, _ dtype: DType, _ value: (Int, Int) -> Element
    ) -> Tensor {
        let values = (0..<rows).flatMap { row in (0..<columns).map { value(row, $0) } }
        return tensor(values, [rows, columns], dtype)
    }

    @Test func checksumIsZlibs() { #expect(Self.crc32("123456789".utf8) == 0xcbf4_3926) }

    // MARK: - Codes

    @Test(arguments: [(128, 0xebc1_7af1), (256, 0x05f1_5852)] as [(Int, UInt32)])
    func codeChecksums(_ rows: Int, _ expected: UInt32) {
        let codes = Self.matrix(rows, 128, .int8) { Int8((3 * $0 + 5 * $1) % 15 - 7) }
        let packed = NunchakuLayout.packCodes(codes)
        #expect(Self.crc32(packed.copiedBytes) == expected)
        #expect(NunchakuLayout.unpackCodes(packed).copiedBytes == codes.copiedBytes)
        guard rows == 128 else { return }
        let words = packed.elements(UInt32.self)
        #expect(words[0..<4] == [0xe93e_93e9, 0x93e9_3e93, 0x72d7_2d72, 0x2d72_d72d])
        #expect(words[1024] == 0x3e93_e93e && words.last == 0x4fa4_fa4f)
    }

    /// Rows, columns, place, byte, whether it is the upper half.
    private static let codePlaces: [(shape: (Int, Int), row: Int, column: Int, byte: Int, isUpper: Bool)] = [
        ((128, 64), 0, 0, 0, false), ((128, 64), 0, 1, 0, true), ((128, 64), 0, 7, 3, true),
        ((128, 64), 0, 8, 16, false), ((128, 64), 0, 31, 51, true), ((128, 64), 0, 32, 4, false),
        ((128, 64), 0, 63, 55, true), ((128, 64), 8, 0, 8, false), ((128, 64), 1, 0, 64, false),
        ((128, 64), 7, 0, 448, false), ((128, 64), 15, 63, 511, true), ((128, 64), 16, 0, 512, false),
        ((128, 64), 127, 63, 4095, true), ((128, 128), 0, 64, 4096, false), ((128, 128), 17, 9, 592, true),
        ((128, 128), 100, 50, 3365, false),
        // Byte row 1 of a matrix of 3072 inputs begins with output 48; output 1 begins in byte row 0.
        ((128, 3072), 48, 0, 1536, false), ((128, 3072), 1, 0, 64, false),
    ]

    @Test(arguments: codePlaces.indices) func codePlace(_ index: Int) {
        let place = Self.codePlaces[index]
        let codes = Tensor(zeros: [place.shape.0, place.shape.1], .int8)
        codes.mutableAddress.storeBytes(of: -8, toByteOffset: place.row * place.shape.1 + place.column, as: Int8.self)
        let bytes = NunchakuLayout.packCodes(codes).copiedBytes
        #expect(bytes.indices.filter { bytes[$0] != 0 } == [place.byte])
        #expect(bytes[place.byte] == (place.isUpper ? 0x80 : 0x08))
    }

    private static let sizes = [(128, 128, 16), (384, 384, 32), (256, 640, 48), (384, 128, 128)]

    @Test(arguments: sizes.indices) func packingAndUnpackingUndoEachOther(_ index: Int) {
        let (outputs, inputs, rank) = Self.sizes[index]
        var generator = TestGenerator(seed: UInt64(index))
        func random(_ shape: Shape, _ dtype: DType) -> Tensor {
            let count = shape.elementCount * dtype.byteSize
            return Self.tensor((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }, shape, dtype)
        }
        let layouts: [(Tensor, (Tensor) -> Tensor, (Tensor) -> Tensor)] = [
            (random([outputs, inputs / 2], .int8), NunchakuLayout.unpackCodes, NunchakuLayout.packCodes),
            (random([inputs / 64, outputs], .bfloat16), NunchakuLayout.unpackScales, NunchakuLayout.packScales),
            (random([outputs, inputs / 64], .bfloat16), NunchakuLayout.packScales, NunchakuLayout.unpackScales),
            (random([outputs], .bfloat16), NunchakuLayout.unpackVector, NunchakuLayout.packVector),
            (random([outputs], .float16), NunchakuLayout.packVector, NunchakuLayout.unpackVector),
            (
                random([inputs, rank], .bfloat16), { NunchakuLayout.unpackLowRank($0, .down) },
                { NunchakuLayout.packLowRank($0, .down) }
            ),
            (
                random([rank, inputs], .bfloat16), { NunchakuLayout.packLowRank($0, .down) },
                { NunchakuLayout.unpackLowRank($0, .down) }
            ),
            (
                random([outputs, rank], .bfloat16), { NunchakuLayout.unpackLowRank($0, .up) },
                { NunchakuLayout.packLowRank($0, .up) }
            ),
            (
                random([outputs, rank], .bfloat16), { NunchakuLayout.packLowRank($0, .up) },
                { NunchakuLayout.unpackLowRank($0, .up) }
            ),
        ]
        for (number, (tensor, there, back)) in layouts.enumerated() {
            let result = back(there(tensor))
            #expect(result.shape == tensor.shape && result.copiedBytes == tensor.copiedBytes, "layout \(number)")
        }
        // Codes that are packed come out as they went in, too: all sixteen, at random.
        let codes = Self.matrix(outputs, inputs, .int8) { _, _ in Int8.random(in: -8...7, using: &generator) }
        #expect(NunchakuLayout.unpackCodes(NunchakuLayout.packCodes(codes)).copiedBytes == codes.copiedBytes)
    }

    // MARK: - Scales

    @Test func scalePlaces() {
        let scales = Self.matrix(256, 2, .uint16) { UInt16(2 * $0 + $1) }
        let packed = NunchakuLayout.packScales(scales)
        #expect(packed.shape == [2, 256] && Self.crc32(packed.copiedBytes) == 0x4dba_d978)
        let stored = packed.elements(UInt16.self)
        let places = [(0, 0, 0), (1, 0, 1), (2, 0, 4), (8, 0, 2), (9, 0, 3), (16, 0, 16), (127, 0, 127), (0, 1, 128)]
        for (row, group, flat) in places { #expect(stored[flat] == UInt16(2 * row + group)) }
        let vector = NunchakuLayout.packVector(Self.tensor((0..<128).map { UInt16($0) }, [128], .uint16))
        #expect(
            vector.elements(UInt16.self).prefix(20)
                == [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 16, 17, 24, 25])
    }

    // MARK: - Low rank

    @Test func lowRankPlaces() {
        let down = Self.matrix(32, 128, .uint16) { UInt16(128 * $0 + $1) }
        let packedDown = NunchakuLayout.packLowRank(down, .down)
        #expect(packedDown.shape == [128, 32] && Self.crc32(packedDown.copiedBytes) == 0x9a80_6c43)
        let places = [
            (0, 0, 0), (0, 1, 1), (0, 2, 8), (0, 8, 2), (1, 0, 32), (8, 0, 4), (16, 0, 256), (0, 16, 512),
            (31, 127, 4095),
        ]
        let storedDown = packedDown.elements(UInt16.self)
        for (rank, channel, flat) in places { #expect(storedDown[flat] == UInt16(128 * rank + channel)) }

        let up = Self.matrix(128, 32, .uint16) { UInt16(128 * $1 + $0) }
        let packedUp = NunchakuLayout.packLowRank(up, .up)
        #expect(packedUp.shape == [128, 32] && Self.crc32(packedUp.copiedBytes) == 0x4e3d_86cc)
        let upPlaces = [(0, 1, 1), (0, 2, 8), (0, 8, 2), (1, 0, 32), (8, 0, 4), (0, 16, 256), (16, 0, 512)]
        let storedUp = packedUp.elements(UInt16.self)
        for (channel, rank, flat) in upPlaces { #expect(storedUp[flat] == UInt16(128 * rank + channel)) }
    }

    // MARK: - Modulations

    @Test func modulationPlaces() {
        let codes = Self.matrix(8, 128, .uint8) { UInt8((3 * $0 + 5 * $1) % 16) }
        let packed = ModulationLayout.packCodes(codes, splits: 1)
        #expect(packed.shape == [2, 64] && packed.dtype == .int32)
        #expect(packed.elements(UInt16.self).prefix(4) == [0x8080, 0xd5d5, 0x2a2a, 0x7f7f])
        #expect(Self.crc32(packed.copiedBytes) == 0xffd4_e2b7)
        let places = [
            (0, 0, 0, 0), (0, 1, 1, 0), (0, 8, 0, 1), (0, 31, 7, 3), (0, 32, 8, 0), (0, 64, 64, 0), (1, 0, 16, 0),
            (3, 63, 63, 3), (4, 0, 128, 0),
        ]
        for (row, column, word, nibble) in places {
            let one = Self.matrix(8, 128, .uint8) { UInt8($0 == row && $1 == column ? 15 : 0) }
            let words = ModulationLayout.packCodes(one, splits: 1).elements(UInt16.self)
            #expect(words.indices.filter { words[$0] != 0 } == [word] && words[word] == 15 << (4 * UInt16(nibble)))
        }
    }

    @Test func modulationRowsAreInterleaved() {
        // Stored row c · splits + s is original row s · (out / splits) + c.
        #expect((0..<6).map { ModulationLayout.originalRow($0, rows: 6, splits: 3) } == [0, 2, 4, 1, 3, 5])
        // 48 rows of scales are what 3072 inputs need; 2 groups are padded to 16 rows.
        #expect(ModulationLayout.storedGroups(inputs: 3072) == 48 && ModulationLayout.storedGroups(inputs: 128) == 16)
    }

    @Test(arguments: [(12, 64, 3), (384, 384, 3), (48, 1152, 6)]) func modulationsPackBothWays(
        _ outputs: Int, _ inputs: Int, _ splits: Int
    ) {
        var generator = TestGenerator(seed: UInt64(outputs))
        let codes = Self.matrix(outputs, inputs, .uint8) { _, _ in UInt8.random(in: 0...15, using: &generator) }
        let packed = ModulationLayout.packCodes(codes, splits: splits)
        #expect(ModulationLayout.unpackCodes(packed, splits: splits).copiedBytes == codes.copiedBytes)
        let words = Self.matrix(outputs / 4, inputs / 2, .int32) { _, _ in
            UInt32.random(in: 0 ... .max, using: &generator)
        }
        let repacked = ModulationLayout.packCodes(ModulationLayout.unpackCodes(words, splits: splits), splits: splits)
        #expect(repacked.copiedBytes == words.copiedBytes)
        let groups = inputs / 64
        let scales = Self.matrix(outputs, groups, .bfloat16) { _, _ in UInt16.random(in: 0 ... .max, using: &generator)
        }
        let stored = ModulationLayout.packScales(scales, splits: splits)
        #expect(stored.shape == [(groups + 15) / 16 * 16, outputs])
        #expect(stored.rows(groups..<stored.rows).bytes.allSatisfy { $0 == 0 })
        let back = ModulationLayout.unpackScales(stored, groups: groups, splits: splits)
        #expect(back.copiedBytes == scales.copiedBytes)
    }
}
