import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Reading, against a file that the reference implementation wrote, and against headers made wrong by hand.
@Suite struct SafetensorsFileTests {
    static let everyType = Goldens.repository.appending(path: "Tests/Fixtures/safetensors/every_type.safetensors").path

    @Test func readsEveryTypeOfTheReference() throws {
        let file = try SafetensorsFile(Self.everyType)
        #expect(file.metadata == ["a\"b\\": "é\t\n\u{1}\u{7f}/😀"])
        #expect(file.tensorNames.count == 2 * DType.allCases.count + 3)
        let names: [DType: String] = [
            .bool: "bool", .uint8: "uint8", .int8: "int8", .float8E5M2: "float8_e5m2", .float8E4M3: "float8_e4m3fn",
            .int16: "int16", .uint16: "uint16", .float16: "float16", .bfloat16: "bfloat16", .int32: "int32",
            .uint32: "uint32", .float32: "float32", .float64: "float64", .int64: "int64", .uint64: "uint64",
        ]
        for dtype in DType.allCases {
            let name = try #require(names[dtype])
            let first = try file.tensor("b.\(name)")
            #expect(first.dtype == dtype && first.shape == [3])
            #expect(first.copiedBytes == (1...UInt8(3 * dtype.byteSize)).map { $0 })
            let second = try file.tensor("a.\(name)")
            #expect(second.dtype == dtype && second.shape == [1, 2])
            #expect(second.copiedBytes == (101...UInt8(100 + 2 * dtype.byteSize)).map { $0 })
        }
        #expect(try file.tensor("scalar").shape == [])
        #expect(try file.tensor("scalar").elements(Float.self) == [1.5])
        #expect(try file.tensor("empty").shape == [0, 4])
        #expect(try file.tensor("odd \"name\" \\ é\n\u{1}\u{7f}/").copiedBytes == [7])
        #expect(throws: CheckpointError.missingTensor(path: Self.everyType, name: "none")) { try file.tensor("none") }
    }

    @Test func viewsShareTheMappedFile() throws {
        let file = try SafetensorsFile(Self.everyType)
        let (first, second) = (try file.tensor("b.float32"), try file.tensor("b.bfloat16"))
        #expect(first.storage === second.storage && first.storage.path == Self.everyType)
    }

    /// Behind one byte nothing is aligned; both the header and the tensors before may cause it.
    @Test(arguments: [0, 1, 2, 3]) func copiesWhatIsNotAligned(_ padding: Int) throws {
        let folder = try TemporaryFolder()
        let header = #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#
        let values: [Float] = [1.25, -3]
        let path = try folder.write(
            "a.safetensors",
            safetensors(header + String(repeating: " ", count: padding), data: values.withUnsafeBytes { Array($0) }))
        let file = try SafetensorsFile(path)
        let tensor = try file.tensor("x")
        #expect(Int(bitPattern: tensor.address) % 4 == 0)
        #expect(tensor.elements(Float.self) == values)
        #expect((tensor.storage.path == nil) == (file.entries[0].byteRange.lowerBound % 4 != 0))
    }

    @Test func acceptsWhatTheFormatAllows() throws {
        let folder = try TemporaryFolder()
        func open(_ header: String, _ data: [UInt8] = []) throws -> SafetensorsFile {
            try SafetensorsFile(folder.write("a.safetensors", safetensors(header, data: data)))
        }
        #expect(try open("{}").entries.isEmpty)
        #expect(try open("{ } \n").entries.isEmpty)
        #expect(try open(#"{"__metadata__":null}"#).metadata.isEmpty)
        let entry = #""data_offsets":[0,1],"later":[{"more":1.5e3}],"shape":[1],"dtype":"U8""#
        #expect(try open("{\"a\":{\(entry)}}", [9]).tensor("a").copiedBytes[0] == 9)
        // No order of names or of offsets is asked for.
        let swapped =
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
        let file = try open(swapped, [5, 6])
        #expect(try file.tensor("a").copiedBytes[0] == 6 && file.tensor("b").copiedBytes[0] == 5)
        #expect(file.entries.map(\.name) == ["b", "a"])
    }

    /// A header (and 8 bytes of data) and a piece of the message that it must give.
    static let badHeaders: [(String, String)] = [
        ("", "does not start with '{'"),
        ("[]", "does not start with '{'"),
        (" {}", "does not start with '{'"),
        ("{", "header, byte 9: expected '\"', found the end"),
        ("{}x", "expected the end, found 'x'"),
        ("{}", "8 bytes at the end belong to no tensor"),
        (#"{"a":1}"#, "expected '{', found '1'"),
        (#"{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,8]}}"#, "tensor 'a': it has the unknown type 'F4'; known"),
        (#"{"a":{"dtype":8,"shape":[8],"data_offsets":[0,8]}}"#, "expected '\"', found '8'"),
        (#"{"a":{"shape":[8],"data_offsets":[0,8]}}"#, "tensor 'a': its entry needs 'dtype'"),
        (#"{"a":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}}"#, "non-negative integer, found '-'"),
        (#"{"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}}"#, "expected ']', found '.'"),
        (#"{"a":{"dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8]}}"#, "'a': its 'shape' comes twice"),
        (#"{"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,8]}}"#, "a number is too large"),
        (#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, "more elements than"),
        (#"{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,8]}}"#, "more elements than"),
        (#"{"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#, "more elements than"),
        (#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0]}}"#, "'a': its 'data_offsets' are not two numbers"),
        (#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#, "ends at 0 before it begins at 8"),
        (
            #"{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}"#,
            "'a': its data ends at byte 9, but the file holds 8"
        ),
        (
            #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[9223372036854775800,9223372036854775807]}}"#,
            "ends at byte 9223"
        ),
        (#"{"a":{"dtype":"U8","shape":[7],"data_offsets":[0,8]}}"#, "U8 [7] is 7 bytes, but its data_offsets span 8"),
        (
            #"{"a":{"dtype":"F16","shape":[8],"data_offsets":[0,8]}}"#,
            "F16 [8] is 16 bytes, but its data_offsets span 8"
        ),
        (#"{"a":{"dtype":"U8","shape":[7],"data_offsets":[1,8]}}"#, "'a': bytes 0 to 1 before it belong to no tensor"),
        (
            #"{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
            "'b': its data overlaps the tensor before it, at byte 4"
        ),
        (
            #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
            "tensor 'a': it is listed twice"
        ),
        (
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + String(repeating: "1,", count: 64) + "1]}}", "a list is too long"
        ),
        (#"{"__metadata__":{"a":1}}"#, "expected '\"', found '1'"),
        (#"{"__metadata__":{"a":"b","a":"c"}}"#, "a key of '__metadata__' comes twice"),
        (#"{"__metadata__":{},"__metadata__":{}}"#, "'__metadata__' comes twice"),
        ("{\"a\":{\"x\":" + String(repeating: "[", count: 100_000), "nested deeper than 64 levels"),
    ]

    @Test(arguments: badHeaders) func refuses(_ header: String, _ message: String) throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("bad.safetensors", safetensors(header, data: [UInt8](repeating: 0, count: 8)))
        let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(path) }
        let description = error?.description ?? ""
        #expect(description.hasPrefix(path))
        #expect(description.contains(message), "\(description)")
    }

    @Test(
        arguments: [
            ([], "0 bytes are too few"),
            ([1, 0, 0, 0, 0, 0, 0], "7 bytes are too few"),
            ([0, 0, 0, 0, 0, 0, 0, 0], "does not start with '{'"),
            ([9, 0, 0, 0, 0, 0, 0, 0, 0x7b], "the header ends at byte 17, but the file at 9"),
            ([0, 0xe1, 0xf5, 5, 0, 0, 0, 0, 0x7b], "the header ends at byte 100000008"),  // the largest that is allowed
            ([1, 0xe1, 0xf5, 5, 0, 0, 0, 0, 0x7b], "length reads as 100000001"),
            ([255, 255, 255, 255, 255, 255, 255, 255, 0x7b], "length reads as 18446744073709551615"),
        ] as [([UInt8], String)])
    func refusesLengths(_ bytes: [UInt8], _ message: String) throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("bad.safetensors", bytes)
        let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(path) }
        #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    }

    @Test func refusesWhatIsNoFile() throws {
        let folder = try TemporaryFolder()
        for path in [folder.path, folder.path + "/none", "/dev/null"] {
            guard
                case .inaccessible(path, _)? = #expect(
                    throws: CheckpointError.self,
                    performing: {
                        try SafetensorsFile(path)
                    })
            else {
                Issue.record("\(path) is not .inaccessible")
                continue
            }
        }
    }

    /// What a name from a file does to a terminal.
    @Test func messagesEscapeControlCharacters() {
        let long = String(repeating: "n", count: 10_000)
        #expect(!CheckpointError.missingTensor(path: "p", name: "\u{1b}[2J\n").description.contains("\u{1b}"))
        #expect(CheckpointError.missingTensor(path: "p", name: long).description.count < 500)
    }
}
